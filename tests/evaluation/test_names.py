"""Short names that tell paths apart."""

import itertools
import os

import pytest

from diptych.evaluation import Result, ResultKey, Results
from diptych.evaluation.names import model_names, short_names


@pytest.mark.parametrize(
    ("paths", "short"),
    [
        (["runs/a/", "b.pt"], ["a", "b.pt"]),
        (["a/test", "b/test"], ["a/test", "b/test"]),
        (["a/x/test", "b/x/test", "b/y/test"], ["a/x/test", "b/x/test", "y/test"]),
        (["test", "a/test", "b/a/test"], ["test", "a/test", "b/a/test"]),
        (["/test", "test"], ["/test", "test"]),
        ([r"C:\runs\a", r"D:\runs\a"], ["C:/runs/a", "D:/runs/a"]),
        (["hf-hub:one/vit", "hf-hub:two/vit"], ["hf-hub:one/vit", "hf-hub:two/vit"]),
    ],
)
def test_the_shortest_end_that_no_other_has(paths, short):
    for order in itertools.permutations(zip(paths, short)):
        given, expected = zip(*order)
        assert list(short_names(given).values()) == list(expected)


def test_spellings_of_one_place_share_a_name():
    spellings = [
        "a/test",
        "./a/test/",
        "a//test",
        r"a\test",
        os.path.abspath("a/test"),
        "b/../a/test",
    ]
    assert set(short_names([*spellings, "b/test"]).values()) == {"a/test", "b/test"}
    home = os.path.expanduser("~/model")
    assert len({*short_names(["~/model", home]).values()}) == 1


def test_different_places_never_share_a_name():
    parts = ("a", "b", "..", ".")
    paths = ["/".join(each) for n in (1, 2, 3) for each in itertools.product(parts, repeat=n)]
    names = short_names(paths)
    places = {path: os.path.abspath(path) for path in paths}
    assert len(set(names.values())) == len(set(places.values()))


def test_published_names_are_no_paths():
    names = ["ViT-B/32", "runs/ViT-B/32", "x/ViT-B/32"]
    assert model_names(names) == {
        "ViT-B/32": "ViT-B/32",
        "runs/ViT-B/32": "runs/ViT-B/32",
        "x/ViT-B/32": "x/ViT-B/32",
    }


def test_the_table_on_the_terminal_tells_models_apart():
    protocol = {"metric": "top1"}
    result = Result(task="zero-shot", metrics={"top1": 0.5}, protocol=protocol, data={}, model={})
    keys = [ResultKey("pets", f"runs/{run}/seed0", "crop") for run in "ab"]
    assert Results(dict.fromkeys(keys, result)).rows()[0][2:] == ["a/seed0, crop", "b/seed0, crop"]


def test_a_table_has_a_line_for_each_number_of_shots():
    def of(metrics):
        [*_, last] = metrics
        return Result(task="fewshot", metrics=metrics, protocol={"metric": last}, data={}, model={})

    one = {"1-shot": 0.25, "2-shot": 0.5}
    found = {ResultKey("fewshot/pets", "a", "crop"): of(one)}
    found[ResultKey("fewshot/pets", "b", "crop")] = of({"1-shot": 0.75})
    assert Results(found).rows()[1:] == [
        ["fewshot/pets", "2-shot", "50.00%", "—"],
        ["fewshot/pets", "1-shot", "25.00%", "75.00%"],
    ]
