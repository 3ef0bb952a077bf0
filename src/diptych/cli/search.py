"""diptych search photos.index "a dog on the beach" --top 12"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from diptych.bounded import read_lines
from diptych.cli.filters import Filters
from diptych.cli.found_page import write_page
from diptych.cli.options import OfIndex
from diptych.cli.parse import parse
from diptych.cli.show import Names, say, show, shown_path
from diptych.config.ranges import Range, Some
from diptych.errors import ConfigError, DataError
from diptych.writable import check_file

if TYPE_CHECKING:
    from diptych.search import Hit, Index, Query

_PART = 4096
"""Queries that are looked for at a time: all that is in memory of a file of them."""


@dataclass(frozen=True, kw_only=True)
class Search(OfIndex, Filters):
    """Find pictures in an index by a text, by a picture, or by several of them.

    diptych search photos.index "a dog on the beach" --top 12 --html dogs.html
    diptych search photos.index "2:red car" + photo.jpg - snow
    diptych search photos.index "a dog" --in photos/2024 --after 2024-06 --where 'camera=Canon*'
    """

    query: Annotated[Positional[tuple[str, ...]], arg(metavar="QUERY")] = ()
    """A text, or the path of a picture (SHARD.tar/KEY.jpg of one in a shard); several with + or -
    between them, each with its weight before it (2:snow) if that isn't 1."""
    queries: str = ""
    """Instead of one: a file with a text, or the path of a picture, a line."""
    fetch: bool = False
    """Fetch what is a URL (http, https) in the query."""
    top: Some = 12
    """How many."""
    threshold: Annotated[float, Range(-1, 1)] | None = None
    """Only those with at least this score."""
    approximate: bool = False
    """Search a graph beside the index, which is made if need be, instead of all vectors: for more
    than ten million. Its recall is said."""
    paths_only: bool = False
    """Paths alone, one a line, for other programs."""
    null: bool = False
    """Paths alone, a NUL after each (for xargs -0): names with a line break, too."""
    json: bool = False
    """A line of JSON for each query: the query, and of each picture found path, score, and what
    else is known."""
    html: str = ""
    """Write the pictures found as a page to this file."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    options = parse(Search, "search", arguments)
    _check(options)
    index = options.open()
    where = options.chosen()
    among = len(index) if options.approximate else index.count(where)
    if options.approximate:
        _say_recall(index)
    for queries in _queries(options):
        found = index.search_many(
            queries,
            options.top,
            threshold=options.threshold,
            where=where,
            approximate=options.approximate,
        )
        _tell(options, index, among, zip(queries, found, strict=True))


def _tell(
    options: Search, index: "Index", among: int, found: "Iterable[tuple[Query, list[Hit]]]"
) -> None:
    for query, hits in found:
        if not hits:
            _say_nothing(options, query, index, among)
        if options.html:
            say(write_page(options.html, query, hits, index, among), error=True)
        if options.json:
            say(_as_json(query, hits, index))
        elif options.paths_only or options.null:
            _print_paths(options, hits)
        else:
            if options.queries:
                say(query)
            _print_table(hits)


def _say_recall(index: "Index") -> None:
    from diptych.search.approximate import SAMPLE, TOP

    graph = index.graph(progress=True)
    made = "; its graph was missing or not current, and was made" if graph.is_new else ""
    say(
        f"approximate: recall@{TOP} {graph.recall:.3f} beside the exact search, by {SAMPLE} of the "
        f"index's own pictures (texts may find less){made}",
        error=True,
    )


def _check(options: Search) -> None:
    """Raises ConfigError for flags that don't go together."""
    if bool(options.query) == bool(options.queries):
        raise ConfigError(
            'say what to look for, once: `diptych search X.index "a red seven"`, or --queries FILE'
        )
    if options.queries and (options.html or options.paths_only or options.null):
        raise ConfigError(
            "--html, --paths-only and --null are for one query; of --queries, --json says all"
        )
    if options.html:
        check_file(options.html, "--html")
    if not Path(options.index).exists():
        for word in options.query:
            if (Path(word) / "meta.json").is_file():
                raise ConfigError(
                    f"the index comes first: `diptych search {word} {options.index!r}`"
                )


def _queries(options: Search) -> "Iterator[list[Query]]":
    """All of them, or those of a file in parts."""
    from diptych.search import Query

    if not options.queries:
        yield [Query.from_words(options.query, fetch=options.fetch)]
        return
    lines = _lines(options.queries)
    if not (part := list(islice(lines, _PART))):
        raise DataError(f"--queries {options.queries} is empty: write a query a line")
    while part:
        yield [Query.from_words([line], fetch=options.fetch) for line in part]
        part = list(islice(lines, _PART))


def _lines(path: str) -> Iterator[str]:
    """Those of a file that aren't empty."""
    try:
        yield from filter(None, map(str.strip, read_lines(path)))
    except ValueError as error:
        raise DataError(f"--queries {path} can't be read: {error}") from None


def _say_nothing(options: Search, query: "Query", index: "Index", among: int) -> None:
    if not len(index):
        said = f"{options.index} holds no pictures"
    elif not among:
        said = f"of its {len(index):,} pictures, none is such as the filters ask for"
    else:
        said = f"nothing reaches the score {options.threshold:g} for {query}"
    say(said, error=True)


def _as_json(query: "Query", hits: "Sequence[Hit]", index: "Index") -> str:
    found = list[dict[str, object]]()
    for hit in hits:
        text = {"text": hit.picture.text} if hit.picture.text else {}
        known = index.metadata.of(hit.row)
        found.append({"path": hit.path, **text, "score": round(hit.score, 6), "metadata": known})
    return json.dumps({"query": str(query), "hits": found}, default=str)


def _print_paths(options: Search, hits: "Sequence[Hit]") -> None:
    if options.paths_only and sys.stdout.isatty():
        for hit in hits:
            say(shown_path(hit.path))
        return
    # Bytes: a file name need not be text.
    end = b"\0" if options.null else b"\n"
    sys.stdout.buffer.writelines(os.fsencode(hit.path) + end for hit in hits)


def _print_table(hits: "Sequence[Hit]") -> None:
    table = Names("", "score", "picture")
    for rank, hit in enumerate(hits, 1):
        gone = "" if os.path.exists(hit.picture.file) else " (gone)"
        called = hit.picture.text or shown_path(hit.path) + gone
        table.add_row(str(rank), f"{hit.score:.4f}", called)
    show(table)
