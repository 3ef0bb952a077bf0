"""Where a run stands in its data: what the order of its samples depends on, beside the seed, as its
checkpoints say it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from diptych.config import Run
from diptych.config.serialize import read_as
from diptych.data import Source
from diptych.data.dealing import Deal
from diptych.errors import ConfigError
from diptych.training.state import TrainingState

_DEALT = "dealt"


@dataclass(frozen=True, kw_only=True)
class _Dealt:
    """Since when a mixture has its batch and its weights, and what its sources had given before."""

    batch_size: int
    step: int
    taken: tuple[int, ...]


def taken_of(state: TrainingState) -> tuple[int, ...]:
    """How many samples each stream of the source has given in the steps of `state`."""
    if _DEALT not in state.order:
        return (state.samples,)
    dealt = read_as(_Dealt, state.order[_DEALT], _DEALT)
    deal = Deal(read_as(tuple[float, ...], state.order["weights"], "weights"), dealt.batch_size)
    return tuple((deal.given(state.step) - deal.given(dealt.step) + dealt.taken).tolist())


def order_of(state: TrainingState, run: Run, source: Source) -> dict[str, Any]:
    """What the order depends on from `state` on, whose own is its checkpoint's. Of a mixture each
    source goes on where it was, also with other weights or another batch. Raises ConfigError for
    one that an older version dealt."""
    order: dict[str, Any] = {
        "sizes": [len(stream) for stream in source.streams],
        "weights": list(source.weights),
        "resample": run.data.resample,
    }
    if run.data.consecutive > 1:  # what was written before there were runs has none
        order["consecutive"] = run.data.consecutive
    if source.kept:
        order["keep"] = source.kept
    old = state.order
    if len(source.streams) == 1:
        return order
    if len(old.get("sizes", ())) != len(source.streams):  # a run that begins, or with other sources
        taken = tuple(Deal(source.weights, run.batch_size).given(state.step).tolist())
    elif _DEALT not in old:
        raise ConfigError(
            "the run's mixture was dealt over 65,536 samples at a time by an older version, and "
            "is dealt batch by batch now, so it can't go on where it was; start another run from "
            f"its weights: --model.init {run.out}"
        )
    elif old["weights"] == order["weights"] and old[_DEALT]["batch_size"] == run.batch_size:
        return order | {_DEALT: old[_DEALT]}
    else:
        taken = taken_of(state)
    dealt = _Dealt(batch_size=run.batch_size, step=state.step, taken=taken)
    return order | {_DEALT: asdict(dealt)}


def is_another(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether samples that an epoch of `old` had already may come again in `new`, or not at all."""
    goes_on = {_DEALT, "weights"} if _DEALT in old and _DEALT in new else set[str]()
    return any(old.get(key) != new.get(key) for key in (old.keys() | new.keys()) - goes_on)
