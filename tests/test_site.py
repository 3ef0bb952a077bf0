"""The site of docs/: its navigation holds every page, its drawings are what the code makes, and it
builds without a warning and without reaching for the network."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from diptych.experiments import demo
from docs._make import command_line, hooks, pictures, python_reference
from docs._make.examples import fenced

ROOT = Path(__file__).parents[1]
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def pages(entries) -> list[str]:
    """The pages of a navigation, in its order."""
    found = []
    for entry in entries:
        for below in entry.values():
            found += [below] if isinstance(below, str) else pages(below)
    return found


def test_the_navigation_holds_every_page_once():
    assert sorted(pages(CONFIG["nav"])) == sorted(path.name for path in ROOT.glob("docs/*.md"))


def test_what_maintainers_read_comes_last():
    assert pages(CONFIG["nav"])[-3:] == ["errata.md", "dependencies.md", "log.md"]
    assert not CONFIG["theme"]["font"]


def test_drawings_are_what_the_code_makes():
    for name, draw in pictures.PICTURES.items():
        assert (pictures.FOLDER / f"{name}.svg").read_text() == str(draw()), (
            f"{name}.svg is old: python -m docs._make.pictures"
        )


def test_every_picture_is_made_by_code_small_and_described_where_it_is_shown():
    made = {f"{name}.svg" for name in pictures.PICTURES}
    made |= {f"{name}.webp" for name in pictures.PHOTOGRAPHS}
    assert {path.name for path in pictures.FOLDER.iterdir()} == made
    shown = set[str]()
    for page in ROOT.glob("docs/*.md"):
        for words, name in re.findall(r"!\[(.*?)\]\(pictures/(.*?)\)", page.read_text()):
            assert len(words) > 20, f"{page.name}: say what {name} shows"
            shown.add(name)
    assert shown == made
    for name in made:
        assert (pictures.FOLDER / name).stat().st_size <= 60_000, name


def test_flags_stay_on_one_line():
    page = "<pre><code>--a</code></pre><p><code>x --batch-size 8</code><code>vit-b-32</code></p>"
    assert hooks.on_page_content(page) == (
        '<pre><code>--a</code></pre><p><code>x <span class="flag">--batch-size</span> 8</code>'
        '<code class="flag">vit-b-32</code></p>'
    )


@pytest.mark.slow
def test_photographs_are_taken_of_a_demo(tmp_path):
    pytest.importorskip("playwright")
    if not shutil.which("chromium"):
        pytest.skip("Chromium isn't installed")
    from docs._make import screenshots

    demo(tmp_path / "demo", steps=2)
    screenshots.write(tmp_path / "demo", tmp_path / "pictures")
    found = {path.stem: size_of(path) for path in (tmp_path / "pictures").iterdir()}
    assert sorted(found) == sorted(pictures.PHOTOGRAPHS)
    assert found["app"] == (1280, 760)
    assert found["app-phone"][0] == 585


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_a_page_of_a_verb_is_its_whole_help():
    page = command_line.text_of("search")
    assert page.startswith("# diptych search\n\nFind pictures")
    assert "$ diptych search --help-all" in page
    assert "\n| `--image-size INT` | " in page
    assert "\n## Optim options\n" in command_line.text_of("train RECIPE")
    assert len({command_line.page_of(name) for name in command_line.names()}) > 15
    for name, words in command_line.COMMANDS.items():
        assert "usage: diptych" in command_line.printed(words), name


def test_a_page_of_a_module_lists_its_names_and_examples_are_code():
    page = python_reference.text_of("diptych.search")
    assert "::: diptych.search.index.Hit\n" in page
    assert "::: diptych.search.update.update\n" in page
    assert "index.Index\n" not in page  # it is on the page of diptych
    assert "::: diptych.search.index.Index\n" in python_reference.text_of("diptych")
    assert (
        fenced("Text.\n\n>>> 1 + 1\n2\n\nMore.") == "Text.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nMore."
    )


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "search" / "search_index.json").exists()
    assert "--optim.lr" in (tmp_path / "command-line" / "train-recipe.html").read_text()
    for path in tmp_path.rglob("*.html"):
        fetched = re.findall(r'<(?:script|img)[^>]* src="(https?:[^"]*)', path.read_text())
        fetched += re.findall(
            r'<link[^>]* rel="stylesheet"[^>]* href="(https?:[^"]*)', path.read_text()
        )
        assert not fetched, path.name
