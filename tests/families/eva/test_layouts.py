"""EVA-CLIP's own files, in each layout in which they were ever published."""

import json
from dataclasses import replace

import pytest
import torch

from diptych import models, pretrained
from diptych.checkpoints import convert, detect, load_image_tower, load_model
from diptych.errors import AssumptionWarning, CheckpointError
from diptych.families.clip.layouts import open_clip_config
from diptych.families.eva import EvaConfig
from diptych.families.eva.layouts import eva
from diptych.families.eva.layouts import image as eva_image
from diptych.families.infer import infer, infer_image
from diptych.weights.mapping import check_fit
from diptych.weights.native import save_model
from diptych.weights.state import State
from tests import goldens
from tests.families.eva.small import MODELS, ODD, TEXT, TOWERS

TINY = goldens.files("eva/*-tiny.json")
FULL = goldens.files("eva/EVA*.keys.json")


def stem(path):
    return path.name.partition(".")[0]


@pytest.fixture(params=MODELS)
def config(request):
    return MODELS[request.param]


@pytest.fixture
def published(config, random_model):
    """The weights of a random model of each family under their published names."""
    return eva.export_table(config.image).to_foreign(random_model(config).state_dict())


@pytest.mark.parametrize("path", TINY, ids=stem)
def test_golden_features_from_a_file_and_its_json(path, tmp_path):
    golden = goldens.read(path)
    shapes = golden["keys"]
    tables = {
        name: torch.zeros(shape)
        for name, shape in shapes.items()
        if name.endswith(goldens.COMPUTED)
    }
    torch.save(goldens.weights(shapes) | tables, tmp_path / "weights.pt")
    (tmp_path / "cfg.json").write_text(json.dumps(golden["config"]))
    model, meta = load_model(tmp_path / "weights.pt", config=tmp_path / "cfg.json")
    assert meta.provenance["format"] == "eva"
    with torch.inference_mode():
        images = model.encode_image(goldens.images(golden["image_seed"], golden["image_shape"]))
        texts = model.encode_text(torch.tensor(golden["tokens"]))
    torch.testing.assert_close(images, torch.tensor(golden["image_features"]), atol=1e-5, rtol=0)
    torch.testing.assert_close(texts, torch.tensor(golden["text_features"]), atol=1e-5, rtol=0)
    assert model.logit_scale.item() == pytest.approx(golden["logit_scale"], abs=1e-6)


@pytest.mark.parametrize("path", [*TINY, *FULL], ids=stem)
def test_names_and_shapes_are_the_published_ones(path):
    golden = goldens.read(path)
    config = open_clip_config.from_json({"model_cfg": golden["config"]})
    model = models.build(config, device="meta")
    foreign = eva.export_table(config.image).to_foreign(model.state_dict())
    expected = {
        name: shape for name, shape in golden["keys"].items() if not name.endswith(goldens.COMPUTED)
    }
    assert {name: list(tensor.shape) for name, tensor in foreign.items()} == expected
    check_fit(eva.table(golden["keys"]).to_ours(foreign).shapes, model.state_dict())
    if "params" in golden:
        assert sum(parameter.numel() for parameter in model.parameters()) == golden["params"]


@pytest.mark.parametrize("path", FULL, ids=stem)
def test_published_configurations_are_those_of_published_names(path):
    golden = goldens.read(path)
    config, known = (
        open_clip_config.from_json({"model_cfg": golden["config"]}),
        pretrained.get(golden["name"]),
    )
    assert config == replace(known, logit_scale=config.logit_scale)
    assert open_clip_config.from_json({"model_cfg": eva.to_json(known)}) == config


@pytest.mark.parametrize("path", FULL, ids=stem)
def test_published_sizes_need_no_configuration(path):
    golden = goldens.read(path)
    known = pretrained.get(golden["name"])
    assert isinstance(known.image, EvaConfig)
    foreign = {name: torch.empty(shape, device="meta") for name, shape in golden["keys"].items()}
    told = infer(eva.table(foreign).to_ours(foreign), "gelu")
    assert told == replace(known, logit_scale=told.logit_scale)


