"""The parts in which two measured loads differ, and what each costs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, NamedTuple

from torch import Tensor

from diptych.config.serialize import difference
from diptych.diagnosis.setting import Cosines, Setting, attempt, lowest
from diptych.diagnosis.side import Side, name_of
from diptych.diagnosis.weights import SCALES, compare
from diptych.errors import CheckpointError, ConfigError
from diptych.weights.state import State
from diptych.weights.tower import resize_tower

Cost = Callable[[Setting], Cosines | None]

_WAYS = ("resize", "interpolation", "fill", "mean", "std")
"""Parts of how pictures become pixels, beside their size, by the names of `Pixels`."""
_OWN = ("activation", "image_size", "context_length")
"""Fields of towers that are parts of their own."""
_LEVEL = 1.0
"""Grey levels, in the mean of a picture, from which on pixels differ."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A part in which two loads differ."""

    part: str
    """weights, architecture, activation, picture size, resize, interpolation, fill, mean, std,
    pixels, tokenizer, context length, precision, logit scale, logit bias or code."""
    a: str
    """What it is in the first load."""
    b: str
    cosines: Cosines | None
    """The lowest cosines, of pictures and of texts, between the first load and the first load with
    this part of the second. None: a part that changes no vector, or one that can't be exchanged
    alone."""


class _Row(NamedTuple):
    """Ids of one text in the two loads."""

    number: int
    a: list[int]
    b: list[int]


def differences(one: Side, other: Side) -> Iterator[Difference]:
    """All, in the order in which data meets them in a model that was loaded: the weights, how they
    are computed, the inputs, the outputs."""
    a, b, start = one.setting, other.setting, one.ours

    def cost(changed: Setting) -> Cosines | None:
        vectors = attempt(changed)
        if start is None or vectors is None or vectors.images.shape != start.images.shape:
            return None
        return lowest(start, vectors)

    resized = _resized(one, other)
    if said := compare((resized or a).weights, b.weights):
        scales = {name: a.weights[name] for name in SCALES if name in a.weights}
        theirs = {name: b.weights[name] for name in b.weights if name not in SCALES}
        changed = replace(resized or a, weights=theirs | scales)
        yield Difference(part="weights", a=said.a, b=said.b, cosines=cost(changed))
    yield from _of_tower(a, "image", a.config.image, b.config.image, cost)
    yield from _of_tower(a, "text", a.config.text, b.config.text, cost)
    if one.how.size != other.how.size:
        changed = None if resized is None else cost(resized)
        yield _differing("picture size", one.how.size, other.how.size, changed)
    yield from _of_pixels(one, other, cost)
    yield from _of_texts(a, b, cost)
    if a.dtype != b.dtype:
        changed = cost(replace(a, dtype=b.dtype))
        yield _differing("precision", name_of(a.dtype), name_of(b.dtype), changed)
    for name in SCALES:
        mine, theirs = (_number(each.weights.get(name), name) for each in (a, b))
        if mine != theirs:
            yield _differing(name.replace("_", " "), mine, theirs, None)


def _of_tower(a: Setting, side: str, mine: Any, theirs: Any, cost: Cost) -> Iterator[Difference]:
    """The architecture of a tower, and its activation."""
    found = difference(mine, theirs)
    same_kind = type(mine) is type(theirs)
    others = {name: pair for name, pair in found.items() if name not in _OWN}
    if others:
        mine_said, theirs_said = (
            ", ".join(f"{side} {name} {pair[place]!r}" for name, pair in others.items())
            for place in (0, 1)
        )
        tops = {name.partition(".")[0] for name in others}
        taken = {name: getattr(theirs, name) for name in tops} if same_kind else {}
        changed = cost(a.with_tower(side, replace(mine, **taken))) if same_kind else None
        yield _differing("architecture", mine_said, theirs_said, changed)
    if "activation" in found and same_kind:
        changed = cost(a.with_tower(side, replace(mine, activation=theirs.activation)))
        one, other = found["activation"]
        yield _differing("activation", f"{side} {one}", f"{side} {other}", changed)


