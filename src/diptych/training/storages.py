"""Counting the bytes of tensors while code runs, with or without numbers in them."""

# A storage is known by its address, `_cdata`: of tensors without numbers `data_ptr` is none.
# pyright: reportPrivateUsage=false

import weakref
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diptych.training.flops import flops_of


class Kept:
    """Counts the bytes that autograd saves, each storage once."""

    def __init__(self, besides: list[Tensor]):
        self._storages = {t.untyped_storage()._cdata: t.untyped_storage() for t in besides}
        self.size = 0

    @contextmanager
    def watching(self) -> Generator[None, None, None]:
        """The forward pass that is counted."""
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor):
            yield
        self._storages.clear()  # they live as long as the graph does

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._storages:
            self._storages[storage._cdata] = storage  # held, so that no other gets its address
            self.size += storage.nbytes()
        return tensor


class Live(TorchDispatchMode):
    """Counts the bytes of all storages that are alive, and the most there were; and the FLOPs, by
    torch's formulas. (Its own `FlopCounterMode` keeps what is recomputed alive.)"""

    def __init__(self, there: list[Tensor]):
        super().__init__()
        self._known = set[int]()
        self._now = self.peak = self.flops = 0
        for tensor in there:
            self._add(tensor)

    def restart(self) -> int:
        """The most there were; from now on the most is what is there now."""
        most, self.peak = self.peak, self._now
        return most

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.flops += flops_of(func, args, kwargs or {}, made)
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._add(tensor)
        return made

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place, size = storage._cdata, storage.nbytes()
        if place in self._known:
            return
        self._known.add(place)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._drop, place, size)

    def _drop(self, place: int, size: int) -> None:
        self._known.discard(place)
        self._now -= size
