"""Modules of Diptych's whose parts have open_clip's names."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn


class Spelled(nn.Module):
    """A base that stands before the module whose parts `spelling` renames, ours -> open_clip's.
    Parts, parameters and state dicts have open_clip's names; what the module computes asks for its
    own names, and finds them.

    >>> from torch import nn
    >>> from diptych.compat.parts.spelling import Spelled
    >>> class Ours(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.out = nn.Linear(2, 2, bias=False)
    >>> class Theirs(Spelled, Ours):
    ...     spelling = {"out": "proj"}
    >>> list(Theirs().state_dict()), Theirs().out.in_features
    (['proj.weight'], 2)
    """

    spelling: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        for ours, theirs in cls.spelling.items():
            setattr(cls, ours, property(_reader(theirs)))

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(type(self).spelling.get(name, name), value)


def _reader(name: str) -> Any:
    def read(module: nn.Module) -> Any:
        return getattr(module, name)

    return read
