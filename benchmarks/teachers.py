"""A step of distillation, its loader's work included, with a teacher's vectors stored beforehand
(`diptych reinforce`), beside the teacher asked in each step, and beside CLIP's own step.

ViT-B/32 learns from a ViT-B/32, float32; pictures are read and decoded in the process that trains,
so that what reading the store costs is in the step.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.compare import Row, seconds
from benchmarks.inputs import pictures
from benchmarks.towers import captions, throughput
from diptych import Encoder, pretrained
from diptych.batch import Sample
from diptych.config import (
    AugmentConfig,
    ClipObjectiveConfig,
    DataConfig,
    DistillObjectiveConfig,
    ObjectiveConfig,
)
from diptych.data import Loader, open_source, write_shards
from diptych.data.reinforced import Reinforced
from diptych.distributed import Peers
from diptych.encoder import reinforce
from diptych.inputs import Preprocess, tokenizer_of
from diptych.models import build
from diptych.objectives import build_objective
from diptych.training.teachers import Teachers

PAIRS, SAMPLES, ROUNDS = 16, 64, 7
CONFIG = pretrained.get("vit-b-32")


def rows() -> Iterator[Row]:
    torch.manual_seed(0)
    teacher = build(CONFIG).eval()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = zip(pictures(SAMPLES), captions(SAMPLES), strict=True)
        samples = (Sample(key="", image=image, captions=(text,)) for image, text in pairs)
        write_shards(folder / "shards", samples)
        data = DataConfig(
            path=str(folder / "shards"), workers=0, cache=name, augment=AugmentConfig(crops=1)
        )
        reinforce(data, [Encoder(teacher, name="teacher")], folder / "store")
        distill = DistillObjectiveConfig(teachers=("teacher",))
        stored = Teachers(reinforced=Reinforced(folder / "store"))
        works = [
            _step(replace(distill, reinforced=str(folder / "store")), stored, data),
            _step(distill, Teachers(models=[teacher], folders=[folder]), data),
            _step(ClipObjectiveConfig(), Teachers(), data),
        ]
        losses = [work() for work in works]
        ours, asked, clip = seconds(*works, rounds=ROUNDS)
    check = f"first losses {abs(losses[0] - losses[1]):.1e}"
    title = f"distillation from a store, step of {PAIRS}"
    yield throughput(f"{title} (beside the teacher asked)", PAIRS, ours, asked, check)
    yield throughput(f"{title} (beside CLIP's step)", PAIRS, ours, clip, "nothing: another loss")


def _step(config: ObjectiveConfig, teachers: Teachers, data: DataConfig) -> Callable[[], float]:
    """The next batch read, and a step forward and back; returns the loss."""
    torch.manual_seed(1)
    model = build(CONFIG).train()
    objective = build_objective(config, model, teachers.models)
    loader = Loader(
        open_source(data),
        data,
        preprocess=Preprocess(CONFIG.preprocess, CONFIG.image.image_size),
        tokenizer=tokenizer_of(CONFIG),
        batch_size=PAIRS,
        steps=1000,
        views=objective.views,
        reinforced=teachers.reinforced,
        readers=teachers.readers if objective.views.taught else (),
    )
    batches = iter(loader)

    def step() -> float:
        total = objective(next(batches), Peers()).total
        total.backward()
        objective.zero_grad(set_to_none=True)
        return total.item()

    return step
