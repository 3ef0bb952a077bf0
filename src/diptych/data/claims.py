"""What can be said of several digits in a picture: claims that are true or false, and their words.

A claim is chosen first and checked against the picture (`Claim.holds`), then put into words
(`Claim.words`): so a caption is true by construction, and a wrong answer is known to be wrong.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diptych.data.scenes import DIGITS, RELATIONS, Digit, article, draw

OPPOSITES = {"left": "right", "right": "left", "above": "below", "below": "above"}
NUMBERS = ("no", "one", "two", "three")
_APART = 0.2
"""Shares of the picture that lie at least between centres of different columns, or rows."""
_PLACES = {
    (False, False): ("at the top left", "in the top left corner"),
    (True, False): ("at the top right", "in the top right corner"),
    (False, True): ("at the bottom left", "in the bottom left corner"),
    (True, True): ("at the bottom right", "in the bottom right corner"),
}


class Claim(ABC):
    """Something that is true of some pictures."""

    @abstractmethod
    def holds(self, digits: Sequence[Digit]) -> bool:
        """Whether it is true of a picture with these digits."""

    @abstractmethod
    def words(self, rng: np.random.Generator) -> str:
        """One of its phrasings."""


@dataclass(frozen=True, kw_only=True)
class Named(Claim):
    """There is a digit of this kind; None: of any."""

    value: int | None = None
    colour: str | None = None
    size: str | None = None

    def fits(self, digit: Digit) -> bool:
        """Whether a digit is of this kind."""
        wanted = (self.value, self.colour, self.size)
        has = (digit.value, digit.colour, digit.size)
        return all(want in (None, own) for want, own in zip(wanted, has))

    def holds(self, digits: Sequence[Digit]) -> bool:
        return any(map(self.fits, digits))

    def words(self, rng: np.random.Generator) -> str:
        noun = "digit"
        if self.value is not None:
            word = DIGITS[self.value]
            noun = draw(rng, (word, word, f"handwritten {word}", str(self.value)))
        phrase = " ".join(filter(None, (self.size, self.colour, noun)))
        return f"{article(phrase)} {phrase}"


@dataclass(frozen=True, kw_only=True)
class Listed(Claim):
    """There are different digits of these kinds, in this order."""

    kinds: tuple[Named, ...]

    def holds(self, digits: Sequence[Digit]) -> bool:
        if not self.kinds:
            return True
        first, rest = self.kinds[0], Listed(kinds=self.kinds[1:])
        left = [[*digits[:i], *digits[i + 1 :]] for i, d in enumerate(digits) if first.fits(d)]
        return any(map(rest.holds, left))

    def words(self, rng: np.random.Generator) -> str:
        *before, last = (kind.words(rng) for kind in self.kinds)
        return f"{', '.join(before)} and {last}" if before else last


@dataclass(frozen=True, kw_only=True)
class Related(Claim):
    """A digit of the first kind lies left of, right of, above or below one of the second."""

    relation: str
    first: Named
    second: Named

    def holds(self, digits: Sequence[Digit]) -> bool:
        ones = [digit for digit in digits if self.first.fits(digit)]
        others = [digit for digit in digits if self.second.fits(digit)]
        return any(related(self.relation, one, other) for one in ones for other in others)

    def words(self, rng: np.random.Generator) -> str:
        one, other = self.first.words(rng), self.second.words(rng)
        own = draw(rng, RELATIONS[self.relation])
        turned = draw(rng, RELATIONS[OPPOSITES[self.relation]])
        return draw(rng, (f"{one} {own} {other}", f"{other} {turned} {one}"))

    def plain(self) -> str:
        """In words that differ in the relation alone."""
        one, other = (name_of(kind) for kind in (self.first, self.second))
        return f"{one} {RELATIONS[self.relation][0]} {other}"


@dataclass(frozen=True, kw_only=True)
class Counted(Claim):
    """So many digits are of this kind, and no more."""

    count: int
    kind: Named = Named()

    def holds(self, digits: Sequence[Digit]) -> bool:
        return sum(map(self.kind.fits, digits)) == self.count

    def words(self, rng: np.random.Generator) -> str:
        return draw(rng, ("", "exactly ")) + self.plain()

    def plain(self) -> str:
        """In words that differ in the number alone."""
        kind = " ".join(filter(None, (self.kind.size, self.kind.colour)))
        noun = "digit" if self.kind.value is None else DIGITS[self.kind.value]
        ending = "" if self.count == 1 else "es" if noun.endswith("x") else "s"
        return " ".join(filter(None, (NUMBERS[self.count], kind, noun + ending)))


@dataclass(frozen=True, kw_only=True)
class Placed(Claim):
    """A digit of this kind lies in that quarter of the picture."""

    kind: Named
    right: bool
    low: bool

    def holds(self, digits: Sequence[Digit]) -> bool:
        found = filter(self.kind.fits, digits)
        return any(quarter_of(digit) == (self.right, self.low) for digit in found)

    def words(self, rng: np.random.Generator) -> str:
        return f"{self.kind.words(rng)} {draw(rng, _PLACES[self.right, self.low])}"


def related(relation: str, one: Digit, other: Digit) -> bool:
    """Whether `one` lies so, seen from `other`. Of digits across a corner two relations are true.

    >>> from diptych.data.claims import related
    >>> from diptych.data.scenes import Digit
    >>> rest = dict(value=1, colour="red", size="small", glyph=1, side=0.3)
    >>> one, other = Digit(centre=(0.2, 0.2), **rest), Digit(centre=(0.8, 0.8), **rest)
    >>> [name for name in ("left", "right", "above", "below") if related(name, one, other)]
    ['left', 'above']
    """
    axis = 0 if relation in ("left", "right") else 1
    distance = other.centre[axis] - one.centre[axis]
    return distance > _APART if relation in ("left", "above") else distance < -_APART


def quarter_of(digit: Digit) -> tuple[bool, bool]:
    """Whether it lies in the right half, and in the lower."""
    return digit.centre[0] > 0.5, digit.centre[1] > 0.5


def name_of(kind: Named) -> str:
    """Its plainest words: "a red three"."""
    noun = "digit" if kind.value is None else DIGITS[kind.value]
    phrase = " ".join(filter(None, (kind.size, kind.colour, noun)))
    return f"{article(phrase)} {phrase}"