def _of_pixels(one: Side, other: Side, cost: Cost) -> Iterator[Difference]:
    """How pictures become pixels, beside their size."""
    a, mine, theirs = one.setting, one.how, other.how
    known = mine.known and theirs.known
    apart = [way for way in _WAYS if _far(getattr(mine, way), getattr(theirs, way))]
    for way in apart if known else ():
        changed = replace(mine, **{way: getattr(theirs, way)})
        costs = cost(replace(a, pixels=one.rendered(changed)))
        yield _differing(way, getattr(mine, way), getattr(theirs, way), costs)
    if (apart and known) or mine.size != theirs.size:
        return
    off = (mine.levels(other.setting.pixels) - mine.levels(a.pixels)).abs().mean((1, 2, 3))
    if float(off.max()) > _LEVEL:
        number = int(off.argmax())
        said = f"picture {number + 1} is {float(off[number]):.1f} grey levels from A's in the mean"
        costs = cost(replace(a, pixels=other.setting.pixels))
        yield _differing("pixels", _way(one), f"{_way(other)}; {said}", costs)


def _way(side: Side) -> str:
    how = side.how
    return f"{how.resize}, {how.interpolation}" if how.known else "made in no way that is known"


def _of_texts(a: Setting, b: Setting, cost: Cost) -> Iterator[Difference]:
    """The tokenizer, and the length at which texts are cut."""
    contexts = (a.ids.shape[1], b.ids.shape[1])
    shortest = min(contexts) - 1 if contexts[0] != contexts[1] else None
    rows = [_Row(i, *pair) for i, pair in enumerate(zip(_said(a), _said(b), strict=True))]
    apart = [row for row in rows if row.a[:shortest] != row.b[:shortest]]
    if apart:
        number, mine, theirs = apart[0]
        place = next(i for i, (x, y) in enumerate(zip_longest(mine, theirs)) if x != y)
        where, some = f"text {number + 1}, id {place + 1}", slice(place, place + 4)
        changed = cost(replace(a, ids=b.ids))
        yield _differing("tokenizer", f"{where}: {mine[some]}", f"{where}: {theirs[some]}", changed)
    if contexts[0] != contexts[1]:
        yield _differing("context length", *contexts, cost(replace(a, ids=b.ids)))


def _said(setting: Setting) -> list[list[int]]:
    """The ids of each text that count: up to its end where the tower sees nothing behind it, else
    with the first of its padding."""
    rows, text = setting.ids.tolist(), setting.config.text
    if text.padding != "ignored":
        return [_with_one_pad(row) for row in rows]
    ends = [max(row) if text.read_at is None else text.read_at for row in rows]
    pairs = zip(rows, ends, strict=True)
    return [row[: row.index(end) + 1] if end in row else row for row, end in pairs]


def _with_one_pad(row: list[int]) -> list[int]:
    end = len(row)
    while end > 1 and row[end - 2] == row[-1]:
        end -= 1
    return row[:end]


def _resized(one: Side, other: Side) -> Setting | None:
    """The first load for pictures of the second's size; None: it can't be, or needn't."""
    size, a = other.setting.config.image.image_size, one.setting
    if size == a.config.image.image_size:
        return None
    state = State.of(a.weights)
    try:
        image, tower = resize_tower(state.part("image."), a.config.image, size)
    except (CheckpointError, ConfigError):
        return None
    return replace(
        a.with_tower("image", tower),
        weights=state.replaced("image.", image),
        pixels=one.rendered(replace(one.how, size=other.how.size)),
    )


def _differing(part: str, a: object, b: object, cosines: Cosines | None) -> Difference:
    return Difference(part=part, a=_words(a), b=_words(b), cosines=cosines)


def _words(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{number:.4g}" for number in value)
    return str(value)


def _far(mine: object, theirs: object) -> bool:
    """Whether two values differ; means and deviations by more than a quarter of a grey level."""
    if isinstance(mine, tuple) and isinstance(theirs, tuple):
        return any(abs(x - y) > 1e-3 for x, y in zip(mine, theirs, strict=True))
    return mine != theirs


def _number(value: Tensor | None, name: str) -> str:
    if value is None:
        return "none"
    number = value.detach().float()
    return f"x {float(number.exp()):.4f}" if name == "logit_scale" else f"{float(number):.4f}"
