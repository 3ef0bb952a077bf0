"""Pictures and captions a second in use, weights in bfloat16, beside open_clip."""

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu.setting import Row, Setting, captions, lacks, lengths_of
from diptych import pretrained
from diptych.models import build

PEERS = {"vit-b-32": "ViT-B-32", "vit-l-14": "ViT-L-14"}


def embedding(setting: Setting) -> Iterator[Row]:
    for name in setting.pick(["vit-b-32"], [*PEERS]):
        config = pretrained.get(name)
        models: dict[str, Any] = {
            "Diptych": build(config, device=setting.device, dtype=torch.bfloat16).eval()
        }
        if row := lacks("open_clip", f"{name}, open_clip"):
            yield row
        else:
            import open_clip

            peer: Any = open_clip.create_model(PEERS[name], device=setting.device)
            models["open_clip"] = peer.eval().to(torch.bfloat16)
        for count in setting.pick((1, 2), (1, 32, 512)):
            yield from _rates(name, models, count, setting)
        if setting.is_cuda:
            yield _graph(name, models["Diptych"], setting)


def _rates(name: str, models: dict[str, Any], count: int, setting: Setting) -> Iterator[Row]:
    pixels = torch.randn(count, 3, 224, 224, device=setting.device, dtype=torch.bfloat16)
    ids = captions(count)
    lengths = lengths_of(ids).to(setting.device)
    short, ids = ids[:, : max(lengths.host)].to(setting.device), ids.to(setting.device)
    for title, model in models.items():
        is_ours = title == "Diptych"
        texts = {"ids": short, "lengths": lengths} if is_ours else {"text": ids}
        with torch.inference_mode():
            image = setting.milliseconds(lambda: model.encode_image(pixels), 20)  # noqa: B023
            text = setting.milliseconds(lambda: model.encode_text(**texts), 20)  # noqa: B023
        row = {"name": f"{name}, batch {count}, {title}", "images_per_s": count / image * 1e3}
        yield row | {"texts_per_s": count / text * 1e3}


def _graph(name: str, model: Any, setting: Setting) -> Row:
    """One picture, all launches in one CUDA graph."""
    pixels = torch.randn(1, 3, 224, 224, device=setting.device, dtype=torch.bfloat16)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode():
        for _ in range(3):
            model.encode_image(pixels)
        setting.wait()
        with torch.cuda.graph(graph):
            model.encode_image(pixels)
        rate = 1e3 / setting.milliseconds(graph.replay, 20)
    return {"name": f"{name}, batch 1, Diptych in a CUDA graph", "images_per_s": rate}


CHECKS = (embedding,)
