"""What is looked for: texts, pictures and vectors, weighted, added and subtracted.

Spelt in the words of a command line, or in one line of a search field:

    "2:red car" + photo.jpg - snow

A number and a colon before a term are its weight (no digit may follow: `16:9` is a text). The
vector of a query is the sum of its terms' unit vectors, each times its weight, scaled to length 1.
"""

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from diptych.data.pictures import is_picture
from diptych.data.remote import shown
from diptych.encoder import Encoder
from diptych.errors import ConfigError, DataError
from diptych.inputs import Picture as Image
from diptych.search.fetch import fetch_picture
from diptych.search.pictures import find_member

_SIGNS = {"+": 1.0, "-": -1.0}
_SIGN = re.compile(r"(?:^|(?<=\s))([+-])(?=\s|$)")
_WEIGHT = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?):(?![0-9])(.+)", re.DOTALL)
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://\S+")
_NOTHING = 1e-5
"""Length of a sum, beside its weights', of which only rounding is left."""


@dataclass(frozen=True)
class Term:
    """A part of a query.

    >>> from diptych.search import Query, Term
    >>> str(Query((Term("red car", 2.0), Term("snow", -1.0))))
    '2:red car - snow'
    """

    what: Image
    """A text, whatever it looks like; a picture as `Encoder.embed_images` takes it, of a file by a
    `Path`, not a string; or a vector (float [width])."""
    weight: float = 1.0
    """How much it counts; below 0: what the pictures should not be like."""
    called: str = ""
    """What to call a picture that has no path."""

    def __post_init__(self) -> None:
        if isinstance(self.what, str) and not self.what.strip():
            raise ConfigError("the query is empty; say what to look for")
        if not math.isfinite(self.weight) or not self.weight:
            raise ConfigError(f"the weight {self.weight:g} of {self} must be a number other than 0")

    @property
    def is_vector(self) -> bool:
        """Whether it is in the shared space already."""
        return isinstance(self.what, Tensor) and self.what.ndim == 1

    def __str__(self) -> str:
        """Without its weight."""
        if self.called:
            return self.called
        if isinstance(self.what, str | os.PathLike):
            return os.fspath(self.what)
        return "a vector" if self.is_vector else "a picture"


@dataclass(frozen=True)
class Query:
    """What is looked for: a text, a picture, or several of them together."""

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        if not self.terms:
            raise ConfigError("the query is empty; say what to look for")

    @classmethod
    def from_words(cls, words: Sequence[str], *, fetch: bool = False) -> "Query":
        """A query in the words of a command line, with `+` or `-` as words of their own between
        terms. A word that is the path of a file (SHARD.tar/KEY.ENDING, too) is a picture; one that
        ends like a picture's name must be one. So files are looked for: for what strangers typed
        there is `from_text`. With `fetch`, a URL is a picture that is fetched.

        Raises ConfigError for words that are no query, DataError for a picture that isn't there, a
        folder, or a URL without `fetch`.

        >>> from diptych.search import Query
        >>> car, snow = Query.from_words(["2:red car", "-", "snow"]).terms
        >>> car.what, car.weight, snow.weight
        ('red car', 2.0, -1.0)
        """
        return cls(tuple(_resolved(term, fetch) for term in _terms(words)))

    @classmethod
    def from_text(cls, text: str) -> "Query":
        """A query in one line, with `+` or `-` between spaces: of texts alone, whatever they look
        like. No file is looked for and nothing is fetched. Raises ConfigError if it is none.

        >>> from diptych.search import Query
        >>> file, shirt = Query.from_text("/etc/passwd - 0.5:a t-shirt").terms
        >>> file.what, shirt.what, shirt.weight
        ('/etc/passwd', 'a t-shirt', -0.5)
        """
        return cls(tuple(_terms([part.strip() for part in _SIGN.split(text) if part.strip()])))

    def __str__(self) -> str:
        """As it could be typed."""
        words = list[str]()
        for term in self.terms:
            if words or term.weight < 0:
                words.append("-" if term.weight < 0 else "+")
            heavy = f"{abs(term.weight):g}:" if abs(term.weight) != 1 else ""
            words.append(f"{heavy}{term}")
        return " ".join(words)


