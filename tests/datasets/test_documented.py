"""docs/evaluation-sets.md lists every set and profile as the code has them: these rows must stand
there."""

from pathlib import Path

import pytest

from diptych import datasets
from diptych.datasets.layouts import READERS

DOCS = (Path(__file__).parents[2] / "docs" / "evaluation-sets.md").read_text()


def row(entry):
    size = f"{entry.sizes['test']:,}" if "test" in entry.sizes else "not fixed"
    where = [f"`{entry.folders[0]}/`"] if entry.mirrors else []
    where += [f"torchvision `{entry.torchvision}`"] if entry.torchvision else []
    where += [f"`{entry.reader}`"] if entry.reader else []
    cells = (
        f"`{entry.name}`",
        entry.title,
        entry.classes or "–",
        size,
        entry.metric,
        ", ".join(where) or "folders, table",
    )
    return f"| {' | '.join(map(str, cells))} |"


def changes(profile):
    for name, change in sorted(profile.changes.items()):
        told = [f"split `{change.split}`"] if change.split else []
        told += [f"{change.size:,} samples"] if change.size else []
        told += [f"`{change.metric}`"] if change.metric else []
        told += [f"words of `{change.prompts}`"] if change.prompts else []
        told += [change.note] if change.note else []
        yield f"| `{profile.name}` | `{name}` | {'; '.join(told)} |"


@pytest.mark.parametrize("entry", datasets.select(("all",)), ids=lambda entry: entry.name)
def test_a_set_has_its_row(entry):
    assert row(entry) in DOCS


@pytest.mark.parametrize("name", datasets.profiles())
def test_a_profile_has_its_rows(name):
    assert f"| `{name}` |" in DOCS
    for line in changes(datasets.profile(name)):
        assert line in DOCS


def test_groups_and_layouts_are_named():
    for name in (*datasets.GROUPS, *READERS):
        assert f"`{name}`" in DOCS
