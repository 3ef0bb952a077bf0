"""The trainers of open_clip and Diptych in one process, step by step in turn: ViT-B/32, bfloat16,
captions as long as those of web pictures.

Both have their batches in memory, clip gradients and step AdamW; open_clip pads captions to 77.
"""

from argparse import Namespace
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import open_clip
import torch
from open_clip_train.train import train_one_epoch
from torch import Tensor

from benchmarks.compare import Row
from benchmarks.gpu import inner
from benchmarks.towers import throughput
from diptych import pretrained
from diptych.config import ClipObjectiveConfig

PAIRS, BATCHES = 32, 4


def rows() -> Iterator[Row]:
    config, objective = pretrained.get("vit-b-32"), ClipObjectiveConfig()
    whole = [inner.batch_of(config, objective, PAIRS, seed, whole=True) for seed in range(BATCHES)]
    cut = [inner.batch_of(config, objective, PAIRS, seed) for seed in range(BATCHES)]
    theirs = _their_step([(batch.images[0], batch.texts[0]) for batch in whole])
    ours, other = inner.alternating(inner.run_of(config, PAIRS), cut, theirs)
    title = f"trainer, ViT-B/32, bf16, {PAIRS} pairs"
    yield throughput(title, PAIRS, ours, other, "nothing: other weights")


def _their_step(batches: list[tuple[Tensor, Tensor]]) -> Callable[[int], None]:
    """One step of open_clip's own loop: an epoch of one batch."""
    model: Any = open_clip.create_model("ViT-B-32", output_dict=True)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.2}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.98), eps=1e-6)
    arguments = Namespace(
        device="cpu",
        precision="amp_bf16",
        accum_freq=1,
        batch_size=PAIRS,
        grad_clip_norm=1.0,
        skip_scheduler=True,
        log_every_n_steps=10**6,
        distill=False,
        horovod=False,
        wandb=False,
        rank=0,
        local_rank=0,
        world_size=1,
    )

    def step(number: int) -> None:
        loader = _Batch([batches[number % len(batches)]])
        data = {"train": SimpleNamespace(dataloader=loader, set_epoch=lambda epoch: None)}
        loss = open_clip.ClipLoss()
        train_one_epoch(model, data, loss, number, optimizer, None, None, None, arguments)

    return step


class _Batch(list[tuple[Tensor, Tensor]]):
    """A loader of one batch."""

    num_batches, num_samples = 1, PAIRS
