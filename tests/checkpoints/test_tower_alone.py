"""Models that are one tower alone: read, used, refused, converted."""

import contextlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

import diptych
from diptych import Encoder, Index, models, pretrained
from diptych.checkpoints import convert, load_image_tower, load_model, start_model, start_tower
from diptych.cli import main
from diptych.config import DistillObjectiveConfig, ModelConfig, Run
from diptych.config.alone import NoTextTower, alone
from diptych.config.serialize import from_dict, to_dict, to_json
from diptych.errors import AssumptionWarning, CheckpointError, ConfigError
from diptych.evaluation.examples import learn
from diptych.families.clip import VitConfig
from diptych.training.assemble import described
from diptych.training.teachers import teacher_configs
from diptych.weights import save_model

VIT = VitConfig(image_size=32, patch_size=8, width=64, layers=2, heads=2, mlp_width=128)
PICTURES = alone(VIT, 64, projected=False)
TEXTS = alone(pretrained.get("tiny").text, 32)
NO_TEXT = r"has no text tower.*search them by a picture.*--examples.*linear/"
NO_IMAGE = r"has no image tower.*embed_texts"
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "projection_dim": 24,
}
WORDS = {"vocab_size": 99, "max_position_embeddings": 8, "eos_token_id": 98, "bos_token_id": 97}


def run(*arguments):
    """The exit code of a command."""
    with pytest.raises(SystemExit) as caught:
        main([*map(str, arguments)])
    return caught.value.code


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """A folder with `pictures` and `texts`, in the native format, and examples of two colours."""
    folder = tmp_path_factory.mktemp("towers")
    torch.manual_seed(0)
    save_model(folder / "pictures", models.build(PICTURES))
    save_model(folder / "texts", models.build(TEXTS))
    draw = np.random.default_rng(0)
    for place, colour in (("red", (220, 30, 30)), ("blue", (30, 30, 220))):
        for part in ("train", "test"):
            where = folder / "data" / part / place
            where.mkdir(parents=True)
            for i in range(5):
                left = Image.new("RGB", (40, 36), colour)
                noise = Image.fromarray(draw.integers(256, size=(36, 40, 3), dtype=np.uint8))
                Image.blend(left, noise, 0.3).save(where / f"{part}{i}.png")
    return folder


def test_vectors_are_those_of_the_tower(towers):
    clip = diptych.load(towers / "pictures")
    red = towers / "data/test/red/test0.png"
    pixels = clip.preprocess.normalise(clip.preprocess.pixels(red)[None])
    with torch.no_grad():
        tower = load_image_tower(towers / "pictures").tower
        expected = normalize(tower(pixels).feature, dim=-1)
    assert (clip.width, clip.config.missing, clip.dtype) == (64, "text", "fp32")
    torch.testing.assert_close(clip.embed_images(red), expected)
    texts = diptych.load(towers / "texts")
    assert texts.embed_texts(["a cat", "two dogs"]).shape == (2, 32)


def test_what_the_other_tower_would_do_is_refused(towers):
    pictures, texts = diptych.load(towers / "pictures"), diptych.load(towers / "texts")
    red = towers / "data/test/red/test0.png"
    for asked in (
        lambda: pictures.embed_texts("a cat"),
        lambda: pictures.embed_texts([]),
        lambda: pictures.classify(red, ["red", "blue"]),
        lambda: diptych.evaluate(pictures, "zero-shot", data=towers / "data/test"),
        lambda: pictures.model.encode_text(torch.ones(1, 4, dtype=torch.long)),
    ):
        with pytest.raises(ConfigError, match=NO_TEXT):
            asked()
    for asked in (
        lambda: texts.embed_images("there is no such picture.png"),
        lambda: learn(texts, str(towers / "data/train")),
        lambda: diptych.evaluate(texts, "linear", data=towers / "data"),
    ):
        with pytest.raises(ConfigError, match=NO_IMAGE):
            asked()
    with pytest.raises(ConfigError, match="has no text tower, and whole models are compared"):
        diptych.diagnose(pictures)


def test_probes_and_examples(towers, tmp_path, capsys):
    clip = diptych.load(towers / "pictures")
    result = diptych.evaluate(clip, "linear", data=towers / "data")
    assert result.metrics["top1"] == 1
    few = diptych.evaluate(clip, "fewshot", data=towers / "data", shots=(1,))
    assert few.metrics["top1_1_shot"] == 1
    model, examples = str(towers / "pictures"), str(towers / "data/train")
    asked = [str(towers / f"data/test/{colour}/test1.png") for colour in ("red", "blue")]
    out = tmp_path / "found.json"
    options = ("--examples", examples, "--top", "1", "--out", str(out))
    assert not run("classify", model, *asked, *options)
    found = json.loads(out.read_text())
    assert [each["name"] for each in found] == ["red", "blue"]
    assert all(each["probability"] > 0.9 for each in found)
    assert "learned from 10 examples of 2 classes" in capsys.readouterr().out
    for wrong in ([], ["--examples", examples, "--names", "red", "blue"]):
        assert run("classify", model, *asked, *wrong)
        assert "either" in capsys.readouterr().err
    assert run("classify", model, *asked, "--names", "red", "blue")
    assert "has no text tower" in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 3])
