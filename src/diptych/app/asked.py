"""What the app is asked, read from JSON that a stranger may have written."""

import json
from dataclasses import dataclass
from typing import Annotated, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request

from diptych.bounded import parse_json
from diptych.config.ranges import Count, Finite, Range, Ranged
from diptych.config.serialize import read_as
from diptych.errors import ConfigError
from diptych.search import Where

T = TypeVar("T")

MAX_UPLOAD = 32 << 20
"""Bytes of a picture that is searched with."""
_MAX_JSON = 1 << 16
_MAX_TEXT, _MAX_TERMS, _MAX_NAMES = 1000, 20, 500


@dataclass(frozen=True, kw_only=True)
class TermAsked(Ranged):
    """A part of a query: one of a text, a picture of the index, an uploaded one."""

    text: str = ""
    picture: str = ""
    upload: str = ""
    weight: Finite = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(map(bool, (self.text, self.picture, self.upload))) != 1:
            raise ConfigError("a term is one of text, picture and upload")
        _check_text(self.text)


@dataclass(frozen=True, kw_only=True)
class SearchAsked(Ranged):
    """A page of the pictures that are nearest to a query."""

    terms: tuple[TermAsked, ...] = ()
    text: str = ""
    offset: Count = 0
    limit: Annotated[int, Range(1, 500)] = 60
    threshold: Annotated[float, Range(-1, 1)] = -1.0
    folders: tuple[str, ...] = ()
    after: str = ""
    before: str = ""
    larger: str = ""
    smaller: str = ""
    where: tuple[str, ...] = ()
    distinct: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        typed = (self.text, self.after, self.before, self.larger, self.smaller)
        for text in (*typed, *self.folders, *self.where):
            _check_text(text)
        if len(self.terms) > _MAX_TERMS:
            raise ConfigError(f"a query has at most {_MAX_TERMS} terms")
        if len(self.folders) + len(self.where) > _MAX_TERMS:
            raise ConfigError(f"a filter has at most {_MAX_TERMS} folders and conditions")

    @property
    def filter(self) -> Where | None:
        """Among which pictures is looked; None: all."""
        sizes = self.larger, self.smaller
        return Where.of(self.folders, self.after, self.before, *sizes, self.where)


@dataclass(frozen=True, kw_only=True)
class DuplicatesAsked(Ranged):
    """A page of the groups of near duplicates."""

    offset: Count = 0
    limit: Annotated[int, Range(1, 100)] = 20


@dataclass(frozen=True, kw_only=True)
class LabelsAsked(Ranged):
    """Names for a picture of the index, or an uploaded one."""

    names: tuple[str, ...]
    picture: str = ""
    upload: str = ""
    template: str = "{}"

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.picture) == bool(self.upload):
            raise ConfigError("labels are for one of picture and upload")
        if not 1 <= len(self.names) <= _MAX_NAMES:
            raise ConfigError(f"give 1 to {_MAX_NAMES} names")
        for text in (*self.names, self.template):
            _check_text(text)
        if not all(map(str.strip, self.names)) or len(set(self.names)) < len(self.names):
            raise ConfigError("a name is empty, or stands twice")


def _check_text(text: str) -> None:
    if len(text) > _MAX_TEXT:
        raise ConfigError(f"a text has at most {_MAX_TEXT:,} letters")


async def read_json(request: Request, kind: type[T]) -> T:
    """The request's body as a `kind`. Raises ConfigError for another, HTTPException for more than
    64 KB."""
    return parse_as(kind, await read_body(request, _MAX_JSON))


def parse_as(kind: type[T], data: bytes) -> T:
    """What JSON says, as a `kind`. Raises ConfigError.

    >>> from diptych.app.asked import SearchAsked, parse_as
    >>> parse_as(SearchAsked, b'{"text": "a dog", "after": "2024"}').filter.conditions
    (Condition(column='date', relation='>=', value='2024'),)
    """
    try:
        values = parse_json(data, finite=True)
        json.dumps(values, ensure_ascii=False).encode()  # no answer could hold half a character
    except ValueError as error:
        raise ConfigError(f"the request is not JSON: {error}") from error
    return read_as(kind, values, "the request")


async def read_body(request: Request, most: int) -> bytes:
    """The request's body. Raises HTTPException for more than `most` bytes."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > most:
            raise HTTPException(413, f"the request has more than {most:,} bytes")
    return bytes(data)
