"""A model is exported, run by ONNX Runtime, and refused where it can't be."""

import json
import pickle
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import diptych
from diptych import Encoder, models
from diptych.checkpoints import convert, load_model
from diptych.config import ClipConfig
from diptych.encoder import attention_weights
from diptych.errors import CheckpointError, ConfigError, DamagedError, UnknownNameError
from diptych.export import export, load_exported
from diptych.export.kinds import KINDS
from diptych.export.onnx_file import write_onnx
from diptych.export.programs import program
from diptych.families.clip import TextConfig, VitConfig
from diptych.weights import exported
from diptych.weights.native import save_model
from tests import tiny

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

CONFIG = ClipConfig(
    image=VitConfig(image_size=32, patch_size=16, width=32, layers=1, heads=2, mlp_width=64),
    text=TextConfig(width=32, layers=1, heads=2, mlp_width=64),
    embed_dim=16,
    token_dim=8,
)
TEXTS = ["a cat", "a photo of two dogs that run on a beach", "snow"]
IDS = torch.full((2, 77), 5)
PICTURES = [tiny.picture(colour) for colour in ("red", "blue", "green")]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path]:
    """A model and what it was exported to."""
    folder = tmp_path_factory.mktemp("export")
    torch.manual_seed(0)
    source = save_model(folder / "model", models.build(CONFIG))
    comparison = export(source, "onnx", folder / "out.onnx", pictures=PICTURES)
    assert comparison.least > 0.99999
    assert comparison.top1 == 1
    return source, folder / "out.onnx"


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return Path(shutil.copytree(made[1], tmp_path / "copy.onnx"))


def test_it_travels_to_another_process(made):
    clip = diptych.load(made[1])
    wanted = clip.embed_images(PICTURES)
    for again in (pickle.loads(pickle.dumps(clip.model)), deepcopy(clip.model)):
        found = Encoder(again).embed_images(PICTURES)
        np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))
    found = pickle.loads(pickle.dumps(clip)).embed_images(PICTURES)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


def test_an_encoder_runs_the_folder(made):
    ours, other = diptych.load(made[0], "cpu"), diptych.load(made[1])
    torch.testing.assert_close(
        other.embed_images(PICTURES), ours.embed_images(PICTURES), atol=2e-6, rtol=0
    )
    torch.testing.assert_close(other.embed_texts(TEXTS), ours.embed_texts(TEXTS), atol=2e-6, rtol=0)
    said, wanted = (each.classify(PICTURES[0], ["cat", "dog"]) for each in (other, ours))
    assert said == pytest.approx(wanted, abs=1e-5)
    assert (other.dtype, other.device.type, other.name) == ("fp32", "cpu", str(made[1]))


def test_its_identity_is_its_own_and_stays(made, copy):
    first, again = diptych.load(made[1]).identity, diptych.load(copy).identity
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != diptych.load(made[0], "cpu").identity.fingerprint


def test_onnx_runtime_alone_runs_it_with_any_number_of_rows(made):
    session = onnxruntime.InferenceSession(made[1] / "image.onnx")
    pixels = np.random.default_rng(0).normal(size=(7, 3, 32, 32)).astype(np.float32)
    together = session.run(None, {"image": pixels})[0]
    alone = session.run(None, {"image": pixels[:1]})[0]
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(alone, together[:1], atol=1e-6)
    words = onnxruntime.InferenceSession(made[1] / "text.onnx")
    ids = np.array([[49406, 320, 2368, 49407]] * 3, dtype=np.int32)
    padded = np.pad(ids, ((0, 0), (0, 73)))
    short, long = (words.run(None, {"text": each})[0] for each in (ids, padded))
    np.testing.assert_allclose(short, long, atol=1e-6)


def test_the_folder_says_what_it_is(made):
    said = json.loads((made[1] / "export.json").read_text())
    assert (said["kind"], said["precision"]) == ("onnx", "fp32")
    assert said["check"]["top1"] == 1
    assert said["check"]["towers"][0]["least"] > 0.99999
    assert {"image.onnx", "text.onnx", "vocab.json", "merges.txt"} <= said["files"].keys()


def test_what_needs_the_model_is_refused(made, tmp_path):
    encoder = diptych.load(made[1])
    with pytest.raises(ConfigError, match="exported .to onnx., and gives vectors alone"):
        encoder.explain(PICTURES[0], "a cat")
    with pytest.raises(ConfigError, match="has no attention that Diptych computes"):
        attention_weights(encoder, PICTURES[0])
    for work in (
        lambda: load_model(made[1]),
        lambda: convert(made[1], "native", tmp_path / "out"),
        lambda: export(made[1], "onnx", tmp_path / "out"),
    ):
        with pytest.raises(CheckpointError, match="is an exported model: it runs .* no weights"):
            work()
    with pytest.raises(ConfigError, match="leave dtype, image_size out, or export it anew"):
        diptych.load(made[1], dtype="bf16", image_size=64)


