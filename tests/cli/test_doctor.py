"""`diptych doctor`."""

import json

import pytest

from diptych.cli import main
from tests import tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doctor")
    for seed in (0, 1):
        tiny.save(folder / f"m{seed}", seed)
    tiny.write_pictures(folder / "photos", each=1)
    return folder


@pytest.fixture
def doctor(place, monkeypatch, capsys):
    monkeypatch.chdir(place)

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["doctor", *map(str, arguments), "--device", "cpu"])
        return end.value.code, *capsys.readouterr()

    return call


def test_a_difference_is_a_row_a_sentence_and_exit_code_1(doctor):
    code, out, _ = doctor("m0", "m1", "--images", "photos", "--texts", "a cat")
    assert code == 1
    row, *_ = [line for line in out.splitlines() if line.startswith(" weights")]
    assert "tensors differ" in row
    assert out.splitlines()[-1] == "weights differs first"


def test_json_holds_the_same(doctor):
    code, out, _ = doctor("m0", "m0", "--dtype", "fp32", "bf16", "--json")
    found = json.loads(out)
    assert (code, found["first"], found["costliest"]) == (1, "precision", "precision")
    [only] = found["differences"]
    assert (only["a"], only["b"]) == ("float32", "bfloat16")
    assert only["cosines"] == pytest.approx(found["cosines"], abs=1e-6)
    assert 0.9 < only["cosines"]["images"] < 1


def test_nothing_is_exit_code_0_also_alone_beside_what_was_published(doctor):
    code, out, _ = doctor("m0")
    assert (code, out.splitlines()[1:]) == (
        0,
        ["B: as tiny is published", "nothing differs: the same weights, inputs and vectors"],
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nowhere", "m0"), "nowhere"),
        (("m0", "m1", "--dtype", "fp32", "bf16", "fp16"), "--dtype takes one value for both"),
        (("m0", "m1", "--images", "nowhere.jpg"), "nowhere.jpg"),
        (("m0", "open_clip:ViT-B-32"), "says no weights"),
        (("m0", "open_clip:ViT-B-32", "--config", "tiny"), "says no weights"),  # it is for m0
        (
            ("transformers:x", "open_clip:y:z", "--config", "tiny"),
            "--config is for models that Dip",
        ),
    ],
)
def test_a_request_that_does_not_fit_is_one_sentence(doctor, arguments, sentence):
    code, _, err = doctor(*arguments)
    assert code == 2
    assert sentence in err
    assert "Traceback" not in err
