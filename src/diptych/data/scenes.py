"""Captioned scenes composed from real handwriting: what `diptych demo` learns from.

scikit-learn ships 1,797 digits that 13 people wrote (the test set of UCI Optical Recognition of
Handwritten Digits, CC BY 4.0). Each is a stencil here: it gets a colour, a size, a place and a
background, alone or beside a second one, and a caption that says some of that in varying words. Two
things are held out of the training part: every fifth piece of handwriting, and 10 of the 100
colour-digit combinations, every colour and every digit being seen in others.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from diptych.batch import Sample

T = TypeVar("T")

VERSION = 2
"""Changes when the same seed gives other pictures or captions."""

Part = Literal["train", "seen", "unseen", "pairs"]
PARTS: tuple[Part, ...] = ("train", "seen", "unseen", "pairs")

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = {
    "red": (225, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (245, 228, 60),
    "green": (50, 185, 75),
    "cyan": (100, 232, 228),
    "blue": (45, 80, 245),
    "purple": (150, 65, 205),
    "pink": (250, 150, 200),
    "grey": (160, 160, 160),
    "white": (248, 248, 248),
}
RELATIONS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
BACKGROUNDS = {
    "plain": ("on a plain background",),
    "shaded": ("on a shaded background",),
    "striped": ("on stripes", "on a striped background"),
    "speckled": ("on a speckled background",),
}
# Where a small digit's centre lies, as (column, row) in shares of the picture; the corner is any of
# four.
PLACES: dict[str, tuple[tuple[float, float], ...]] = {
    "middle": ((0.5, 0.5),),
    "corner": ((0.37, 0.37), (0.63, 0.37), (0.37, 0.63), (0.63, 0.63)),
    "left": ((0.37, 0.5),),
    "right": ((0.63, 0.5),),
    "top": ((0.5, 0.37),),
    "bottom": ((0.5, 0.63),),
}
_PLACE_WORDS = {
    "middle": "in the middle",
    "corner": "in the corner",
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
}
# Side of a digit's box as a share of the picture, by (digits in the scene, size).
_SIDES = {
    (1, "large"): (0.80, 0.94),
    (1, "small"): (0.66, 0.72),
    (2, "large"): (0.46, 0.52),
    (2, "small"): (0.36, 0.40),
}
_SHARE_OF_PAIRS = 0.12
_SHARE_WITH_COLOUR = 0.35


@dataclass(frozen=True, kw_only=True)
class Digit:
    """One digit of a scene. `glyph` is a row of scikit-learn's table; `centre`, `side` are shares
    of the picture."""

    value: int
    colour: str
    size: Literal["large", "small"]
    glyph: int
    centre: tuple[float, float]
    side: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a picture shows. `relation` says where the first of two digits lies, seen from the
    second."""

    digits: tuple[Digit, ...]
    place: str | None
    relation: str | None
    background: str


def held_out(colour: str, value: int) -> bool:
    """Whether this combination is never in the training part: a diagonal of the square, each colour
    and digit once.

    >>> from diptych.data.scenes import COLOURS, held_out
    >>> [colour for colour in COLOURS if held_out(colour, 7)]
    ['pink']
    """
    return list(COLOURS).index(colour) == value


def samples(part: Part, count: int, *, seed: int = 0, size: int = 48) -> Iterator[Sample]:
    """The first `count` scenes of a part, as JPEG of size x size pixels; each depends on seed, part
    and its place only.

    `train`: single digits, and an eighth of pairs. `seen`, `unseen`: single digits in handwriting
    that the training part lacks, in combinations that it has and hasn't. `pairs`: two digits in
    such handwriting and combinations that training has. `label` is the (first) digit; `meta` holds
    every attribute.

    >>> from diptych.data.scenes import samples
    >>> first = next(samples("unseen", 1))
    >>> first.label == first.meta["digits"][0]["value"], first.image[:2]
    (True, b'\\xff\\xd8')
    """
    for index in range(count):
        rng = np.random.default_rng([seed, PARTS.index(part), index])
        scene = _compose(part, rng)
        text = caption(scene, rng)
        stream = BytesIO()
        Image.fromarray(render(scene, rng, size)).save(stream, "JPEG", quality=92, subsampling=0)
        yield Sample(
            key=f"{part}-{index:06d}",
            image=stream.getvalue(),
            captions=(text,),
            label=scene.digits[0].value,
            meta=_attributes(scene),
        )