@pytest.mark.parametrize(
    "name",
    ["eva01-g-psz14", "eva02-b-psz14to16", "eva02-l-psz14", "eva02-e-psz14", "eva-18b-psz14"],
)
def test_published_image_towers_need_no_configuration(name):
    tower = pretrained.tower(name)
    assert isinstance(tower, EvaConfig)
    state = models.build_tower(tower, None, device="meta").state_dict()
    told = infer_image(
        State.of({f"image.{name}": tensor for name, tensor in state.items()}), "gelu"
    )
    assert told == tower


def test_every_layout_holds_the_same_model(config, published, tmp_path):
    torch.save(published, tmp_path / "custom.pt")
    expected = load_model(tmp_path / "custom.pt", config=config).model.state_dict()
    flat = {name.removeprefix("text."): tensor for name, tensor in published.items()}
    eva01 = {
        name.replace("logit_scale", "text.logit_scale"): tensor
        for name, tensor in published.items()
    }
    tables = {
        f"visual.{place}rope.freqs_cos": torch.zeros(4, 4, 8) for place in ("", "blocks.0.attn.")
    }
    layouts = {
        "flat": flat | {"attn_mask": torch.zeros(12, 12)},
        "eva01": eva01 | {"text.attn_mask": torch.zeros(12, 12)},
        "deepspeed": {"module": published, "epoch": 3},
        "parallel": {
            "state_dict": {f"module.{name}": tensor for name, tensor in published.items()}
        },
        "tables": published | tables,
    }
    for name, content in layouts.items():
        torch.save(content, tmp_path / f"{name}.pt")
        state = load_model(tmp_path / f"{name}.pt", config=config).model.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in expected), name
        assert detect(tmp_path / f"{name}.pt") == "eva"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read(config, published, tmp_path, dtype):
    half = {name: tensor.to(dtype) for name, tensor in published.items()}
    torch.save(half, tmp_path / "half.pt")
    state = load_model(tmp_path / "half.pt", config=config).model.state_dict()
    expected = eva.table(half).to_ours(half)
    assert all(torch.equal(state[name], expected[name].float()) for name in expected)
    kept = load_model(tmp_path / "half.pt", config=config, dtype=dtype).model.state_dict()
    assert {name: tensor.dtype for name, tensor in kept.items()} == {
        name: torch.float32 if name == "logit_scale" else dtype for name in kept
    }


@pytest.mark.parametrize("name", [*MODELS, *ODD])
@pytest.mark.parametrize("to", ["eva", "transformers"])
def test_there_and_back_is_bit_equal(name, to, tmp_path, random_model):
    config = (MODELS | ODD)[name]
    model = random_model(config)
    save_model(tmp_path / "in", model)
    if to == "eva" and name in ODD and name not in ("gated", "sub-norms"):
        with pytest.raises(CheckpointError, match="EVA-CLIP's code"):
            convert(tmp_path / "in", to, tmp_path / "out")
        return
    convert(tmp_path / "in", to, tmp_path / "out")
    given = config if to == "eva" else None
    loaded, meta = load_model(tmp_path / "out", config=given)
    assert meta.config == config
    state = model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())


def test_rotary_tables_are_not_written(tmp_path, random_model):
    config = MODELS["eva02-b"]
    save_model(tmp_path / "in", random_model(config))
    convert(tmp_path / "in", "eva", tmp_path / "out.pt")
    names = torch.load(tmp_path / "out.pt", weights_only=True)
    assert "visual.blocks.1.attn.k_proj.weight" in names
    assert not [name for name in names if "rope" in name]


def test_unpublished_sizes_ask_for_a_configuration(published, tmp_path):
    torch.save(published, tmp_path / "weights.pt")
    with pytest.raises(
        CheckpointError, match=r"no published EVA tower has 2 blocks of width 32 .* give config="
    ):
        load_model(tmp_path / "weights.pt")


