"""A training step of SLIP and DeCLIP beside the plain way: each view through its tower alone,
captions at full length.

ViT-B/32's towers, four blocks deep each, float32; the loss is the same.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import torch

from benchmarks.compare import Row, seconds
from benchmarks.gpu.setting import lengths_of
from benchmarks.towers import captions, throughput
from diptych import pretrained
from diptych.batch import Batch
from diptych.config import DeclipObjectiveConfig, SlipObjectiveConfig
from diptych.distributed import Peers
from diptych.families.clip import TextConfig, VitConfig
from diptych.inputs import build_tokenizer
from diptych.models import Clip, build
from diptych.objectives import DeclipObjective, Features, SlipObjective
from diptych.objectives.features import unit

COUNT, DEPTH = 16, 4


class PlainSlip(SlipObjective):
    """Three calls of the image tower."""

    def features(self, batch: Batch) -> Features:
        tower = self.model.image
        plain, *strong = (tower(view) for view in batch.images)
        first, second = (output.feature for output in strong)
        text = unit(self.model.encode_text(batch.texts[0]))
        return {"image": unit(plain.pooled), "text": text, "first": first, "second": second}


class PlainDeclip(DeclipObjective):
    """Two calls of the image tower."""

    def features(self, batch: Batch) -> Features:
        pictures = [self.model.image(view) for view in batch.images]
        captions = [self.model.text(*view) for view in zip(batch.texts, self.caption_tokens())]
        return self.texts_of(captions) | self.features_of(batch, pictures, captions)


def rows() -> Iterator[Row]:
    model = _model()
    slip, declip = SlipObjectiveConfig(), DeclipObjectiveConfig()
    yield from _steps("SLIP", SlipObjective(slip, model), PlainSlip(slip, model))
    yield from _steps("DeCLIP", DeclipObjective(declip, model), PlainDeclip(declip, model))


def _steps(
    name: str, ours: SlipObjective | DeclipObjective, plain: SlipObjective | DeclipObjective
) -> Iterator[Row]:
    plain.load_state_dict(ours.state_dict())
    short, long = _batch(ours, None), _batch(ours, 77)

    def step(objective: SlipObjective | DeclipObjective, batch: Batch) -> float:
        total = objective(batch, Peers()).total
        total.backward()
        objective.zero_grad(set_to_none=True)
        return total.item()

    check = f"loss {abs(step(ours, short) - step(plain, long)):.1e}"
    lengths = tuple(lengths_of(ids) for ids in short.texts)
    pieces = replace(short, lengths=lengths)
    one, alone, best, full = seconds(
        lambda: step(ours, short),
        lambda: step(plain, short),
        lambda: step(ours, pieces),
        lambda: step(plain, long),
        rounds=9,
    )
    yield throughput(
        f"{name}, step of {COUNT}: views in one call (beside a call each)", COUNT, one, alone, check
    )
    yield throughput(
        f"{name}, step of {COUNT}: and captions in pieces (beside 77 tokens)",
        COUNT,
        best,
        full,
        check,
    )


def _model() -> Clip:
    config = pretrained.get("clip-vit-b-32")
    image, text = cast(VitConfig, config.image), cast(TextConfig, config.text)
    model = build(
        replace(config, image=replace(image, layers=DEPTH), text=replace(text, layers=DEPTH))
    )
    return model.train()


def _batch(objective: SlipObjective | DeclipObjective, length: int | None) -> Batch:
    tokenizer, texts = build_tokenizer(objective.model.config.tokenizer, 77), captions(COUNT)
    ids = tokenizer(texts) if length is None else tokenizer(texts, pad_to=length)
    mlm_labels = torch.where(torch.arange(ids.shape[1]) == 2, ids, -100)
    images = torch.Generator().manual_seed(0)
    return Batch(
        images=tuple(
            torch.randn(COUNT, 3, 224, 224, generator=images) for _ in objective.views.image
        ),
        texts=tuple(ids for _ in objective.views.text),
        index=torch.arange(COUNT),
        mlm_labels=mlm_labels,
    )
