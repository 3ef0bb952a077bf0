"""What the sections of a transformers' config.json have in common: sizes and the activation.

https://huggingface.co/docs/transformers/model_doc/clip
"""

from typing import Any, Protocol, TypedDict, runtime_checkable

from diptych.config import Activation
from diptych.config.serialize import read_as
from diptych.errors import CheckpointError

ACTIVATIONS: dict[Activation, str] = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "quick_gelu": "quick_gelu",
}
"""What transformers calls them."""


class _Section(TypedDict, total=False):
    """What all towers' sections may say, and of which type it is. (Sizes of pictures are a number
    in some and two in others.)"""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    layer_norm_eps: float
    hidden_act: str
    vocab_size: int
    max_position_embeddings: int


def checked(content: Any, where: str) -> dict[str, Any]:
    """The section as it is. Raises ConfigError for a value of another type than one has there.

    >>> from diptych.families.clip.layouts.transformers_sections import checked
    >>> checked({"hidden_size": "wide"}, "text_config")
    Traceback (most recent call last):
    ...
    diptych.errors.ConfigError: text_config.hidden_size is 'wide'; it must be a whole number
    """
    return read_as(_Section, content, where)


def section(content: dict[str, Any], name: str) -> dict[str, Any]:
    """A section by its name, `checked`; empty where there is none. Raises ConfigError for what is
    no section, too.

    >>> from diptych.families.clip.layouts.transformers_sections import section
    >>> section({"text_config": None}, "text_config")
    {}
    """
    return checked(content.get(name) or {}, name)


def read_id(cfg: dict[str, Any], name: str, default: int, vocab_size: int) -> int:
    """The id of a special token, `default` where a section says none. Raises CheckpointError for
    what is none of a vocabulary of so many.

    >>> from diptych.families.clip.layouts.transformers_sections import read_id
    >>> read_id({"pad_token_id": 10**12}, "pad_token_id", 0, vocab_size=49408)
    Traceback (most recent call last):
    ...
    diptych.errors.CheckpointError: pad_token_id 1000000000000 must be one of the vocabulary's \
ids, from 0 to 49407
    """
    found = cfg.get(name)
    if found is None:
        return default
    if type(found) is not int or not 0 <= found < vocab_size:
        raise CheckpointError(
            f"{name} {found!r} must be one of the vocabulary's ids, from 0 to {vocab_size - 1}"
        )
    return found


def activation(cfg: dict[str, Any], default: str = "quick_gelu") -> Activation:
    """That of a section. Raises CheckpointError for one that no tower of ours has."""
    name = cfg.get("hidden_act", default)
    found: dict[str, Activation] = {theirs: ours for ours, theirs in ACTIVATIONS.items()}
    if name not in found:
        raise CheckpointError(f"our towers have {', '.join(found)}, not {name!r}")
    return found[name]


@runtime_checkable
class Transformer(Protocol):
    """A configuration of any transformer."""

    @property
    def width(self) -> int: ...
    @property
    def mlp_width(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def norm_eps(self) -> float: ...


def sizes(tower: Transformer, embed_dim: int) -> dict[str, Any]:
    """What the configuration of every tower has."""
    return {
        "hidden_size": tower.width,
        "intermediate_size": tower.mlp_width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "layer_norm_eps": tower.norm_eps,
        "projection_dim": embed_dim,
    }


def read_sizes(cfg: dict[str, Any], default: Transformer) -> dict[str, Any]:
    """What `sizes` writes, as fields of ours; `default` has what a section leaves out."""
    return {
        "width": cfg.get("hidden_size", default.width),
        "mlp_width": cfg.get("intermediate_size", default.mlp_width),
        "layers": cfg.get("num_hidden_layers", default.layers),
        "heads": cfg.get("num_attention_heads", default.heads),
        "norm_eps": cfg.get("layer_norm_eps", default.norm_eps),
    }
