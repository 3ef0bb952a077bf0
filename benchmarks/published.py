"""The models that people take today: SigLIP 2 B/16, PE-Core B/16 and MobileCLIP2-S0, beside
open_clip and, where it has the class, transformers. Loading, the first vector, then pictures and
texts through the towers. One folder of random weights for all, in the layout of the published one.

Fifteen minutes on two idle cores; in bfloat16, too, where the processor has it.
"""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.compare import Row, numbers_apart, seconds
from benchmarks.inputs import pictures
from benchmarks.towers import captions, throughput
from diptych.checkpoints import load_model
from diptych.config import ClipConfig
from diptych.families.clip.layouts import open_clip as folder_of_open_clip
from diptych.families.siglip.layouts import transformers as folder_of_transformers
from diptych.inputs import build_tokenizer
from diptych.models import Clip, build
from diptych.pretrained import get
from diptych.similarity import has_half_products

MODELS = {
    "SigLIP 2 B/16": "ViT-B-16-SigLIP2",
    "PE-Core B/16": "PE-Core-B-16",
    "MobileCLIP2-S0": "MobileCLIP2-S0",
}
ROUNDS = {1: 25, 16: 7}
"""By how many pictures or texts there are at a time: 7 rounds of one leave a noise of a tenth."""
OPEN_CLIP, TRANSFORMERS = "open_clip", "transformers"

FIRST = """
import json, sys, time
begun = time.perf_counter()
import torch
from PIL import Image
start = time.perf_counter()
{imports}
{load}
loaded = time.perf_counter()
picture = Image.open({picture!r})
with torch.inference_mode():
    {embed}
print(json.dumps([loaded - start, time.perf_counter() - begun]))
"""
"""Seconds that loading takes with the import of the library, which some do when they load, and from
nothing to the first picture's vector."""
OURS = {
    "imports": "from diptych.checkpoints import load_model; from diptych.inputs import Preprocess",
    "load": "model, meta = load_model({folder!r}, deploy=True)",
    "embed": "model.encode_image("
    "Preprocess(meta.config.preprocess, meta.config.image.image_size)(picture)[None])",
}
THEIRS = {
    OPEN_CLIP: {
        "imports": "import open_clip",
        "load": "model, transform = "
        "open_clip.create_model_from_pretrained('local-dir:' + {folder!r})",
        "embed": "model.encode_image(transform(picture)[None])",
    },
    TRANSFORMERS: {
        "imports": "from transformers import SiglipImageProcessor, SiglipModel",
        "load": "model = SiglipModel.from_pretrained({folder!r}).eval(); "
        "processor = SiglipImageProcessor.from_pretrained({folder!r})",
        "embed": "model.get_image_features(**processor(picture, return_tensors='pt'))",
    },
}


class Peer(NamedTuple):
    """Another library's model of the same weights."""

    name: str
    folder: Path
    encode_image: Callable[[Tensor], Tensor]
    encode_text: Callable[[Tensor], Tensor]
    module: torch.nn.Module


def rows() -> Iterator[Row]:
    for title, name in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            config = get(name)
            peers = _written(Path(folder), config)
            picture = Path(folder) / "picture.jpg"
            picture.write_bytes(pictures(1)[0])
            yield from _first_vectors(title, picture, peers)
            yield from _towers(title, load_model(peers[0].folder, deploy=True).model, peers)


def _written(folder: Path, config: ClipConfig) -> list[Peer]:
    """The same weights in the layouts of others, and in their models."""
    torch.manual_seed(0)
    made = build(config)
    state = made.state_dict()
    layouts = {OPEN_CLIP: folder_of_open_clip.export}
    if config.logit_bias is not None:
        layouts[TRANSFORMERS] = folder_of_transformers.export
    for name, export in layouts.items():
        export(folder / name, config, state)
    return [_peer(name, folder / name) for name in layouts]


def _peer(name: str, folder: Path) -> Peer:
    if name == OPEN_CLIP:
        model: Any = open_clip.create_model(f"local-dir:{folder}").eval()
        return Peer(name, folder, model.encode_image, model.encode_text, model)
    from transformers import SiglipModel

    other: Any = SiglipModel.from_pretrained(folder).eval()
    return Peer(
        name,
        folder,
        lambda pixels: other.get_image_features(pixel_values=pixels).pooler_output,
        lambda ids: other.get_text_features(input_ids=ids).pooler_output,
        other,
    )


def _first_vectors(title: str, picture: Path, peers: list[Peer]) -> Iterator[Row]:
    for peer in peers:
        codes: list[str] = []
        for code in (OURS, THEIRS[peer.name]):
            load = code["load"].format(folder=str(peer.folder))
            codes.append(FIRST.format(**code | {"load": load, "picture": str(picture)}))
        mine, other = numbers_apart(*codes)
        for what, one, two in zip(("import and loading", "first vector"), mine, other, strict=True):
            name = f"{title}, beside {peer.name}, {what}"
            yield Row(name=name, unit="s", ours=one, theirs=two)


def _towers(title: str, ours: Clip, peers: list[Peer]) -> Iterator[Row]:
    size = ours.config.image.image_size
    for dtype in (torch.float32, torch.bfloat16) if has_half_products() else (torch.float32,):
        ours.to(dtype)
        for peer in peers:
            peer.module.to(dtype)
        for count in ROUNDS:
            pixels = torch.randn(count, 3, size, size).to(dtype)
            short, long = _ids(ours.config, count)
            works = {
                "image": [partial(ours.encode_image, pixels)],
                "text": [partial(ours.encode_text, short)],
            }
            for peer in peers:
                works["image"].append(partial(peer.encode_image, pixels))
                works["text"].append(partial(peer.encode_text, long))
            for side, calls in works.items():
                kind = str(dtype).removeprefix("torch.")
                yield from _rates(
                    f"{title}, {side} tower, {kind}, batch {count}", count, calls, peers
                )


def _ids(config: ClipConfig, count: int) -> tuple[Tensor, Tensor]:
    """Texts as ours needs them, and padded to the context. Those of SigLIP 2 are drawn: its
    tokenizer's files aren't here."""
    context = config.text.context_length
    if config.tokenizer.kind == "huggingface":
        ids = torch.randint(1000, (count, context))
        return ids, ids
    tokenizer = build_tokenizer(config.tokenizer, context)
    long = tokenizer(captions(count), pad_to=context)
    seen = config.text.padding == "seen"
    return long if seen else tokenizer(captions(count)), long


def _rates(name: str, count: int, calls: list[Any], peers: list[Peer]) -> Iterator[Row]:
    with torch.inference_mode():
        vectors = [normalize(call().float(), dim=-1) for call in calls]
        mine, *others = seconds(*calls, rounds=ROUNDS[count])
    for peer, theirs, vector in zip(peers, others, vectors[1:], strict=True):
        gap = (vectors[0] - vector).abs().max()
        yield throughput(f"{name}, beside {peer.name}", count, mine, theirs, f"{gap:.1e}")
