"""The text tower at the lengths of web captions, forward and backward, bfloat16: padded to the
context, cut to the longest, and sorted by length in pieces."""

from collections.abc import Iterator

import torch

from benchmarks.gpu.setting import Row, Setting, captions, longest
from diptych import pretrained
from diptych.models import build_tower

PIECES = 8


def lengths(setting: Setting) -> Iterator[Row]:
    """Texts a second."""
    for name in setting.pick(("tiny",), ("vit-b-32", "eva02-clip-e-14-plus")):
        config, count = pretrained.get(name), setting.pick(16, 1024)
        ids = captions(count, config.text.context_length)
        order = (ids != 0).sum(dim=1).argsort()
        tower = build_tower(config.text, config.embed_dim, setting.device)
        tower.init()
        pieces = [ids[rows] for rows in order.chunk(PIECES)]
        for title, parts in (
            (f"{ids.shape[1]} tokens", [ids]),
            (f"cut to {longest(ids)}", [ids[:, : longest(ids)]]),
            (f"{PIECES} pieces by length", [part[:, : longest(part)] for part in pieces]),
        ):
            placed = [part.to(setting.device) for part in parts]

            def work() -> None:
                for part in placed:  # noqa: B023
                    with torch.autocast(setting.device.type, torch.bfloat16):
                        pooled = tower(part, tokens="none").pooled  # noqa: B023
                    pooled.float().square().sum().backward()
                tower.zero_grad(set_to_none=True)  # noqa: B023

            peak, milliseconds = setting.peak_mb(work), setting.milliseconds(work, 5)
            row = {"name": f"{name}, {title}", "texts_per_s": count / milliseconds * 1e3}
            yield row | {"ms": milliseconds, "peak_mb": peak}


CHECKS = (lengths,)
