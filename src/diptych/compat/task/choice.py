"""The choice among tasks, as open_clip's `create_task` makes it."""

from typing import Any

from torch import nn

from diptych.compat.faces.face import OpenClipModel
from diptych.compat.losses.choice import create_loss
from diptych.compat.model_traits import (
    Described,
    ModelFamily,
    unwrap_model,
    validate_distillation,
)
from diptych.compat.naflex_config import NaFlexDataConfig
from diptych.compat.task.coca_task import CoCaTask
from diptych.compat.task.genlip_task import GenLipTask
from diptych.compat.task.image_text import CLIPTask, DistillCLIPTask, ImageTextTask, SigLIPTask
from diptych.errors import ConfigError

_CAPTIONS = {
    "caption_loss_weight": "coca_caption_loss_weight",
    "clip_loss_weight": "coca_contrastive_loss_weight",
    "caption_z_loss_weight": "caption_z_loss_weight",
    "caption_loss_compute_dtype": "caption_loss_compute_dtype",
    "caption_loss_chunk_size": "caption_loss_chunk_size",
    "local_loss": "local_loss",
    "gather_with_grad": "gather_with_grad",
    "rank": "rank",
    "world_size": "world_size",
}
"""Options of `CoCaTask`, and what open_clip_train calls them."""
_WORDS = ("caption_z_loss_weight", "caption_loss_compute_dtype", "caption_loss_chunk_size")
"""Those of `GenLipTask`."""


def create_task(
    args: Any,
    model: nn.Module,
    dist_model: nn.Module | None = None,
    naflex_data_config: NaFlexDataConfig | None = None,
) -> ImageTextTask:
    """The task of a model that open_clip_train's arguments ask for: of a model that writes
    captions, `CoCaTask`, or `GenLipTask` where it does nothing else; else with `create_loss`'s
    loss: `distill` (of the teacher `dist_model`), `siglip`, InfoNCE. `naflex_data_config`: see the
    tasks.

    Raises ConfigError for `distill` without a teacher, and of a model that writes captions.
    """
    task = _task(args, model, dist_model)
    task.set_naflex_data_config(naflex_data_config)
    return task


def _task(args: Any, model: nn.Module, dist_model: nn.Module | None) -> ImageTextTask:
    bare, said = unwrap_model(model), vars(args)
    distilled = bool(said.get("distill"))
    if distilled and isinstance(bare, Described):
        validate_distillation(bare.traits)
    if isinstance(bare, Described) and bare.traits.family is ModelFamily.GENLIP:
        options = {name: said[name] for name in _WORDS if name in said}
        return GenLipTask(model, **options)
    if isinstance(bare, OpenClipModel) and bare.traits.generative:
        options = {option: said[name] for option, name in _CAPTIONS.items() if name in said}
        return CoCaTask(model, **options)
    loss = create_loss(args)
    if not distilled:
        return (SigLIPTask if said.get("siglip") else CLIPTask)(model, loss=loss)
    if dist_model is None:
        raise ConfigError("distill=True needs a teacher: create_task(..., dist_model=MODEL)")
    return DistillCLIPTask(model, dist_model, loss=loss)
