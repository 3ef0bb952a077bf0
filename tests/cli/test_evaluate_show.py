"""What `diptych evaluate` prints below its table: means of whole groups, and what isn't whole."""

from dataclasses import replace

import pytest

from diptych import datasets
from diptych.cli.evaluate_show import show_results
from diptych.evaluation import ResultKey, Results
from tests.reports.test_board import EVA_SETS, eva


def measured(names) -> Results:
    profile, found = datasets.profile("eva-clip-18b"), {}
    for name in names:
        for way in profile.of(datasets.get(name)).resize:
            found[ResultKey(name, "EVA-CLIP-18B", way)] = eva(name, way)
    return Results(found)


def means(out):
    """The lines of the table of means, by group."""
    lines = [line.split() for line in out.partition("mean of")[2].splitlines()[1:]]
    return {line[0]: line[1:] for line in lines if line}


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")


def test_the_three_averages_of_eva_clip_18b(capsys):
    show_results(measured(EVA_SETS), ["eva27,eva-video4", "eva-retrieval2"])
    found = means(capsys.readouterr().out)
    assert found["eva27"] == [*("80.72%", "(80.7)"), *("80.44%", "(80.4)"), *("80.39%", "(80.4)")]
    assert found["eva-video4"][:2] == ["75.00%", "(75.0)"]
    assert found["eva-retrieval2"][:2] == ["87.84%", "(87.8)"]


def test_an_incomplete_group_that_was_asked_for_says_what_is_missing(capsys):
    show_results(measured([name for name in EVA_SETS if name != "dtd"]), ["eva27", "eva-video4"])
    out = capsys.readouterr().out
    assert "eva27" not in means(out)
    assert "no mean of eva27 for EVA-CLIP-18B, crop, eva-clip-18b: dtd missing" in out
    assert "no mean of vtab+" not in out, "nobody asked for it"


def test_what_was_let_pass_is_said(capsys):
    [key] = [key for key in measured(["pets"]) if key.resize == "crop"]
    short = {"expected": 3_669, "used": 36, "remarks": ["36 samples instead of 3,669"]}
    result = eva("pets", "crop")
    show_results(Results({key: replace(result, data=result.data | short)}))
    assert "pets: 36 samples instead of 3,669" in capsys.readouterr().err