def render(
    scene: Scene, rng: np.random.Generator, size: int = 48
) -> UInt8[np.ndarray, "size size 3"]:
    """The picture of a scene; `rng` draws what the scene leaves open: shades, grain, the exact
    colours."""
    picture = _background(scene.background, rng, size)
    for digit in scene.digits:
        stencil = _stencil(digit, size)[..., None]
        colour = np.array(COLOURS[digit.colour]) + rng.uniform(-15, 15, 3)
        picture = picture * (1 - stencil) + colour * stencil
    picture += rng.normal(0, 3, (size, size, 1))
    return picture.clip(0, 255).astype(np.uint8)


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One of many sentences that are true of the scene. Most single digits go without their colour:
    if it were always named, a model would learn that no zero is red where it should learn what a
    zero is."""
    if scene.relation:
        first, second = (_noun_phrase(digit, rng, colour=True) for digit in scene.digits)
        text = f"{first} {draw(rng, RELATIONS[scene.relation])} {second}"
    else:
        text = _noun_phrase(scene.digits[0], rng, colour=rng.random() < _SHARE_WITH_COLOUR)
        if scene.place and rng.random() < 0.5:
            text += f" {_PLACE_WORDS[scene.place]}"
    if rng.random() < 0.2:
        text += f" {draw(rng, BACKGROUNDS[scene.background])}"
    return draw(rng, ("", "", "a picture of ", "there is ")) + text


def _noun_phrase(digit: Digit, rng: np.random.Generator, colour: bool) -> str:
    word = DIGITS[digit.value]
    words = [draw(rng, (word, word, f"handwritten {word}", str(digit.value)))]
    if colour:
        words.insert(0, digit.colour)
    if rng.random() < 0.4:
        words.insert(0, digit.size)
    phrase = " ".join(words)
    return f"{article(phrase)} {phrase}"


def article(phrase: str) -> str:
    """`a`, or `an` before a vowel's sound.

    >>> from diptych.data.scenes import article
    >>> article("orange two"), article("one"), article("8")
    ('an', 'a', 'an')
    """
    return (
        "an" if phrase[0] in "aeiu8" or (phrase[0] == "o" and not phrase.startswith("one")) else "a"
    )


def _compose(part: Part, rng: np.random.Generator) -> Scene:
    pair = part == "pairs" or (part == "train" and rng.random() < _SHARE_OF_PAIRS)
    background = draw(rng, tuple(BACKGROUNDS))
    if not pair:
        size = draw(rng, ("large", "small"))
        place = draw(rng, tuple(PLACES)) if size == "small" else None
        centre = draw(rng, PLACES[place]) if place else (0.5, 0.5)
        digit = _digit(part, rng, size, centre, alone=True)
        return Scene(digits=(digit,), place=place, relation=None, background=background)
    relation = draw(rng, tuple(RELATIONS))
    near, far = (0.26, 0.5), (0.74, 0.5)
    if relation in ("above", "below"):
        near, far = (0.5, 0.26), (0.5, 0.74)
    if relation in ("right", "below"):
        near, far = far, near
    digits = tuple(
        _digit(part, rng, draw(rng, ("large", "small")), centre, alone=False)
        for centre in (near, far)
    )
    return Scene(digits=digits, place=None, relation=relation, background=background)


def _digit(
    part: Part, rng: np.random.Generator, size: str, centre: tuple[float, float], alone: bool
) -> Digit:
    colour, value = draw(rng, combinations(unseen=part == "unseen"))
    low, high = _SIDES[1 if alone else 2, size]
    column, row = (share + float(rng.uniform(-0.03, 0.03)) for share in centre)
    return Digit(
        value=value,
        colour=colour,
        size=size,  # pyright: ignore[reportArgumentType] -- drawn from the two literals
        glyph=int(rng.choice(glyphs_of(part == "train")[value])),
        centre=(column, row),
        side=float(rng.uniform(low, high)),
    )


@cache
def combinations(unseen: bool) -> tuple[tuple[str, int], ...]:
    """(colour, digit) of the combinations that training lacks, or of those that it has."""
    every = itertools.product(COLOURS, range(10))
    return tuple(pair for pair in every if held_out(*pair) == unseen)


def _attributes(scene: Scene) -> dict[str, object]:
    digits = [
        {"value": d.value, "colour": d.colour, "size": d.size, "glyph": d.glyph}
        for d in scene.digits
    ]
    return {
        "digits": digits,
        "place": scene.place,
        "relation": scene.relation,
        "background": scene.background,
    }


def draw(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """One of the choices, each as likely."""
    return choices[int(rng.integers(len(choices)))]


def _background(kind: str, rng: np.random.Generator, size: int) -> Float[np.ndarray, "size size 3"]:
    """Dark enough (below 75 of 255) that all the colours stand out."""
    rows, columns = np.mgrid[0:size, 0:size] / size
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * columns + np.sin(angle) * rows
    if kind == "plain":
        mix = np.zeros((size, size))
    elif kind == "shaded":
        mix = (along - along.min()) / np.ptp(along)
    elif kind == "striped":
        mix = 0.5 + 0.5 * np.sin(along * rng.uniform(30, 50))
    else:
        mix = (rng.random((size, size)) < 0.12).astype(float)
    first, second = rng.uniform(5, 35, 3), rng.uniform(35, 75, 3)
    return first + mix[..., None] * (second - first)


def _stencil(digit: Digit, size: int) -> Float[np.ndarray, "size size"]:
    """How much of each pixel the digit covers: the 8 x 8 strokes enlarged. Their shades tell a loop
    from a blot."""
    side = digit.side * size
    left, top = digit.centre[0] * size - side / 2, digit.centre[1] * size - side / 2
    scale = 8 / side
    glyph = Image.fromarray(_glyph_table()[0][digit.glyph])
    strokes = glyph.transform(
        (size, size),
        Image.Transform.AFFINE,
        (scale, 0, 1 - left * scale, 0, scale, 1 - top * scale),
        resample=Image.Resampling.BICUBIC,
    )
    return ((np.asarray(strokes) - 0.15) / 0.6).clip(0, 1)


@cache
def _glyph_table() -> tuple[Float[np.ndarray, "n 10 10"], UInt8[np.ndarray, " n"]]:
    """The handwriting with an empty margin of one pixel, 0 to 1, and what each digit is."""
    from sklearn.datasets import load_digits

    flat, values = load_digits(return_X_y=True)
    strokes = np.pad(np.asarray(flat).reshape(-1, 8, 8) / 16, ((0, 0), (1, 1), (1, 1)))
    return strokes.astype(np.float32), np.asarray(values).astype(np.uint8)


@cache
def glyphs_of(training: bool) -> tuple[np.ndarray, ...]:
    """Rows of the table by digit; every fifth row is kept from training."""
    values = _glyph_table()[1]
    rows = np.flatnonzero((np.arange(len(values)) % 5 != 4) == training)
    return tuple(rows[values[rows] == value] for value in range(10))