@pytest.mark.parametrize(
    ("side", "given", "said"),
    [
        ("image", torch.zeros(1, 3, 48, 48), r"onnx can't run this tower on an input of \(1, 3"),
        ("text", torch.cat([IDS, IDS], 1), r"\(2, 154\); this model takes \[texts, at most 77 tok"),
        ("text", IDS + 49404, "ids from 49409 to 49409; this model's vocabulary has 49408: are"),
        ("text", IDS - 6, "ids from -1 to -1"),
    ],
)
def test_what_the_programs_were_not_made_for_is_one_sentence(made, side, given, said):
    model = load_exported(made[1]).model
    with pytest.raises(ConfigError, match=said):
        (model.encode_image if side == "image" else model.encode_text)(given)


def test_pixels_with_a_gradient_and_batches_of_none(made):
    model = load_exported(made[1]).model
    pixels = torch.zeros(1, 3, 32, 32, requires_grad=True)
    assert model.encode_image(pixels).shape == (1, 16)
    assert model.encode_image(pixels[:0]).shape == model.encode_text(IDS[:0]).shape == (0, 16)


@pytest.mark.parametrize("name", ["image.onnx", "text.onnx", "merges.txt"])
@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
def test_damage_is_said(copy, name, how):
    content = bytearray((copy / name).read_bytes())
    if how == "gone":
        (copy / name).unlink()
    else:
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content[: -9 if how == "cut" else None])
    with pytest.raises(DamagedError, match=f"{name} (has|doesn't|is missing)"):
        diptych.load(copy)


def test_another_models_file_is_damage(copy):
    shutil.copy(copy / "image.onnx", copy / "text.onnx")
    with pytest.raises(DamagedError, match="text.onnx"):
        diptych.load(copy)


ABOUT = exported.Exported(
    kind="onnx",
    precision="fp32",
    config=replace(CONFIG, token_dim=None),
    scale=1.0,
    bias=None,
    provenance={},
)


@pytest.mark.parametrize("what", ["no program", "another opset"])
def test_what_the_runtime_cannot_run_is_named_with_its_tower(copy, what):
    path = copy / "text.onnx"
    if what == "no program":
        path.write_bytes(b"nothing")
    else:
        program = onnx.load(path)
        program.opset_import[0].version = 99
        onnx.save(program, path)
    exported.describe(copy, ABOUT)  # as a stranger may
    with pytest.raises(CheckpointError, match="ONNX Runtime can't run the text tower, .*text.onnx"):
        diptych.load(copy)


@pytest.mark.parametrize("scale", [float("nan"), 100.0])
def test_a_scale_that_is_none_is_refused(copy, scale):
    exported.describe(copy, replace(ABOUT, scale=scale))
    with pytest.raises(DamagedError, match="logit_scale is (nan|100), the logarithm of a factor"):
        diptych.load(copy)


def test_descriptions_of_strangers(copy):
    said = json.loads((copy / "export.json").read_text())

    def write(**changes):
        (copy / "export.json").write_text(json.dumps(said | changes))

    for changes, sentence in (
        ({"kind": "onxx"}, "no kind of exported model is called 'onxx'; did you mean 'onnx'"),
        ({"kind": "torch-export"}, "torch.export.load reads by evaluating"),
        ({"version": 2}, "this Diptych reads 1: update it"),
        ({"format": "other"}, "is not the description of an exported model"),
        ({"files": {"../x": {"bytes": 1, "sha256": ""}}}, "names a file elsewhere, '../x'"),
        ({"files": {"image.onnx": {"bytes": 1, "sha256": ""}}}, "has no sha256 of image.onnx"),
        ({"files": {}}, "lists no image.onnx, the image tower's program"),
        ({"files": 3}, "doesn't describe an exported model"),
        ({"config": {}}, "doesn't describe an exported model"),
    ):
        write(**changes)
        with pytest.raises((CheckpointError, UnknownNameError), match=sentence):
            load_exported(copy)


def test_too_far_from_the_model_leaves_nothing(tmp_path, random_model):
    config = replace(CONFIG, token_dim=None)
    source = save_model(tmp_path / "model", random_model(config))
    with pytest.raises(CheckpointError, match=r"\(int8\) is too far .* below the cosine 1 .*0\.9"):
        export(source, "onnx", tmp_path / "out", int8=True, min_cosine=1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


class Strange(nn.Module):
    def forward(self, image):
        return torch.special.bessel_j0(image).mean((2, 3))


def test_an_operator_that_is_lacking_is_named_with_the_tower(tmp_path):
    made = program(Strange(), CONFIG, "image")
    with pytest.raises(CheckpointError, match="ONNX can't hold the image tower: .*bessel_j0"):
        write_onnx(made, tmp_path / "image.onnx", "image")


def test_bad_asking(made, tmp_path):
    with pytest.raises(UnknownNameError, match="no layout is called 'onx'; did you mean 'onnx'"):
        export(made[0], "onx", tmp_path / "out")
    with pytest.raises(CheckpointError, match="exists and holds something else"):
        export(made[0], "onnx", made[1])
    with pytest.raises(CheckpointError, match="none of the pictures to compare on can be read"):
        export(made[0], "onnx", tmp_path / "out", pictures=[b"nothing"])
    assert not (tmp_path / "out").exists()
    assert isinstance(diptych.load(made[1]), Encoder)
    assert KINDS.keys() == {"onnx", "openvino", "torch-export", "immich"}
