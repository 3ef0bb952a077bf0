"""Weights under our names, made one at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from torch import Tensor


class Recipe(NamedTuple):
    """How one tensor of ours is made from parts that a file maps."""

    make: Callable[[list[Tensor]], Tensor]
    parts: Sequence[Tensor]


class State(Mapping[str, Tensor]):
    """Names and tensors, where a tensor is made when it is asked for, each time anew.

    So a model of any size passes through in the memory of its largest tensor: the parts are mapped from the file, and
    `pop` lets go of them.

    >>> import torch
    >>> from diptych.checkpoints.state import State
    >>> state = State.of({"image.blocks.0.norm_1.bias": torch.zeros(2), "text.positions": torch.ones(3)})
    >>> state.shapes["text.positions"], dict(state.part("text.")), len(state)
    (tensor(..., device='meta', size=(3,)), {'positions': tensor([1., 1., 1.])}, 2)
    """

    def __init__(self, recipes: Mapping[str, Recipe]):
        self._recipes = dict(recipes)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "State":
        """Of tensors as they are."""
        return cls({name: Recipe(lambda parts: parts[0], [tensor]) for name, tensor in tensors.items()})

    def __getitem__(self, name: str) -> Tensor:
        make, parts = self._recipes[name]
        return make(list(parts))

    def __iter__(self) -> Iterator[str]:
        return iter(self._recipes)

    def __len__(self) -> int:
        return len(self._recipes)

    @cached_property
    def shapes(self) -> dict[str, Tensor]:
        """The same names on `meta`: shapes and kinds of numbers, and no numbers."""
        return {name: make([part.to("meta") for part in parts]) for name, (make, parts) in self._recipes.items()}

    def pop(self, name: str) -> Tensor:
        """The tensor; what it is made from is let go."""
        tensor = self[name]
        del self._recipes[name]
        return tensor

    def part(self, prefix: str) -> "State":
        """The names that start with `prefix`, without it: one tower."""
        return State({n.removeprefix(prefix): recipe for n, recipe in self._recipes.items() if n.startswith(prefix)})

    def updated(self, other: Mapping[str, Tensor]) -> "State":
        """With these tensors instead of, or beside, those of the same names."""
        return State(self._recipes | State.of(other)._recipes)
