"""Where a part is run, how it measures there, and what a row of its results is."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

import torch
from torch import Tensor

from diptych.batch import TextLengths

Row = dict[str, Any]
"""A line of results: `name`, numbers, and where it is a test `ok`."""
Choice = TypeVar("Choice")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The device, and the size of what is measured there."""

    device: torch.device
    toy: bool
    """As small as the code allows: a rehearsal."""
    model: str = ""
    """Which one, for parts that are run model by model."""

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def pick(self, toy: Choice, full: Choice) -> Choice:
        """What the size asks for."""
        return toy if self.toy else full

    def wait(self) -> None:
        """Until the device has done all it was given."""
        if self.is_cuda:
            torch.cuda.synchronize()

    def milliseconds(self, work: Callable[[], object], repeats: int = 10, warm: int = 3) -> float:
        """Median of one call, by the clock, the device idle before and after."""
        taken: list[float] = []
        for _ in range(self.pick(1, warm)):
            work()
        for _ in range(self.pick(2, repeats)):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            taken.append((time.perf_counter() - start) * 1e3)
        return statistics.median(taken)

    def peak_mb(self, work: Callable[[], object]) -> float | None:
        """What `work` needs at its peak beside what was there; None without CUDA."""
        if not self.is_cuda:
            work()
            return None
        self.free()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        self.wait()
        return (torch.cuda.max_memory_allocated() - before) / 2**20

    def free(self) -> None:
        """Give back what nobody holds."""
        gc.collect()
        if self.is_cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

    def teraflops(self) -> float:
        """Of a large bfloat16 product: what this device reaches at best."""
        side = self.pick(256, 8192)
        a, b = (torch.randn(side, side, device=self.device).bfloat16() for _ in range(2))
        return 2 * side**3 / self.milliseconds(lambda: a @ b) / 1e9


Check = Callable[[Setting], Iterator[Row]]


def within(name: str, error: float, limit: float, **more: object) -> Row:
    """A row that is right where `error` is at most `limit`."""
    return {"name": name, "error": error, "limit": limit, "ok": error <= limit, **more}


def error_of(ours: Tensor, reference: Tensor) -> float:
    """|ours - reference| / |reference|; infinite where a number isn't finite."""
    ours, reference = ours.detach().double().cpu(), reference.detach().double().cpu()
    error = float((ours - reference).norm() / reference.norm().clamp(min=1e-300))
    return error if error == error else float("inf")


def lacks(library: str, name: str) -> Row | None:
    """A row that says so where `library` isn't installed."""
    if find_spec(library):
        return None
    return {"name": name, "skipped": f"{library} isn't installed"}


def captions(count: int, context: int = 77, seed: int = 0, vocabulary: int = 49408) -> Tensor:
    """Ids as long as the captions of web pictures: log-normal, median 12 tokens, 95 % below 31."""
    generator = torch.Generator().manual_seed(seed)
    lengths = (torch.randn(count, generator=generator) * 0.55 + 2.485).exp().round()
    ends = lengths.clamp(3, context).long()[:, None] - 1
    ids = torch.randint(1, vocabulary - 2, (count, context), generator=generator)
    places = torch.arange(context)
    ids = ids.masked_fill(places > ends, 0).masked_fill(places == ends, vocabulary - 1)
    ids[:, 0] = vocabulary - 2
    return ids


def lengths_of(ids: Tensor) -> TextLengths:
    """Tokens of each caption: all behind its end are 0."""
    return TextLengths.of((ids != 0).sum(dim=1).tolist())
