"""What open_clip's factories and scripts ask a model about its inputs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diptych.compat.faces.face import OpenClipModel
from diptych.compat.transform import preprocess_config, without_size


def get_model_preprocess_cfg(model: OpenClipModel) -> dict[str, Any]:
    """The fields of a `PreprocessCfg`: what pictures have to become.

    >>> from diptych import compat
    >>> model = compat.create_model("tiny", load_weights=False)
    >>> compat.get_model_preprocess_cfg(model)["size"]
    (48, 48)
    """
    return model.preprocess_cfg()


def set_model_preprocess_cfg(model: OpenClipModel, preprocess_cfg: Mapping[str, Any]) -> None:
    """Say so of a model; what isn't said stays as it is. Transforms that were made before stay the
    same. Raises ConfigError for what a model can't have: a size other than its own."""
    changed = preprocess_config(
        without_size(preprocess_cfg, model.config.image.image_size), model.config.preprocess
    )
    model.config = replace(model.config, preprocess=changed)
    visual: Any = model.visual
    visual.image_mean, visual.image_std = changed.mean, changed.std
    visual.preprocess_cfg = get_model_preprocess_cfg(model)


def get_model_tokenize_cfg(model: OpenClipModel) -> dict[str, int]:
    """How long its texts are, and how many ids it knows.

    >>> from diptych import compat
    >>> model = compat.create_model("ViT-B-32", load_weights=False)
    >>> compat.get_model_tokenize_cfg(model)
    {'context_length': 77, 'vocab_size': 49408}
    """
    said = {"context_length": model.context_length, "vocab_size": model.vocab_size}
    return {name: value for name, value in said.items() if value is not None}