AnyQuery = str | Path | Tensor | Query
"""What `Index.search` takes: one word as `Query.from_words` reads it, the path of a picture, a
vector, or a query."""


def as_query(query: AnyQuery) -> Query:
    """The query that it is short for."""
    match query:
        case Query():
            return query
        case str():
            return Query.from_words([query])
        case _:
            return Query((Term(query),))


def encode(
    queries: Sequence[Query], encoder: Callable[[], Encoder], width: int
) -> Float[Tensor, "queries width"]:
    """The unit vectors of queries: all texts encoded together, and all pictures. The `encoder` is
    asked for where there are any.

    Raises ImageError for a picture that can't be read, ConfigError for a vector that doesn't fit,
    and for terms that cancel out.
    """
    terms = [term for query in queries for term in query.terms]
    parts = torch.zeros(len(terms), width)
    texts, pictures = list[int](), list[int]()
    for place, term in enumerate(terms):
        if isinstance(term.what, str):
            texts.append(place)
        elif term.is_vector:
            parts[place] = _vector(term.what, width)
        else:
            pictures.append(place)
    if texts:
        parts[texts] = encoder().embed_texts([str(terms[place].what) for place in texts])
    if pictures:
        found = encoder().stream(
            pictures, read=lambda place: terms[place].what, name=lambda place: str(terms[place])
        )
        for places, vectors in found:
            parts[places] = vectors
    weights = torch.tensor(list(chain.from_iterable(map(_ratios, queries))))
    owner = torch.tensor([place for place, query in enumerate(queries) for _ in query.terms])
    sums = torch.zeros(len(queries), width).index_add(0, owner, parts * weights[:, None])
    whole = torch.zeros(len(queries)).index_add(0, owner, weights.abs())
    for query, nothing in zip(queries, sums.norm(dim=1) < _NOTHING * whole, strict=True):
        if nothing:
            raise ConfigError(f"the terms of {query} cancel out: nothing is left to look for")
    return normalize(sums, dim=1)


def _ratios(query: Query) -> list[float]:
    """Its weights beside the largest: float32 has none above 1e38, and nothing below 1e-45."""
    largest = max(abs(term.weight) for term in query.terms)
    return [term.weight / largest for term in query.terms]


def _vector(what: object, width: int) -> Float[Tensor, " width"]:
    assert isinstance(what, Tensor)
    vector = what.detach().float().cpu()
    if vector.shape != (width,):
        raise ConfigError(f"the query has shape {tuple(vector.shape)}; the index holds [{width}]")
    if not vector.isfinite().all():
        raise ConfigError("the query is a vector with numbers that are not finite")
    return normalize(vector, dim=0)


def _terms(words: Sequence[str]) -> list[Term]:
    """Texts with their weights."""
    found, sign = list[Term](), ""
    for word in words:
        if word in _SIGNS and sign:
            raise ConfigError(f"nothing stands between {sign} and {word} in the query")
        if word in _SIGNS:
            sign = word
            continue
        if found and not sign:
            raise ConfigError(
                f"{str(found[-1])!r} and {word!r} stand side by side: put a text of several words "
                "in quotes, or + or - between two terms"
            )
        weighted = _WEIGHT.fullmatch(word)
        weight, text = (float(weighted[1]), weighted[2].strip()) if weighted else (1.0, word)
        found.append(Term(text, _SIGNS[sign or "+"] * weight))
        sign = ""
    if sign:
        raise ConfigError(f"nothing stands after {sign} in the query")
    return found


def _resolved(term: Term, fetch: bool) -> Term:
    """With the picture that the text names, if it names one."""
    word = str(term)
    if os.path.isfile(word):
        return replace(term, what=Path(word))
    if member := find_member(word):
        return replace(term, what=member.read(), called=word)
    if _URL.fullmatch(word):
        if not fetch:
            raise DataError(
                f"{shown(word)} is a URL, and nothing is fetched unless asked for: add --fetch, "
                "Query.from_words(..., fetch=True), or save the picture first"
            )
        return replace(term, what=fetch_picture(word), called=shown(word))
    if is_picture(word):
        there = os.path.exists(word)
        raise DataError(f"{word} is no regular file" if there else f"there is no picture {word}")
    if os.sep in word and os.path.isdir(word):
        raise DataError(f"{word} is a folder; a query is a text, or one picture")
    return term
