"""The choice among tasks, as open_clip's `create_task` makes it."""

from typing import Any

from torch import nn

from diptych.compat.face import OpenClipModel
from diptych.compat.loss import DistillClipLoss, SigLipLoss
from diptych.compat.loss_choice import create_loss
from diptych.compat.model_traits import Described, unwrapped, validate_distillation
from diptych.compat.task.base_task import unwrap_model
from diptych.compat.task.image_text import CLIPTask, DistillCLIPTask, ImageTextTask, SigLIPTask
from diptych.errors import ConfigError


def create_task(args: Any, model: nn.Module, dist_model: nn.Module | None = None) -> ImageTextTask:
    """The task that open_clip_train's arguments ask for, with `create_loss`'s loss: `distill` (of
    the teacher `dist_model`), `siglip`, else InfoNCE.

    Raises ConfigError for `distill` without a teacher, and for a model that writes captions.
    """
    described = unwrapped(model)
    if vars(args).get("distill") and isinstance(described, Described):
        validate_distillation(described.traits)
    loss = create_loss(args)
    if isinstance(loss, DistillClipLoss):
        if dist_model is None:
            raise ConfigError("distill=True needs a teacher: create_task(..., dist_model=MODEL)")
        return DistillCLIPTask(model, dist_model, loss=loss)
    bare = unwrap_model(model)
    if isinstance(bare, OpenClipModel) and bare.text_decoder is not None:
        raise ConfigError("CoCa has no task here: compute CoCaLoss of what the model gives")
    if isinstance(loss, SigLipLoss):
        return SigLIPTask(model, loss=loss)
    return CLIPTask(model, loss=loss)
