"""Scenes of one to three handwritten digits with rich captions: how many there are, where each lies
seen from another, colours, sizes, each picture in several phrasings.

The pictures are made as those of `scenes`, of the same handwriting with the same held out. Every
picture carries questions, too: a right sentence and wrong ones that differ from it in one thing.
"""

from collections.abc import Iterator
from io import BytesIO
from typing import Any, Literal

import numpy as np
from PIL import Image

from diptych.batch import Sample
from diptych.data import scenes
from diptych.data.claims import (
    OPPOSITES,
    Claim,
    Counted,
    Listed,
    Named,
    Placed,
    Related,
    name_of,
    quarter_of,
    related,
)
from diptych.data.scenes import BACKGROUNDS, Digit, Scene, draw

VERSION = 1
"""Changes when the same seed gives other pictures or captions."""
Part = Literal["train", "one", "many"]
PARTS: tuple[Part, ...] = ("train", "one", "many")
PHRASINGS = 6
"""Captions of a picture, before equal ones are left out."""

_KEY = 16
"""Keeps their random numbers apart from those of `scenes`."""
_CELLS = ((0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73))
_SIDES = {"large": (0.46, 0.52), "small": (0.32, 0.36)}
_SHARES_OF_COUNTS = (0.3, 0.4, 0.3)


def samples(part: Part, count: int, *, seed: int = 0, size: int = 32) -> Iterator[Sample]:
    """The first `count` scenes of a part, as JPEG of size x size pixels; each depends on seed, part
    and its place only.

    `train`: one to three digits. `one`: a single digit in handwriting and of a colour that training
    lacks; `label` says which. `many`: two or three, in such handwriting, of combinations that
    training has. `meta` holds the digits, and in `questions` sentences of which the first is right:
    `relation` (one of four), `count` (of three), `binding` (of two: colours swapped).

    >>> from diptych.data.rich_scenes import samples
    >>> first = next(samples("many", 1))
    >>> first.key, len(first.meta["questions"]["count"])
    ('many-000000', 3)
    """
    for index in range(count):
        rng = np.random.default_rng([seed, _KEY, PARTS.index(part), index])
        scene = _compose(part, rng)
        texts = captions(scene, rng)
        stream = BytesIO()
        picture = Image.fromarray(scenes.render(scene, rng, size))
        picture.save(stream, "JPEG", quality=92, subsampling=0)
        yield Sample(
            key=f"{part}-{index:06d}",
            image=stream.getvalue(),
            captions=texts,
            label=scene.digits[0].value,
            meta=_meta(scene),
        )


def captions(scene: Scene, rng: np.random.Generator) -> tuple[str, ...]:
    """Different sentences that are true of the scene, at most `PHRASINGS`."""
    found = list[str]()
    for turn in range(PHRASINGS):
        claim = _claim(scene, turn, rng)
        assert claim.holds(scene.digits), (claim, scene)
        text = claim.words(rng)
        if rng.random() < 0.15:
            text += f" {draw(rng, BACKGROUNDS[scene.background])}"
        found.append(draw(rng, ("", "", "a picture of ")) + text)
    return tuple(dict.fromkeys(found))


def _claim(scene: Scene, turn: int, rng: np.random.Generator) -> Claim:
    """Of another kind each turn: what there is, how many, where, and how two of them lie."""
    digits = [scene.digits[i] for i in rng.permutation(len(scene.digits))]
    match turn % 3:
        case 0:
            kinds = tuple(_kind(digit, rng, colour=0.5) for digit in digits)
            return Listed(kinds=kinds)
        case 1 if len(digits) > 1:
            one, other = digits[:2]
            true = [name for name in OPPOSITES if related(name, one, other)]
            kinds = (_kind(digit, rng, colour=0.8) for digit in (one, other))
            return Related(relation=draw(rng, true), first=next(kinds), second=next(kinds))
        case 1:
            right, low = quarter_of(digits[0])
            return Placed(kind=_kind(digits[0], rng, colour=0.5), right=right, low=low)
        case _:
            kind = draw(rng, _countable(digits[0]))
            return Counted(count=sum(map(kind.fits, digits)), kind=kind)


def _countable(digit: Digit) -> tuple[Named, ...]:
    """Kinds of which digits are counted: all, mostly."""
    own = (Named(colour=digit.colour), Named(size=digit.size), Named(value=digit.value))
    return (Named(), Named(), Named(), *own)


def _kind(digit: Digit, rng: np.random.Generator, colour: float) -> Named:
    """Said with its colour, in a share of cases, and sometimes with its size."""
    return Named(
        value=digit.value,
        colour=digit.colour if rng.random() < colour else None,
        size=digit.size if rng.random() < 0.3 else None,
    )


def questions(digits: tuple[Digit, ...]) -> dict[str, list[str]]:
    """Sentences in the same words but for one thing; the first is true of the digits, the others
    aren't. What can't be asked of them isn't there."""
    counts = [Counted(count=len(digits)), *_other_counts(len(digits))]
    found = {"count": [claim.plain() for claim in counts]}
    if len(digits) == 1:
        return found
    one, other = (Named(value=d.value, colour=d.colour) for d in digits[:2])
    claims = [Related(relation=name, first=one, second=other) for name in OPPOSITES]
    true = [claim for claim in claims if claim.holds(digits)]
    if len(true) == 1:  # across a corner two are true
        claims.sort(key=lambda claim: claim is not true[0])
        found["relation"] = [claim.plain() for claim in claims]
    swapped = Listed(
        kinds=(
            Named(value=one.value, colour=other.colour),
            Named(value=other.value, colour=one.colour),
        )
    )
    if not swapped.holds(digits):
        pairs = (Listed(kinds=(one, other)), swapped)
        found["binding"] = [" and ".join(map(name_of, pair.kinds)) for pair in pairs]
    return found


def _other_counts(right: int) -> list[Counted]:
    return [Counted(count=count) for count in (1, 2, 3) if count != right]


def _compose(part: Part, rng: np.random.Generator) -> Scene:
    if part == "one":
        count = 1
    elif part == "many":
        count = int(rng.integers(2, 4))
    else:
        count = 1 + int(rng.choice(3, p=_SHARES_OF_COUNTS))
    cells = rng.permutation(len(_CELLS))[:count]
    digits = tuple(_digit(part, _CELLS[cell], rng) for cell in cells)
    background = draw(rng, tuple(BACKGROUNDS))
    return Scene(digits=digits, place=None, relation=None, background=background)


def _digit(part: Part, cell: tuple[float, float], rng: np.random.Generator) -> Digit:
    colour, value = draw(rng, scenes.combinations(unseen=part == "one"))
    size: Literal["large", "small"] = "large" if rng.random() < 0.5 else "small"
    column, row = (share + float(rng.uniform(-0.03, 0.03)) for share in cell)
    return Digit(
        value=value,
        colour=colour,
        size=size,
        glyph=int(rng.choice(scenes.glyphs_of(part == "train")[value])),
        centre=(column, row),
        side=float(rng.uniform(*_SIDES[size])),
    )


def _meta(scene: Scene) -> dict[str, Any]:
    digits = list[dict[str, object]]()
    for digit in scene.digits:
        named: dict[str, object] = {
            "value": digit.value,
            "colour": digit.colour,
            "size": digit.size,
        }
        digits.append(named | {"centre": list(digit.centre), "glyph": digit.glyph})
    return {
        "digits": digits,
        "background": scene.background,
        "questions": questions(scene.digits),
    }
