"""Weights of GenLIP's authors under open_clip's names.

https://github.com/mlfoundations/open_clip, src/open_clip/convert.py
"""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from diptych.compat.model import CLIP, CustomTextCLIP
from diptych.compat.transformer import TextTransformer, Transformer
from diptych.errors import CheckpointError
from diptych.weights.kernels import matrix_of

__all__ = [
    "CLIP",
    "CustomTextCLIP",
    "TextTransformer",
    "Transformer",
    "convert_genlip_state_dict",
    "convert_state_dict",
    "convert_vision_state_dict",
    "is_genlip_state_dict",
]

_PATCH = "vision_embeddings.patch_embedding."
_PLACES = {  # theirs: open_clip's
    _PATCH: "patch_embed.proj.",
    "visual.layers.": "trunk.layers.",
    "ln_post.": "trunk.ln_post.",
    "embeddings.": "text_embed.",
    "in_proj.": "in_proj.",
    "proj.": "out_proj.",
    "lm_head.": "lm_head.",
}
_VISUAL, _PROJECTION = "visual.", "proj."


def is_genlip_state_dict(state_dict: Collection[str]) -> bool:
    """Whether the names are those of GenLIP's authors.

    >>> from diptych.compat.convert import is_genlip_state_dict
    >>> is_genlip_state_dict(["visual.conv1.weight"])
    False
    """
    blocks = any(name.startswith("visual.layers.0.self_attn.") for name in state_dict)
    return f"{_PATCH}weight" in state_dict and blocks


def convert_genlip_state_dict(
    model: nn.Module, state_dict: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What `model.load_state_dict` takes of the authors' weights: of a `NaFlexGenLip` or `GenLip`,
    or of the image tower of a CLIP model, whose projection, if it is of another width, is left out.

    A tower of patches has the numbers of a patch in the order of open_clip's loaders, row, column
    and colour; the authors' kernel is put into that order. Raises CheckpointError for tensors that
    don't fit, and where nothing does.
    """
    theirs = {_renamed(name): tensor for name, tensor in state_dict.items()}
    wanted: dict[str, Tensor] = model.state_dict()
    tower = "lm_head.weight" not in wanted
    found = dict[str, Tensor]()
    for name, own in wanted.items():
        bare = name.removeprefix(_VISUAL)
        is_projection = bare.startswith(_PROJECTION)
        source = f"out_{bare}" if is_projection else bare
        if source not in theirs:
            continue
        tensor = theirs[source]
        if tensor.ndim == 4 and own.ndim == 2:
            tensor = matrix_of(tensor)
        if tensor.shape == own.shape:
            found[name] = tensor
        elif not (tower and is_projection):
            raise CheckpointError(
                f"{source} of GenLIP's weights has the shape {tuple(tensor.shape)}, and {name} of "
                f"the model {tuple(own.shape)}: it is of another size"
            )
    if not found:
        raise CheckpointError("GenLIP's weights have no place in this model")
    return found


def convert_vision_state_dict(
    model: nn.Module, state_dict: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], str | None]:
    """The weights of an image tower under open_clip's names, and whose they were: `genlip`, or None
    where they are as they were."""
    if is_genlip_state_dict(state_dict):
        return convert_genlip_state_dict(model, state_dict), "genlip"
    return state_dict, None


def _renamed(name: str) -> str:
    for theirs, ours in _PLACES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def convert_state_dict(model: Any, state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """`convert_genlip_state_dict` where the weights are GenLIP's, else as they are: `create_model`
    and `load_checkpoint` read files of other layouts."""
    return convert_vision_state_dict(model, state_dict)[0]
