"""Distillation: a model learns from its teachers which caption is near to which picture."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diptych.batch import Batch, Taught, Views
from diptych.config import DistillObjectiveConfig
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.models import Clip
from diptych.models.blocks import in_blocks
from diptych.objectives.base import Features, Losses, Objective, scalars
from diptych.objectives.contrastive import build_contrastive
from diptych.objectives.distillation import Said, distillation
from diptych.objectives.features import at_least_float32, unit
from diptych.objectives.teacher import Teacher


class DistillObjective(Objective):
    """(1 - weight) * contrast(picture, caption) + weight * the mean over teachers of their
    divergence from the model (Vasu et al. 2023, arXiv:2311.17049, equations 2 and 3).

    What teachers say comes with the batch (`Batch.taught`), where it was stored; or the batch has
    what they are shown, and those in here are asked. Held-out pairs, of which neither is known, are
    contrasted and no more.

    >>> import torch
    >>> from diptych import pretrained
    >>> from diptych.batch import Batch, Taught
    >>> from diptych.config import DistillObjectiveConfig
    >>> from diptych.models import build
    >>> from diptych.objectives import DistillObjective
    >>> objective = DistillObjective(DistillObjectiveConfig(), build(pretrained.get("tiny")))
    >>> said = Taught(torch.eye(4), torch.eye(4), scale=100.0)  # of a teacher of width 4
    >>> batch = Batch(images=(torch.rand(4, 3, 48, 48),), texts=(torch.arange(12).view(4, 3),),
    ...               index=torch.arange(4), taught=(said,))
    >>> sorted(objective(batch).metrics)
    ['loss', 'pairs', 'scale', 'teachers']
    """

    views = Views(taught=True)

    def __init__(self, config: DistillObjectiveConfig, model: Clip, teachers: Sequence[Clip] = ()):
        super().__init__(model)
        self.config = config
        self.contrastive = build_contrastive(config.pairs, model)
        self.frozen = nn.ModuleList(Teacher(teacher) for teacher in teachers)

    def targets(self, batch: Batch) -> Features:
        """Of each teacher its vectors; those of pictures times the inverse of its temperature, so
        that their products with those of captions are its logits. Raises ConfigError in training
        where the batch knows of no teacher."""
        if self.training and not batch.taught:
            raise ConfigError(
                "the batch has nothing of a teacher: give the loader `reinforced`, or `readers`"
            )
        found, asked = Features(), iter(self.teachers)
        for number, taught in enumerate(batch.taught):
            images, texts, scale = taught
            if scale is None:
                images, texts, scale = _ask(next(asked), taught)
            if self.config.temperatures:
                scale = 1 / self.config.temperatures[number]
            found[f"teacher {number}: image"] = scale * at_least_float32(images)
            found[f"teacher {number}: text"] = at_least_float32(texts)
        return found

    def loss(self, features: Features, peers: Peers) -> Losses:
        config, images, texts = self.config, features["image"], features["text"]
        pairs = self.contrastive.loss(images, texts, peers)
        said = _said(features)
        if not said:
            return Losses(pairs, scalars(loss=pairs, pairs=pairs) | self.contrastive.metrics())
        scale, form, tile = self.contrastive.scale(), config.form, config.tile
        teachers = distillation(images, texts, scale, said, form=form, tile=tile, peers=peers)
        weight = 1 - config.weight if config.pairs_weight is None else config.pairs_weight
        total = weight * pairs + config.weight * teachers
        losses = scalars(loss=total, pairs=pairs, teachers=teachers)
        return Losses(total, losses | self.contrastive.metrics())

    def before_step(self) -> None:
        self.contrastive.before_step()

    def after_step(self, carry: dict[str, Tensor]) -> None:
        self.contrastive.after_step()


@torch.no_grad()
def _ask(teacher: Teacher, shown: Taught) -> tuple[Tensor, Tensor, Tensor]:
    """Its unit vectors, by blocks as `diptych reinforce` makes them: the same numbers; and the
    inverse of its temperature, which stays on the device."""
    image, text = teacher.image, teacher.text
    assert text is not None
    images = in_blocks(lambda levels: image(teacher.pixels(levels), "none").pooled, shown.images)
    texts = in_blocks(lambda ids: text(ids, "none").pooled, shown.texts)
    images, texts = unit(images), unit(texts)
    return images, texts, teacher.logit_scale.double().exp().to(images.dtype)


def _said(features: Features) -> list[Said]:
    """What `targets` gave, teacher by teacher."""
    given = [rows for name, rows in features.items() if name.startswith("teacher ")]
    return [Said(*pair) for pair in zip(given[::2], given[1::2], strict=True)]
