"""Weights by name, made one at a time."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from torch import Tensor


class Lazy(NamedTuple):
    """A tensor that is made when it is asked for."""

    like: Tensor
    """On `meta`: its shape and its kind of numbers."""
    make: Callable[[], Tensor]
    make_once: Callable[[], Tensor] | None = None
    """The same tensor, for one look at it: nothing of its file stays in memory when it goes. None:
    `make`."""

    def once(self) -> Tensor:
        """The tensor, to be copied and let go."""
        return (self.make_once or self.make)()


class State(Mapping[str, Tensor]):
    """Names and tensors, where a tensor is made when it is asked for, each time anew.

    So a model of any size passes through in the memory of its largest tensor: what a tensor is made
    from is read from the file then, and let go with it. `pop` also lets go of the file behind, when
    its last tensor was taken.

    >>> import torch
    >>> from diptych.weights.state import State
    >>> state = State.of({"image.class_token": torch.zeros(2), "text.positions": torch.ones(3)})
    >>> state.shapes["text.positions"], dict(state.part("text.")), len(state)
    (tensor(..., device='meta', size=(3,)), {'positions': tensor([1., 1., 1.])}, 2)
    """

    def __init__(self, lazies: Mapping[str, Lazy]):
        self.lazies = dict(lazies)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "State":
        """Of tensors as they are; of another state, one that can be used up on its own."""
        if isinstance(tensors, State):
            return cls(tensors.lazies)
        return cls(
            {name: Lazy(tensor.to("meta"), lambda t=tensor: t) for name, tensor in tensors.items()}
        )

    def __getitem__(self, name: str) -> Tensor:
        return self.lazies[name].make()

    def __contains__(self, name: object) -> bool:
        return name in self.lazies

    def __iter__(self) -> Iterator[str]:
        return iter(self.lazies)

    def __len__(self) -> int:
        return len(self.lazies)

    @property
    def shapes(self) -> dict[str, Tensor]:
        """The same names on `meta`: shapes and kinds of numbers, and no numbers."""
        return {name: lazy.like for name, lazy in self.lazies.items()}

    def pop(self, name: str, once: bool = False) -> Tensor:
        """The tensor; what it is made from is let go. `once`: it will be copied, and let go too."""
        lazy = self.lazies.pop(name)
        return lazy.once() if once else lazy.make()

    def part(self, prefix: str) -> "State":
        """The names that start with `prefix`, without it: one tower."""
        return State(
            {
                n.removeprefix(prefix): lazy
                for n, lazy in self.lazies.items()
                if n.startswith(prefix)
            }
        )

    def replaced(self, prefix: str, part: "State") -> "State":
        """With `part`, whose names lack `prefix`, instead of all that starts with `prefix`."""
        rest = {name: lazy for name, lazy in self.lazies.items() if not name.startswith(prefix)}
        return State({f"{prefix}{name}": lazy for name, lazy in part.lazies.items()} | rest)

    def updated(self, other: Mapping[str, Tensor]) -> "State":
        """With these tensors instead of, or beside, those of the same names."""
        return State(self.lazies | State.of(other).lazies)
