"""docs/concepts.md says the ranks that the tests hold, and its places are there."""

import re
from pathlib import Path

import diptych
from tests.architecture.test_ranks import RANKS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "concepts.md").read_text()


def test_the_ranks_are_those_that_are_tested():
    said = {}
    for rank, rest in re.findall(r"^rank +(\d+)  (.*)$", PAGE, re.MULTILINE):
        said[int(rank)] = re.split(r" {3,}", rest)[0].split()
    assert {rank: sorted(rooms) for rank, rooms in said.items()} == {
        rank: sorted(rooms) for rank, rooms in RANKS.items()
    }


def test_its_files_and_folders_are_there():
    package = Path(diptych.__file__).parent
    places = re.findall(r"`([a-z_]+(?:/[a-z_*]+)*(?:/|\.py))`", PAGE)
    assert len(places) >= 20
    for place in places:
        assert any(package.rglob(place.rstrip("/"))), place


def test_links_of_the_documents_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+\.\w+)[^)]*\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
