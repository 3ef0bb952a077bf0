"""FILIP's token-wise late interaction, forward and backward, both directions: tiles beside the
plain equation. Memory and time.

49 patches and 32 words of width 256 to a pair. The plain equation holds batch² x 49 x 32 products,
several times over: 5 GB at a batch of 512.
"""

from collections.abc import Iterator

from benchmarks.compare import Row, measured_apart

PRELUDE = """
import time, torch
import torch.nn.functional as F

def kilobytes(field):
    lines = open("/proc/self/status")
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

from diptych.objectives.late_interaction import {function} as similarity

def loss(images, texts):
    labels = torch.arange(len(images))
    for one, other in ((images, texts), (texts, images)):
        F.cross_entropy(20 * similarity(one, other), labels).backward()

# What first calls load of libraries is no part of it.
loss(*(torch.randn(4, tokens, 256, requires_grad=True) for tokens in (49, 32)))
torch.manual_seed(0)
images = F.normalize(torch.randn({batch}, 49, 256), dim=2).requires_grad_()
texts = F.normalize(torch.randn({batch}, 32, 256), dim=2).requires_grad_()
open("/proc/self/clear_refs", "w").write("5")  # Linux: forget the peak that this left
before = kilobytes("VmRSS")
start = time.perf_counter()
loss(images, texts)
taken = time.perf_counter() - start
grown = (kilobytes("VmHWM") - before) / 1024
print({result})
"""
BATCHES = (256, 512)


def rows() -> Iterator[Row]:
    for batch in BATCHES:
        for name, unit, result, rounds in (
            ("peak memory", "MB", "grown", 1),
            ("time", "s", "taken", 5),
        ):
            codes = [
                PRELUDE.format(batch=batch, function=function, result=result)
                for function in ("token_similarity", "late_interaction_reference")
            ]
            mine, other = measured_apart(*codes, rounds=rounds)
            title = f"late interaction (beside the plain equation), batch {batch}, {name}"
            yield Row(name=title, unit=unit, ours=mine, theirs=other)
