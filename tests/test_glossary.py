"""Every place that docs/glossary.md names is there, and no word stands twice."""

import re
from pathlib import Path

import pytest

from diptych.components import import_object

PAGE = (Path(__file__).parents[1] / "docs" / "glossary.md").read_text()
PLACES = sorted(set(re.findall(r"`(diptych[\w.]*:[\w.]+)`", PAGE)))
TABLES = re.findall(r"^\| --- .*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
ROWS = [row for table in TABLES for row in table.splitlines()]


@pytest.mark.parametrize("place", PLACES)
def test_a_place_is_there(place):
    module, _, name = place.partition(":")
    first, _, field = name.partition(".")
    found = import_object(f"{module}:{first}")
    if field and field not in getattr(found, "__annotations__", {}):
        assert vars(found)[field].__doc__


@pytest.mark.parametrize("row", ROWS)
def test_a_word_has_a_place(row):
    assert re.search(r"`diptych[\w.]*:[\w.]+` \|$", row), row


@pytest.mark.parametrize("table", TABLES, ids=["own", "field"])
def test_words_are_in_order_and_none_stands_twice(table):
    words = [row.split(" | ")[0].removeprefix("| ") for row in table.splitlines()]
    assert words == sorted(set(words), key=str.casefold)
