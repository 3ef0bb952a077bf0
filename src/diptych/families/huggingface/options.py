"""What transformers' model types are, and which options a configuration may pass on to them: a
network's shape, nothing else."""

import inspect
from collections.abc import Mapping
from typing import Any

from diptych.errors import ConfigError


def architecture(model_type: str) -> frozenset[str]:
    """The fields that this model type's own configuration adds to every configuration's: widths,
    layers, vocabulary. Not `attn_implementation`, quantization and the like, which fetch and run
    what they name. Raises ConfigError for a type that isn't one of a text model, and where
    transformers isn't installed."""
    default = _default(model_type)
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
        MODEL_FOR_TEXT_ENCODING_MAPPING,
        PretrainedConfig,
    )

    texts = [
        MODEL_FOR_TEXT_ENCODING_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING,
        MODEL_FOR_CAUSAL_LM_MAPPING,
    ]
    if default.is_encoder_decoder:  # others there read sounds or pictures before they write
        texts.append(MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING)
    if not any(type(default) in mapping for mapping in texts):
        raise ConfigError(f"transformers' model type {model_type!r} isn't one of a text model")
    every = set(PretrainedConfig().to_dict())
    return frozenset(default.to_dict()).difference(every) | frozenset(default.attribute_map)


def model_class(config: Any) -> Any:
    """What transformers builds of a configuration of its own, where texts alone are read."""
    from transformers import MODEL_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

    kind = type(config)
    encoders = MODEL_FOR_TEXT_ENCODING_MAPPING
    return encoders[kind] if kind in encoders else MODEL_MAPPING[kind]


def takes_pooling_layer(model: Any) -> bool:
    """Whether models of this class have a pooling layer, if one asks for it."""
    return "add_pooling_layer" in inspect.signature(model.__init__).parameters


def has_pooling_layer(model_type: str) -> bool:
    """The same of a type. Raises ConfigError for a type that transformers hasn't."""
    return takes_pooling_layer(model_class(_default(model_type)))


def _default(model_type: str) -> Any:
    try:
        from transformers import AutoConfig
    except ImportError as error:
        raise ConfigError(
            "Hugging Face text towers need transformers: `pip install diptych[bridges]`"
        ) from error
    try:
        return AutoConfig.for_model(model_type)
    except ValueError as error:
        raise ConfigError(f"transformers has no model type {model_type!r}") from error


def check_options(model_type: str, options: Mapping[str, Any]) -> frozenset[str]:
    """What `architecture` gives. Raises ConfigError for options beside it."""
    known = architecture(model_type)
    if unknown := sorted(set(options) - known):
        raise ConfigError(
            f"the options {', '.join(unknown)} of {model_type} aren't passed on to transformers: "
            "a configuration says the shape of a network, nothing else"
        )
    return known
