"""Memory and time of the contrastive loss, forward and backward, one process, width 512."""

from collections.abc import Iterator

from benchmarks.compare import Row, measured_apart

PRELUDE = """
import time, torch
import torch.nn.functional as F

def kilobytes(field):
    lines = open("/proc/self/status")
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

torch.manual_seed(0)
images, texts = (F.normalize(torch.randn({batch}, 512), dim=1).requires_grad_() for _ in range(2))
scale = torch.tensor(14.0, requires_grad=True)
{prepare}
open("/proc/self/clear_refs", "w").write("5")  # Linux: forget the peak that the imports left
before = kilobytes("VmRSS")
start = time.perf_counter()
{work}
taken = time.perf_counter() - start
grown = (kilobytes("VmHWM") - before) / 1024
print({result})
"""
OURS = (
    "from diptych.objectives.info_nce import tiled_info_nce",
    "tiled_info_nce(images, texts, scale).backward()",
)
THEIRS = ("import open_clip; loss = open_clip.ClipLoss()", "loss(images, texts, scale).backward()")
BATCHES = (4096, 8192, 16384, 32768)
"""The peer's loss holds four matrices of batch squared: 16 GiB at 32,768."""


def rows() -> Iterator[Row]:
    for batch in BATCHES:
        rounds = 3 if batch <= 8192 else 1
        for name, unit, result in (("peak memory", "MB", "grown"), ("time", "s", "taken")):
            if (batch, name) == (BATCHES[-1], "time"):
                continue  # minutes for a number that the row before foretells
            codes = [
                PRELUDE.format(batch=batch, prepare=prepare, work=work, result=result)
                for prepare, work in (OURS, THEIRS)
            ]
            mine, other = measured_apart(*codes, rounds=rounds)
            yield Row(
                name=f"contrastive loss, batch {batch}, {name}", unit=unit, ours=mine, theirs=other
            )
