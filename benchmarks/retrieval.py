"""Retrieval of 5,000 pictures and 25,000 captions, width 768, recall at 1, 5 and 10 both ways, from
vectors on the CPU.

The peers: CLIP_benchmark's own `recall_at_k` in batches of 64, as its `evaluate` calls it, where it
is installed, else its algorithm in our words (the same tensors, one after the other); and the whole
matrix of scores with the ten nearest of each row and column. Each in a process of its own, with its
own peak of memory.
"""

from collections.abc import Iterator
from importlib.util import find_spec

from benchmarks.compare import Row, measured_apart

PRELUDE = """
import json, time, torch
import torch.nn.functional as F

def kilobytes(field):
    lines = open("/proc/self/status")
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

torch.manual_seed(0)
images = F.normalize(torch.randn(5000, 768), dim=1)
owners = torch.arange(25000) // 5
texts = F.normalize(images[owners] + 0.3 * torch.randn(25000, 768), dim=1)
{prepare}
open("/proc/self/clear_refs", "w").write("5")  # Linux: forget the peak that the imports left
before = kilobytes("VmRSS")
start = time.perf_counter()
{work}
taken = time.perf_counter() - start
grown = (kilobytes("VmHWM") - before) / 1024
print(json.dumps({result}))
"""
OURS = (
    "from diptych.evaluation import retrieval",
    "found = retrieval(images, texts, owners)\n"
    "recalls = [*found.image_to_text.values(), *found.text_to_image.values()]",
)
THEIRS = "from clip_benchmark.metrics.zeroshot_retrieval import batchify, recall_at_k"
IN_OUR_WORDS = """
def recall_at_k(scores, positive, k):
    nearest = F.one_hot(scores.topk(k, 1).indices, scores.shape[1])
    return (nearest * positive[:, None]).sum((1, 2)) / positive.sum(1)

def batchify(work, scores, positive, batch, device, k):
    parts = zip(scores.split(batch), positive.split(batch))
    return torch.cat([work(s.to(device), p.to(device), k) for s, p in parts])
"""
PEERS = {
    "CLIP_benchmark": (
        THEIRS if find_spec("clip_benchmark") else IN_OUR_WORDS,
        """
scores = texts @ images.T
positive = torch.zeros_like(scores, dtype=bool)
positive[torch.arange(len(scores)), owners] = True
def recall(s, p, k):
    return (batchify(recall_at_k, s, p, 64, "cpu", k=k) > 0).float().mean().item()
recalls = [recall(scores.T, positive.T, k) for k in (1, 5, 10)]
recalls += [recall(scores, positive, k) for k in (1, 5, 10)]
""",
    ),
    "the whole matrix": (
        "",
        """
scores = texts @ images.T
by_text = scores.topk(10, 1).indices == owners[:, None]
by_image = owners[scores.topk(10, 0).indices.T] == torch.arange(5000)[:, None]
recalls = []
for hits in (by_image, by_text):
    recalls += [hits[:, :k].any(1).float().mean().item() for k in (1, 5, 10)]
""",
    ),
}


def rows() -> Iterator[Row]:
    for name, peer in PEERS.items():
        codes = [
            PRELUDE.format(prepare=prepare, work=work, result="sum(recalls) / 6")
            for prepare, work in (OURS, peer)
        ]
        recalls = measured_apart(codes[0], codes[1], rounds=1)
        check = f"mean recall {recalls[0]:.4f}, theirs {recalls[1]:.4f}"
        for what, unit, result in (("time", "s", "taken"), ("peak memory", "MB", "grown")):
            codes = [
                PRELUDE.format(prepare=prepare, work=work, result=result)
                for prepare, work in (OURS, peer)
            ]
            mine, other = measured_apart(
                codes[0], codes[1], rounds=1 if name == "CLIP_benchmark" else 3
            )
            yield Row(
                name=f"retrieval beside {name}, {what}",
                unit=unit,
                ours=mine,
                theirs=other,
                check=check,
            )