def test_few_examples(towers, tmp_path, count):
    """A single one: there is nothing to hold out, and the nearer one is the class."""
    clip = diptych.load(towers / "pictures")
    for colour in ("red", "blue"):
        (tmp_path / colour).mkdir()
        for i in range(count):
            file = towers / f"data/train/{colour}/train{i}.png"
            (tmp_path / colour / file.name).write_bytes(file.read_bytes())
    found = learn(clip, str(tmp_path))
    asked = [towers / f"data/test/{colour}/test3.png" for colour in ("blue", "red")]
    assert [found.names[i] for i in found.logits(asked).argmax(1)] == ["blue", "red"]


def test_pictures_are_searched_by_pictures(towers, tmp_path, capsys):
    index = str(tmp_path / "photos.index")
    assert not run("embed", towers / "pictures", towers / "data/train", "--out", index)
    red = towers / "data/train/red/train2.png"
    found = Index.open(index)
    assert found.search(found.encode(str(red)), 1)[0].path.endswith("red/train2.png")
    assert run("search", index, "a red picture")
    assert "has no text tower" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [
        "CLIPVisionModel",
        "CLIPVisionModelWithProjection",
        "SiglipVisionModel",
        "CLIPTextModel",
        "CLIPTextModelWithProjection",
        "MetaClip2TextModel",
        "SiglipTextModel",
    ],
)
def test_transformers_folders_both_ways(name, tmp_path, randomise, quiet):
    transformers = pytest.importorskip("transformers")
    text = "Text" in name
    own = WORDS if text else {"image_size": 32, "patch_size": 8}
    kind = getattr(transformers, name.split("Model")[0] + "Config")
    theirs = randomise(getattr(transformers, name)(kind(**own, **SIZES, projection_size=24))).eval()
    theirs.save_pretrained(tmp_path / "in")
    if text:
        loaded = load_model(tmp_path / "in")
    else:
        told = pytest.warns(AssumptionWarning, match="what it sees is made as for CLIP")
        with contextlib.nullcontext() if "Siglip" in name else told:
            load_model(tmp_path / "in")
        mean = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"shortest_edge": 32}}
        (tmp_path / "in/preprocessor_config.json").write_text(json.dumps(mean))
        loaded = load_model(tmp_path / "in")
        assert loaded.config.preprocess.mean == (0.5, 0.5, 0.5)
    x = torch.tensor([[97, 3, 4, 5, 6, 7, 8, 98]]) if text else torch.randn(2, 3, 32, 32)
    encode = loaded.model.encode_text if text else loaded.model.encode_image
    with torch.no_grad():
        said = theirs(x)
        expected = said[0] if "Projection" in name else said.pooler_output
        torch.testing.assert_close(encode(x), expected, atol=1e-5, rtol=0)
    if name in ("SiglipTextModel", "MetaClip2TextModel"):  # whose tokenizers aren't at hand
        return
    native = convert(tmp_path / "in", "native", tmp_path / "native")
    back = convert(native, "transformers", tmp_path / "back")
    again = type(theirs).from_pretrained(back).eval().state_dict()
    assert all(torch.equal(again[key], value) for key, value in theirs.state_dict().items())
    with pytest.raises(CheckpointError, match="open-clip is for whole models; native .*and transf"):
        convert(native, "open-clip", tmp_path / "no")


def test_training_wants_both_and_says_how(towers):
    with pytest.raises(CheckpointError, match=r"training needs both.*--model\.image\.init"):
        start_model(towers / "pictures")
    tower = models.build_tower(VIT, None)
    tower.init()
    assert start_tower(tower, "image", towers / "pictures") == []
    with pytest.raises(CheckpointError, match="holds no text tower"):
        start_tower(models.build_tower(TEXTS.text, 32), "text", towers / "pictures")
    with pytest.raises(CheckpointError, match="holds no image tower"):
        load_image_tower(towers / "texts")


def test_neither_a_runs_model_nor_a_teacher_is_one_tower(towers):
    with pytest.raises(ConfigError, match="^the model has no text tower"):
        described(Run(model=ModelConfig(custom=PICTURES), steps=1))
    with pytest.raises(ConfigError, match="^the model has no image tower"):
        described(Run(model=ModelConfig(custom=TEXTS), steps=1))
    for name, missing in (("pictures", "text"), ("texts", "image")):
        teacher = str(towers / name)
        run = Run(objective=DistillObjectiveConfig(teachers=(teacher,)), steps=1)
        with pytest.raises(ConfigError, match=f"the teacher {teacher} has no {missing} tower"):
            teacher_configs(run)


def test_a_configuration_is_written_and_whole_models_keep_their_text():
    assert from_dict(type(PICTURES), to_dict(PICTURES)) == PICTURES
    assert isinstance(PICTURES.text, NoTextTower)
    assert "projected" not in to_json(pretrained.get("vit-b-32"), retired=True)
    with pytest.raises(ConfigError, match="neither an image tower nor a text tower"):
        alone(pretrained.get("coca-vit-b-32").decoder, 64)
    with pytest.raises(ConfigError, match="as wide as the tower's features"):
        models.build(alone(VIT, 65, projected=False), "meta")
    assert Encoder(models.build(PICTURES)).identity.fingerprint
