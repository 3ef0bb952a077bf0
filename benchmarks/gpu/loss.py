"""The contrastive loss alone, forward and backward, beside open_clip's; and late interaction, the
device's own programs beside tiles."""

from collections.abc import Callable, Iterator
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.setting import Row, Setting, error_of, lacks, within
from diptych.objectives import late_interaction
from diptych.objectives.info_nce import tiled_info_nce
from diptych.objectives.late_interaction import token_similarity
from diptych.objectives.sigmoid_loss import tiled_sigmoid_loss

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def contrast(setting: Setting) -> Iterator[Row]:
    """Milliseconds and peak memory."""
    bias = torch.tensor([-10.0], device=setting.device)
    forms: dict[str, Loss] = {
        f"InfoNCE, tiles of {tile}": lambda a, b, s, tile=tile: tiled_info_nce(a, b, s, tile=tile)
        for tile in setting.pick((32,), (512, 2048, 8192))
    }
    forms["sigmoid"] = lambda a, b, s: tiled_sigmoid_loss(a, b, s, bias, tile=2048)
    if row := lacks("open_clip", "open_clip's loss"):
        yield row
    else:
        import open_clip

        forms["open_clip"] = theirs = open_clip.ClipLoss()
        half = torch.autocast(setting.device.type, torch.bfloat16)
        forms["open_clip, bf16 autocast"] = half(theirs)
    full = ((8192, 512), (32768, 512), (65536, 768))
    for pairs, width in setting.pick(((64, 16),), full):
        for name, loss in forms.items():
            yield {"name": f"{pairs} x {width}: {name}"} | _measured(loss, pairs, width, setting)


def _measured(loss: Loss, pairs: int, width: int, setting: Setting) -> Row:
    torch.manual_seed(0)
    images = F.normalize(torch.randn(pairs, width, device=setting.device), dim=1)
    near = 0.3 * images + 0.05 * torch.randn(pairs, width, device=setting.device)
    texts, scale = F.normalize(near, dim=1), torch.tensor([14.0], device=setting.device)
    leaves = [x.requires_grad_() for x in (images, texts, scale)]

    def work() -> None:
        torch.autograd.grad(loss(images, texts, scale), leaves)

    try:
        return {"peak_mb": setting.peak_mb(work), "ms": setting.milliseconds(work, 3, 1)}
    except torch.OutOfMemoryError:
        return {"skipped": "out of memory"}
    finally:
        setting.free()


def late(setting: Setting) -> Iterator[Row]:
    """FILIP's shapes, every row of one side against every row of the other."""
    full = ((49, 32, 256), (49, 77, 256), (77, 16, 256), (16, 16, 256))
    rows = setting.pick(4, 1024)
    for q, k, width in setting.pick(((5, 6, 16),), full):
        torch.manual_seed(0)
        queries, keys = (
            F.normalize(torch.randn(rows, tokens, width, device=setting.device), dim=2)
            for tokens in (q, k)
        )
        leaves = [queries.requires_grad_(), keys.requires_grad_()]
        cotangent = torch.randn(rows, rows, device=setting.device)

        def work() -> tuple[Tensor, ...]:
            found = token_similarity(*leaves)  # noqa: B023
            return torch.autograd.grad(found, leaves, cotangent)  # noqa: B023

        with mock.patch.object(late_interaction, "LONGEST", 0):  # tiles, on a GPU, too
            want, tiled = work(), setting.milliseconds(work, 2, 0)
        got = work()
        error = max(map(error_of, got, want))
        measured = {"ms": setting.milliseconds(work, 3, 1), "tiled_ms": tiled}
        floor = 3 * 2 * rows**2 * q * k * width / 60e9
        row = within(f"late interaction of {rows}, {q} x {k} x {width}", error, 5e-3)
        yield row | measured | {"peak_mb": setting.peak_mb(work), "ms_at_60_tflops": floor}
        setting.free()


CHECKS = (contrast, late)
