"""Tables of positions in state dicts for another size, as open_clip interpolates them.

https://github.com/mlfoundations/open_clip, src/open_clip/model.py
"""

import math
from collections.abc import MutableMapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.errors import CheckpointError

_IMAGE, _TEXT = "visual.positional_embedding", "positional_embedding"


def resize_pos_embed(
    state_dict: MutableMapping[str, Any],
    model: Any,
    interpolation: str = "bicubic",
    antialias: bool = True,
) -> None:
    """The image tower's table in `state_dict`, in place, for the model's pictures; a state dict
    without one stays as it is. Raises CheckpointError for a table that is no square."""
    table, sides = state_dict.get(_IMAGE), _grid(model)
    if table is None or sides is None or len(table) == math.prod(sides) + 1:
        return
    side = math.isqrt(len(table) - 1)
    if side * side != len(table) - 1:
        raise CheckpointError(f"{len(table)} positions are not a class token and a square")
    # The class token stands at no place of the picture.
    first, patches = table[:1], table[1:]
    made = stretched(patches, (side, side), sides, interpolation, antialias)
    state_dict[_IMAGE] = torch.cat([first, made])


def resize_text_pos_embed(
    state_dict: MutableMapping[str, Any],
    model: Any,
    interpolation: str = "linear",
    antialias: bool = False,
) -> None:
    """The text tower's table in `state_dict`, in place, for texts as long as the model takes them;
    a state dict without one stays as it is. Raises CheckpointError for a table of another width."""
    name = _TEXT if _TEXT in state_dict else f"text.{_TEXT}"
    table, own = state_dict.get(name), _table(model)
    if table is None or own is None or len(table) == len(own):
        return
    if table.shape[1] != own.shape[1]:
        raise CheckpointError(
            f"{name} is {table.shape[1]} wide, and the model's is {own.shape[1]}: only the number "
            "of positions can be changed"
        )
    before, after = (len(table),), (len(own),)
    state_dict[name] = stretched(table, before, after, interpolation, antialias)


def stretched(
    table: Float[Tensor, "old width"],
    before: tuple[int, ...],
    after: tuple[int, ...],
    interpolation: str = "linear",
    antialias: bool = False,
) -> Float[Tensor, "new width"]:
    """A table of a row or a grid of `before` positions for one of `after`, by `F.interpolate`, in
    float32.

    >>> import torch
    >>> from diptych.compat.loading.positions import stretched
    >>> stretched(torch.tensor([[0.0], [4.0]]), (2,), (4,))[:, 0]
    tensor([0., 1., 3., 4.])
    """
    # In reading order the table is a line or a small picture with `width` channels.
    plane = table.float().T.reshape(1, -1, *before)
    made = F.interpolate(plane, size=after, mode=interpolation, antialias=antialias)
    return made.flatten(2)[0].T.to(table.dtype)


def _grid(model: Any) -> tuple[int, int] | None:
    """Patches along the sides; None: a tower without."""
    return model.visual.__dict__.get("grid_size")


def _table(model: Any) -> Tensor | None:
    names = dict(model.named_parameters())
    return names.get(_TEXT, names.get(f"text.{_TEXT}"))


def with_context(tower: nn.Module, longer: nn.Module) -> None:
    """Fill `longer` with the weights of `tower`, its twin for texts of another length: what differs
    in length alone is interpolated, in place. Raises CheckpointError for what differs otherwise."""
    state, wanted = dict(tower.state_dict()), longer.state_dict()
    for name, tensor in state.items():
        old, new = tensor.shape, wanted[name].shape
        if old == new:
            continue
        if len(old) != 2 or old[1:] != new[1:]:
            raise CheckpointError(f"{name} can't be made {list(new)} of {list(old)}")
        state[name] = stretched(tensor, (old[0],), (new[0],))
    longer.load_state_dict(state)
