"""From what open_clip's factories were asked for to a model of ours."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from diptych.checkpoints import load_model, start_tower
from diptych.checkpoints.content import described, read, say_assumed
from diptych.compat.faces.names import TEXT, VISUAL, table_of
from diptych.compat.loading.overrides import overridden, started, with_bias, with_context_length
from diptych.compat.loading.places import Source
from diptych.compat.transform import preprocess_config, without_size
from diptych.config import ClipConfig
from diptych.errors import AssumptionWarning, CheckpointError, ConfigError
from diptych.families.clip.layouts.open_clip_config import tower_of
from diptych.models import Clip, build


class Changes(NamedTuple):
    """What is asked of a model beside its own configuration."""

    preprocess: Mapping[str, Any]
    """Of a `preprocess_cfg`."""
    fields: Mapping[str, Any]
    """Of a `model_cfg`: see `overrides.FIELDS`."""
    image_size: int | None
    context_length: int | None

    def preprocessed(self, config: ClipConfig) -> ClipConfig:
        """With the preprocessing that was asked for."""
        side = config.image.image_size if self.image_size is None else self.image_size
        said = without_size(self.preprocess, side)
        return replace(config, preprocess=preprocess_config(said, config.preprocess))


def load(source: Source, changes: Changes, dtype: torch.dtype) -> Clip:
    """The model of weights. A table of positions for other pictures or texts is interpolated."""
    assert source.path is not None
    config = source.config
    if config is not None or any(value is not None for value in changes.fields.values()):
        config = overridden(config_of(source), changes.fields)
    size = changes.image_size
    clip = load_model(source.path, config=config, dtype=dtype, image_size=size).model
    if config is not None:
        _check_towers(source.path, clip.config, config)
    clip.config = changes.preprocessed(clip.config)
    if changes.context_length is not None:
        with_context_length(clip, changes.context_length)
    if changes.fields.get("init_logit_bias") is not None:
        with_bias(clip)
    return clip


def _check_towers(path: Path, found: ClipConfig, asked: ClipConfig) -> None:
    """Raises CheckpointError for one tower in the place of two: of a file that is no such model,
    a tower may still be one."""
    for side, there, wanted in (
        ("image", found.image, asked.image),
        ("text", found.text, asked.text),
    ):
        if wanted.present and not there.present:
            raise CheckpointError(
                f"no {side} tower of the named model is in {path}; is it a checkpoint of another "
                "model?"
            )


def initialise(source: Source, changes: Changes, device: torch.device) -> Clip:
    """The model with random weights; on `meta` without numbers."""
    config = started(overridden(config_of(source), changes.fields), changes.fields)
    config = changes.preprocessed(config)
    if changes.image_size is not None:
        config = replace(config, image=replace(config.image, image_size=changes.image_size))
    if changes.context_length is not None:
        config = replace(config, text=replace(config.text, context_length=changes.context_length))
    # Numbers are drawn on the CPU: the same on every device.
    return build(config, device if device.type == "meta" else "cpu")


def config_of(source: Source) -> ClipConfig:
    """What stands beside weights or is known of them, else what they say themselves."""
    if source.config is not None:
        return source.config
    assert source.path is not None
    content = read(source.path)
    say_assumed(source.path, content)
    return described(content).config


class Start(NamedTuple):
    """From which files towers start, whatever the model's weights are."""

    image: Any
    text: Any
    """Paths; empty: from none. True: from what its library fetches."""
    skipped: tuple[str, ...]
    """open_clip's names of tensors that stay as they were."""

    @property
    def whole(self) -> bool:
        """Whether nothing of the towers is left to chance."""
        return bool(self.image and self.text)


def start_towers(clip: Clip, start: Start, has_weights: bool) -> None:
    """Fill towers in place. Raises ConfigError for True where open_clip would fetch a tower, and
    for names to be left out where no tower starts from a file."""
    if start.skipped and not (start.image or start.text):
        raise ConfigError(
            "skip_list is of pretrained_image and pretrained_text, and neither is given"
        )
    kept = _named(clip, start.skipped)
    _start(clip, "image", start.image, has_weights)
    _start(clip, "text", start.text, has_weights)
    clip.load_state_dict(kept, strict=False)  # what was left out alone is put back


def _named(clip: Clip, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Copies of the tensors that open_clip calls so, with or without `visual.` or `text.` before.
    Warns of other names: a file's heads, which stay behind anyway, or misspelt ones."""
    table, found, unknown = table_of(clip.config), dict[str, Tensor](), set(names)
    for ours, tensor in clip.state_dict().items() if names else ():
        foreign = table.foreign_names(ours)
        bare = [name.removeprefix(VISUAL).removeprefix(TEXT) for name in foreign]
        if not {*foreign, *bare}.isdisjoint(names):
            found[ours] = tensor.clone()
            unknown -= {*foreign, *bare}
    if unknown:
        warnings.warn(
            f"skip_list: the model has nothing called {', '.join(sorted(unknown))}",
            AssumptionWarning,
            stacklevel=5,
        )
    return found


def _start(clip: Clip, side: Literal["image", "text"], path: Any, has_weights: bool) -> None:
    tower: Any = getattr(clip, side)
    if path is True:
        if not has_weights and _of_library(tower.config):
            raise ConfigError(
                f"pretrained_{side} must be the path of weights; towers aren't fetched by "
                "themselves"
            )
    elif path:
        start_tower(tower, side, str(path))


def _of_library(config: Any) -> bool:
    """Whether open_clip builds the tower of timm's or transformers' parts."""
    return not {"timm_model_name", "hf_model_name"}.isdisjoint(tower_of(config).write(config))
