"""The text tower at the lengths of web captions, forward and backward, bfloat16: padded to the
context, cut to the longest, and beside others of like length, as the loader asks for it."""

from collections.abc import Iterator

import torch

from benchmarks.gpu.setting import Row, Setting, captions, lengths_of
from diptych import pretrained
from diptych.models import build_tower


def forms(setting: Setting) -> Iterator[Row]:
    """Texts a second."""
    for name in setting.pick(("tiny",), ("vit-b-32", "eva02-clip-e-14-plus")):
        config, count = pretrained.get(name), setting.pick(16, 1024)
        ids = captions(count, config.text.context_length)
        lengths = lengths_of(ids).to(setting.device)
        longest = max(lengths.host)
        ids = ids.to(setting.device)
        tower = build_tower(config.text, config.embed_dim, setting.device)
        tower.init()
        for title, arguments in (
            (f"{ids.shape[1]} tokens", (ids, "none")),
            (f"cut to {longest}", (ids[:, :longest], "none")),
            ("in pieces by length", (ids[:, :longest], "none", lengths)),
        ):

            def work() -> None:
                with torch.autocast(setting.device.type, torch.bfloat16):
                    pooled = tower(*arguments).pooled  # noqa: B023
                pooled.float().square().sum().backward()
                tower.zero_grad(set_to_none=True)  # noqa: B023

            peak, milliseconds = setting.peak_mb(work), setting.milliseconds(work, 5)
            row = {"name": f"{name}, {title}", "texts_per_s": count / milliseconds * 1e3}
            yield row | {"ms": milliseconds, "peak_mb": peak}


CHECKS = (forms,)
