"""`diptych convert`."""

import json
import re
from dataclasses import replace

import pytest
import torch

import diptych
from diptych import models
from diptych.checkpoints import load_image_tower, load_model
from diptych.checkpoints.convert import targets
from diptych.cli import main
from diptych.config import ClipConfig
from diptych.families.clip import TextConfig, VitConfig
from diptych.families.eva.layouts import eva
from diptych.families.unireplknet import UniRepLKNetConfig
from diptych.weights.native import save_model
from tests.families.eva.small import MODELS

SMALL = ClipConfig(
    image=VitConfig(image_size=32, patch_size=16, width=64, layers=1, heads=1, mlp_width=64),
    text=TextConfig(width=64, layers=1, heads=1, mlp_width=64),
    embed_dim=32,
)


def test_there_and_back(tmp_path, capsys):
    model = models.build(SMALL).eval()
    for source, to in (
        (save_model(tmp_path / "model", model), "open-clip"),
        (tmp_path / "open-clip", "native"),
    ):
        with pytest.raises(SystemExit) as error:
            main(["convert", str(source), "--to", to, "--out", str(tmp_path / to)])
        assert error.value.code == 0
        assert capsys.readouterr().out == f"{tmp_path / to}\n"
    vectors = diptych.load(tmp_path / "native", "cpu").embed_texts("a cat")
    torch.testing.assert_close(vectors, diptych.Encoder(model).embed_texts("a cat"))


def test_a_json_file_describes_the_weights(tmp_path, capsys):
    config = MODELS["eva02-b"]
    model = models.build(config).eval()
    save_model(tmp_path / "model", model)
    (tmp_path / "cfg.json").write_text(json.dumps(eva.to_json(config)))
    for source, to, given in (
        ("model", "eva", []),
        ("eva", "native", ["--config", str(tmp_path / "cfg.json")]),
    ):
        with pytest.raises(SystemExit) as error:
            main(
                ["convert", str(tmp_path / source), "--to", to, "--out", str(tmp_path / to), *given]
            )
        assert error.value.code == 0
        capsys.readouterr()
    assert load_model(tmp_path / "native").config == config


def test_an_image_tower_is_merged_and_written_alone(tmp_path, capsys):
    image = UniRepLKNetConfig(
        depths=(1, 1, 1, 1), widths=(8, 8, 8, 8), kernel_sizes=((3,), (13,), (13,), (3,))
    )
    source = save_model(tmp_path / "model", models.build(replace(SMALL, image=image)))
    with pytest.raises(SystemExit) as error:
        main(
            [
                "convert",
                str(source),
                "--to",
                "unireplknet",
                "--deploy",
                "--out",
                str(tmp_path / "trunk.pth"),
            ]
        )
    assert error.value.code == 0
    assert capsys.readouterr().out == f"{tmp_path / 'trunk.pth'}\n"
    assert load_image_tower(tmp_path / "trunk.pth").config.deploy


def test_an_unknown_layout_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        main(["convert", str(tmp_path), "--to", "tensorflow", "--out", str(tmp_path / "x")])
    assert error.value.code == 2
    assert "open-clip" in capsys.readouterr().err


def test_a_place_below_a_file_is_refused_before_the_weights_are_read(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as error:
        main(["convert", "nowhere.pt", "--out", str(tmp_path / "file" / "out")])
    assert error.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "file (--out): Not a directory; choose another --out" in said


def test_help_names_every_layout_that_is_written(capsys):
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    said = re.findall(r"[\w-]+", capsys.readouterr().out.partition("layout to write")[2])
    assert set(targets()) <= set(said)