def test_a_pooled_mean_asks_for_a_configuration(published, tmp_path):
    pooled = {
        name.replace("visual.norm.", "visual.fc_norm."): tensor
        for name, tensor in published.items()
    }
    torch.save(pooled, tmp_path / "weights.pt")
    with pytest.raises(
        CheckpointError, match="a mean is pooled, but not of which tokens; give config="
    ):
        load_model(tmp_path / "weights.pt")


def test_another_family_is_told_by_what_is_missing(tmp_path, random_model):
    weights = eva.export_table(TOWERS["eva-8b"]).to_foreign(
        random_model(MODELS["eva-8b"]).state_dict()
    )
    torch.save(weights, tmp_path / "weights.pt")
    with pytest.raises(
        CheckpointError, match=r"norm_1.bias.* are missing; is it a checkpoint of another model"
    ):
        load_model(tmp_path / "weights.pt", config=MODELS["eva01-g"])


def trained_on_images(random_model, image):
    """Weights as masked image modelling leaves them: no projection, and what the pretext task
    needs."""
    model = random_model(replace(MODELS["eva01-g"], image=image))
    foreign = eva.export_table(image).to_foreign(model.state_dict())
    tower = {
        name.removeprefix("visual."): tensor
        for name, tensor in foreign.items()
        if name.startswith("visual.")
    }
    tower = {name: tensor for name, tensor in tower.items() if not name.startswith("head.")}
    extra = {
        "mask_token": torch.zeros(1, 1, 32),
        "lm_head.weight": torch.zeros(8, 32),
        "lm_head.bias": torch.zeros(8),
    }
    tables = {
        "rope.freqs_cos": torch.zeros(4, 4, 16),
        "blocks.0.attn.rope.freqs_sin": torch.zeros(16, 16),
    }
    return model.image, tower | extra | tables


@pytest.mark.parametrize("name", TOWERS)
def test_an_image_tower_alone(name, random_model, tmp_path, example):
    image = replace(TOWERS[name], attention_norm=False)
    model, weights = trained_on_images(random_model, image)
    torch.save({"module": weights}, tmp_path / "tower.pt")
    assert detect(tmp_path / "tower.pt") == "eva-image"
    tower, config, notes = load_image_tower(tmp_path / "tower.pt", config=image)
    assert config == image
    assert notes["unused"] == ["mask_token", "lm_head.weight", "lm_head.bias"]
    pixels, _ = example(MODELS["eva01-g"])
    with torch.inference_mode():
        torch.testing.assert_close(tower(pixels).tokens, model(pixels).tokens, atol=0, rtol=0)
    with pytest.raises(CheckpointError, match="is it a checkpoint of another model"):
        load_model(tmp_path / "tower.pt", config="eva02-clip-b-16")
    with pytest.warns(AssumptionWarning, match="what it sees is made as for CLIP"):
        assert load_model(tmp_path / "tower.pt", config=image).config.image == image


def test_a_packed_gate(random_model, tmp_path):
    image = replace(TOWERS["eva02-b"], attention_norm=False, mlp_norm=False)
    model, weights = trained_on_images(random_model, image)
    for i in range(image.layers):
        for kind in ("weight", "bias"):
            first, second = (weights.pop(f"blocks.{i}.mlp.w{number}.{kind}") for number in (1, 2))
            weights[f"blocks.{i}.mlp.w12.{kind}"] = torch.cat([first, second])
    ours = eva_image.table(weights).to_ours(weights)
    expected = {
        f"image.{name}": tensor
        for name, tensor in model.state_dict().items()
        if "projection" not in name
    }
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


def test_what_their_text_tower_lacks_is_refused():
    for text in (replace(TEXT, mlp_width=64), replace(TEXT, norm_eps=1e-6)):
        with pytest.raises(CheckpointError, match="an MLP of four widths"):
            eva.to_json(replace(MODELS["eva01-g"], text=text))
    with pytest.raises(CheckpointError, match="VitConfig"):
        eva.to_json(pretrained.get("vit-b-32"))
