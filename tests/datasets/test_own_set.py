"""An evaluation dataset from outside: one file, without touching the package."""

import sys
from dataclasses import replace

import pytest

from diptych import datasets
from diptych.cli import main
from diptych.datasets import EvaluationSet
from diptych.errors import ConfigError, DataError, UnknownNameError
from diptych.evaluation import evaluate
from tests import tiny
from tests.datasets import miniature

MODULE = '''
from pathlib import Path

from diptych.batch import Sample
from diptych.datasets import EvaluationSet, Files, Found, Wanted


def read(wanted: Wanted) -> Found | None:
    """pictures/SPLIT/CLASS-NUMBER.png"""
    folder = wanted.root / "pictures" / wanted.split
    paths = sorted(folder.glob("*.png"))
    samples = [
        Sample(key=path.name, image=str(path), label=int(path.name[0])) for path in paths
    ]
    source = Files(samples, "mine", folder)
    return Found(layout="mine", place=folder, source=source) if samples else None


COLOURS = EvaluationSet(
    name="my-colours",
    title="Colours",
    class_names=("red", "green"),
    templates=("a {} picture.",),
    sizes={"test": 4},
    reader=read,
)
BY_NAME = EvaluationSet(
    name="by-name",
    title="By name",
    classes=2,
    prompts=Path(__file__).with_name("colours.json"),
    reader=f"{__name__}:read",
)
FOLDERS = EvaluationSet(name="in-folders", title="In folders", classes=2)
NOTHING = 3
'''
PROMPTS = """{"classes": {"r": ["red", "crimson"], "g": "green"},
"templates": {"own": ["a photo in {}."]}}"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The module's name. Pictures of both splits lie beside it."""
    (tmp_path / "own_colours.py").write_text(MODULE)
    (tmp_path / "colours.json").write_text(PROMPTS)
    for split, count in (("train", 12), ("test", 4)):
        for number in range(count):
            for folder in (f"pictures/{split}", f"in-folders/{split}/{'ab'[number % 2]}"):
                (tmp_path / folder).mkdir(parents=True, exist_ok=True)
                path = tmp_path / folder / f"{number % 2}-{number:02}.png"
                path.write_bytes(miniature.png(number))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "own_colours"
    sys.modules.pop("own_colours", None)


def test_it_goes_by_import_path_wherever_a_name_does(module, tmp_path):
    entry = datasets.get(f"{module}:COLOURS")
    assert (entry.name, entry.classes, entry.metric) == ("my-colours", 2, "top1")
    assert datasets.select((f"{module}:COLOURS", "cifar10"))[0] is entry
    found = datasets.open_set(f"{module}:COLOURS", tmp_path)
    assert (found.layout, found.class_names, found.templates) == (
        "mine",
        ("red", "green"),
        ("a {} picture.",),
    )
    assert [found.source[index].label for index in range(4)] == [0, 0, 1, 1]
    assert datasets.open_set(f"{tmp_path}/own_colours.py:COLOURS", tmp_path).layout == "mine"


def test_names_and_templates_may_stand_in_a_file_beside_it(module, tmp_path):
    found = datasets.open_set(f"{module}:BY_NAME", tmp_path)
    assert (found.class_names, found.templates) == (("red", "green"), ("a photo in {}.",))
    (tmp_path / "colours.json").write_text("{}")
    with pytest.raises(DataError, match="holds no class names and templates"):
        datasets.open_set(f"{module}:BY_NAME", tmp_path)


def test_without_a_reader_it_lies_in_the_usual_layouts(module, tmp_path):
    found = datasets.open_set(f"{module}:FOLDERS", tmp_path)
    assert (found.layout, found.class_names) == ("folders", ("a", "b"))
    assert found.templates == ("a photo of a {}.",)


def test_it_is_evaluated_by_name_and_as_a_value(module, tmp_path):
    words = [f"{module}:COLOURS", f"linear/{module}:COLOURS", f"fewshot/{module}:FOLDERS"]
    results = evaluate(tiny.encoder(), words, data_root=tmp_path)
    assert [key.task for key in results] == [
        "my-colours",
        "linear/my-colours",
        "fewshot/in-folders",
    ]
    assert results.only(task="linear/my-colours").data["used"] == 4
    # Six training samples a class: four to learn from would need four more for the penalty.
    few = results.only(task="fewshot/in-folders")
    assert list(few.metrics) == ["top1_1_shot", "top1_2_shot"]
    assert (
        "4, 8, 16 shots are left out: a class has too few training samples" in (few.data["remarks"])
    )
    result = results.only(task="my-colours")
    assert (result.data["title"], result.protocol["templates"]) == ("Colours", ["a {} picture."])
    value = datasets.get(f"{module}:COLOURS")
    again = evaluate(tiny.encoder(), value, data_root=tmp_path).only()
    assert replace(again, date=result.date) == result


def test_the_command_line_takes_it(module, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = str(tiny.save(tmp_path / "model"))
    words = [
        "--tasks",
        f"{module}:BY_NAME",
        "own_colours.py:COLOURS",
        "--cache",
        "",
        "--out",
        "out",
    ]
    with pytest.raises(SystemExit) as end:
        main(["evaluate", model, "--device", "cpu", *words])
    assert end.value.code == 0
    assert "my-colours" in capsys.readouterr().out
    assert len(list((tmp_path / "out").glob("*.json"))) == 2


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("own_colours:NOTHING", "own_colours:NOTHING is no EvaluationSet, but int"),
        ("own_colours:COLOUR", "did you mean 'COLOURS'"),
        ("no_such_module:COLOURS", "there is no module no_such_module"),
    ],
)
def test_what_an_import_path_does_not_name_is_told(module, word, sentence):
    with pytest.raises(ConfigError, match=sentence):
        datasets.select((word,))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"class_names": ("a", "b"), "classes": 3}, "x has 3 classes, but 2 different class_names"),
        ({"class_names": ("a", "a")}, "x has 2 classes, but 1 different class_names"),
        ({}, "x says neither class_names nor how many classes there are"),
        ({"kind": "retrieval", "metric": "top1"}, "isn't scored by top1, but by mean_recall"),
    ],
)
def test_a_description_that_does_not_fit_is_told_where_it_is_made(fields, sentence):
    with pytest.raises(ConfigError, match=sentence):
        EvaluationSet(name="x", title="X", **fields)


def test_a_reader_that_nobody_knows_is_told(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'caltech101'"):
        datasets.open_set(EvaluationSet(name="x", title="X", classes=2, reader="caltech"), tmp_path)
