"""docs/extending.md from top to bottom: its files are written into a folder, and its commands and
scripts run there, each in a process of its own, as a stranger would run them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from diptych.config import Run
from diptych.config.serialize import from_json, to_json
from tests import documents
from tests.documents import Step, files, steps

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()


def sections() -> dict[str, str]:
    """What stands below each heading of the second order, by its words."""
    parts = re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


SECTIONS = {title: text for title, text in sections().items() if steps(text)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All files of the page, the package installed beside them, and the first run."""
    root = tmp_path_factory.mktemp("extending")
    for name, text in files(PAGE).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    install(root / "postcard", root / "site")
    for step in steps(SECTIONS["A recipe"]):
        execute(step, root)
    return root


def install(package: Path, site: Path) -> None:
    """As `pip install` does it, without an index: the dependencies are here."""
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--target", str(site)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(package)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def execute(step: Step, folder: Path, code: int = 0) -> str:
    """As `documents.execute`, with the package of the page; what the page shows must be printed."""
    text = documents.execute(step, folder, code, path=str(folder / "site"))
    for line in step.said:
        assert line in text, (step.rest, text)
    return text


def said(folder: Path, command: str, code: int = 2) -> str:
    """What the command line answers, on one line."""
    text = execute(Step("diptych", command, []), folder, code)
    return " ".join(text.split())


def saved(folder: Path, out: str) -> Run:
    return from_json(Run, (folder / out / "run.json").read_text())


def last(folder: Path, out: str) -> dict:
    """The last line of a run's metrics."""
    return json.loads((folder / out / "metrics.jsonl").read_text().splitlines()[-1])


@pytest.fixture
def theirs(folder, monkeypatch):
    """The page's modules, importable here."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in set(sys.modules) - before:
        if name in ("cyclip", "mixer", "sqlite_pairs", "shape_set"):
            del sys.modules[name]


@pytest.mark.parametrize("title", [title for title in SECTIONS if title != "A recipe"])
def test_what_stands_in_a_section_runs(folder, title):
    for step in steps(SECTIONS[title]):
        execute(step, folder)


def test_a_run_of_the_page_was_saved_and_resumed(folder):
    checkpoints = [path.name for path in sorted((folder / "runs/shapes/checkpoints").iterdir())]
    assert checkpoints == ["step-00000003", "step-00000005"]


@pytest.mark.parametrize(
    ("out", "part", "kind"),
    [
        ("runs/cyclip", ("objective",), "cyclip:CycClipConfig"),
        ("runs/mixer", ("model", "custom", "image"), "mixer:MixerConfig"),
        ("runs/pairs", ("data", "source"), "sqlite_pairs:SqliteConfig"),
    ],
)
def test_what_was_saved_by_import_path_loads_again(theirs, out, part, kind):
    """After `test_what_stands_in_a_section_runs`."""
    text = (theirs / out / "run.json").read_text()
    values = json.loads(text)
    for name in part:
        values = values[name]
    assert values["type"] == kind
    run = saved(theirs, out)
    assert to_json(run) == text
    assert last(theirs, out)["step"] in (5, 10)


def test_flags_reach_the_fields_of_a_strangers_configuration(theirs):
    assert saved(theirs, "runs/cyclip").objective.in_modal == 0.5
    assert saved(theirs, "runs/mixer").model.image.stochastic_depth == 0.1


def test_the_objective_of_the_page_is_the_same_in_pieces(folder):
    whole = json.loads((folder / "runs/cyclip/metrics.jsonl").read_text().splitlines()[0])
    pieces = last(folder, "runs/pieces")
    assert whole["step"] == pieces["step"] == 3
    for name in ("loss", "in_modal", "cross_modal", "grad_norm"):
        assert pieces[name] == pytest.approx(whole[name], rel=1e-3), name


def test_messages_are_those_of_the_page(folder, tmp_path):
    page = " ".join(PAGE.split())
    (tmp_path / "run").mkdir()
    values = json.loads((folder / "runs/shapes/run.json").read_text())
    values["objective"] = {"type": "cyclip:CycClipConfig"}
    (tmp_path / "run" / "run.json").write_text(json.dumps(values))
    for place, command in (
        (tmp_path, "train --resume run"),
        (folder, "train my_runs.py:shapes --objective cyclip.py:CyClipConfig"),
    ):
        answer = said(place, command).removeprefix("diptych: ")
        assert answer in page, answer
    command = f"evaluate {folder}/runs/shapes --tasks {folder}/shape_set.py:SHAPES"
    nothing = said(tmp_path, command, code=1)
    assert re.search(r"Shapes \(split test\) isn't in \. .* in shapes/", nothing)[0] in page


def test_a_package_that_cannot_be_imported_is_named(folder, tmp_path):
    """The page's last message, of a copy that lacks a module."""
    broken = tmp_path / "site" / "postcard"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("from diptych.families import Famly\n")
    info = next((folder / "site").glob("postcard-*.dist-info"))
    (broken.parent / info.name).mkdir()
    for name in ("METADATA", "entry_points.txt"):
        (broken.parent / info.name / name).write_text((info / name).read_text())
    answer = said(tmp_path, "models 'postcard*'")
    assert "the family postcard of the package postcard can't be imported (ImportError: " in answer
    assert answer.endswith("update or uninstall the package")
