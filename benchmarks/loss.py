"""Memory and time of the contrastive loss, forward and backward, one process, width 512."""

from collections.abc import Iterator

from benchmarks.compare import Row, measured_apart

PRELUDE = """
import resource, time, torch
import torch.nn.functional as F
torch.manual_seed(0)
images, texts = (F.normalize(torch.randn({batch}, 512), dim=1).requires_grad_() for _ in range(2))
scale = torch.tensor(14.0, requires_grad=True)
{prepare}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
{work}
taken = time.perf_counter() - start
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print({result})
"""
OURS = ("from diptych.objectives.contrast import tiled_info_nce", "tiled_info_nce(images, texts, scale).backward()")
THEIRS = ("import open_clip; loss = open_clip.ClipLoss()", "loss(images, texts, scale).backward()")
PAIRS_THAT_FIT = 32768
"""Four matrices of 32,768 squared are 16 GiB: the peer's loss needs them."""


def rows() -> Iterator[Row]:
    for batch in (4096, 8192, 16384, PAIRS_THAT_FIT):
        rounds = 3 if batch <= 8192 else 1
        for name, unit, result in (("peak memory", "MB", "grown"), ("time", "s", "taken")):
            codes = [
                PRELUDE.format(batch=batch, prepare=prepare, work=work, result=result)
                for prepare, work in (OURS, THEIRS)
            ]
            mine, other = measured_apart(*codes, rounds=rounds)
            yield Row(name=f"contrastive loss, batch {batch}, {name}", unit=unit, ours=mine, theirs=other)
