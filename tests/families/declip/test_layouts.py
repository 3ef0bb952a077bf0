"""DeCLIP's files: every published layout, what belongs to training, the recorded features through
the loader."""

import re
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from diptych.checkpoints import convert, detect, load_image_tower, load_model, start_tower
from diptych.config import (
    ClipConfig,
    ClipObjectiveConfig,
    DeclipObjectiveConfig,
    DefilipObjectiveConfig,
    FilipObjectiveConfig,
    SimClrConfig,
    SimSiamConfig,
    SlipObjectiveConfig,
)
from diptych.errors import CheckpointError
from diptych.families.clip import ResNetConfig, TextConfig, VitConfig
from diptych.families.declip import layouts as declip
from diptych.families.infer import infer
from diptych.models import build
from diptych.objectives import build_objective
from diptych.weights.mapping import check_fit
from diptych.weights.native import save_model
from tests import goldens
from tests.objectives import recorded

KEYS = goldens.files("declip/*.keys.json")
TINY = [path for path in goldens.files("declip/*.json") if "state_dict" in goldens.read(path)]
DEAD = r"predictor_sim\.bn3\..*|visual\.fc\..*"
"""Made by the published code and never used: SLIP's last norm, and the layer for maps that aren't 7
x 7 at the end."""
TEXT = TextConfig(
    context_length=12,
    vocab_size=60,
    width=64,
    layers=2,
    heads=1,
    mlp_width=256,
    activation="quick_gelu",
    projection_bias=True,
)
VIT = VitConfig(
    image_size=32,
    patch_size=8,
    width=128,
    layers=2,
    heads=2,
    mlp_width=512,
    activation="quick_gelu",
)
BASE = ClipConfig(image=VIT, text=TEXT, embed_dim=48, preprocess=declip.PREPROCESS)
RESNET = ResNetConfig(image_size=64, layers=(1, 2, 1, 1), width=8, heads=4)
MODELS = {
    "vit": BASE,
    "dense": replace(BASE, token_dim=16),
    "resnet": replace(BASE, image=RESNET),
    "linear head": replace(BASE, image=replace(RESNET, head="linear")),
}
of_every_size = pytest.mark.parametrize("path", KEYS, ids=lambda path: path.stem)
every = pytest.mark.parametrize("name", MODELS)


def save(path, tensors, container="model", before="module."):
    wrapped = {f"{before}{name}": tensor for name, tensor in tensors.items()}
    torch.save(
        {container: wrapped, "last_iter": 7, "optimizer": {"state": {}}} if container else wrapped,
        path,
    )
    return path


def published(model):
    """A model of ours under published names."""
    return declip.export_table(model.config).to_foreign(model.state_dict())


def told(keys):
    foreign = recorded.on_meta(keys)
    return infer(declip.table(foreign).to_ours(foreign).shapes, "quick_gelu")


@of_every_size
def test_models_of_every_published_size(path):
    """What isn't training's is the model's, name by name and shape by shape."""
    keys = goldens.read(path)["keys"]
    foreign = recorded.on_meta(keys)
    table, model = declip.table(foreign), build(told(keys), device="meta")
    check_fit(table.to_ours(foreign).shapes, model.state_dict())
    used = {name: tensor.shape for name, tensor in table.to_foreign(model.state_dict()).items()}
    assert set(keys) - used.keys() == set(table.unused(foreign))
    assert used == {name: torch.Size(shape) for name, shape in keys.items() if name in used}


@of_every_size
def test_objectives_of_every_published_size(path):
    """With the heads of training, but for what published code never uses; and the number of
    parameters."""
    record = goldens.read(path)
    keys, method = record["keys"], record["model_type"].split("_")[0]
    objective = build_objective(objective_of(method, keys), build(told(keys), device="meta"))
    state = {
        name: tensor
        for name, tensor in objective.state_dict().items()
        if not name.startswith("queue.")
    }
    shapes = {name: tensor.shape for name, tensor in recorded.names(keys).to_foreign(state).items()}
    unused = {name: torch.Size(shape) for name, shape in keys.items() if name not in shapes}
    dead = rf"{DEAD}|text_label_predictor\..*" if method == "filip" else DEAD
    assert all(re.fullmatch(dead, name) for name in unused), unused
    assert shapes == {name: torch.Size(shape) for name, shape in keys.items() if name not in unused}
    ours = sum(p.numel() for p in objective.parameters())
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    theirs = sum(shape.numel() for name, shape in unused.items() if not name.endswith(buffers))
    assert ours + theirs == record["param_count"]


def objective_of(method, keys):
    """As wide as these shapes."""

    def rows(name):
        return keys[f"{name}.weight"][0]

    match method:
        case "clip":
            return ClipObjectiveConfig()
        case "slip":
            head = SimClrConfig(
                hidden=rows("predictor_sim.linear1"), out=rows("predictor_sim.linear3")
            )
            return SlipObjectiveConfig(views=head)
        case "filip":
            return FilipObjectiveConfig()
        case _:
            head = SimSiamConfig(width=rows("projector.linear1"), hidden=rows("predictor.linear1"))
            kind = DefilipObjectiveConfig if method == "defilip" else DeclipObjectiveConfig
            return kind(views=head, queue=8)


@pytest.mark.parametrize("path", TINY, ids=lambda path: path.stem)
def test_recorded_features_through_a_file(path, tmp_path):
    record = goldens.read(path)
    file = save(tmp_path / "ckpt.pth.tar", goldens.weights(record["state_dict"]))
    model, meta = load_model(file, config=recorded.model_config(record["config"]))
    assert meta.provenance["format"] == "declip"
    batch = recorded.batch(record)
    with torch.no_grad():
        found = model(batch.images[0], batch.texts[0])
    known = (
        record["eval"]
        if "eval" in record
        else record.get("train_evalbn", {}) | record.get("train", {})
    )
    known |= record.get("train_or_eval", {}) | record.get("features", {})
    for vectors, side, view in zip(found, ("image", "text"), ("1", "masked")):
        names = (f"normalized_{side}_features", f"{side}_features", f"{side}_features_{view}")
        expected = torch.tensor(next(known[name] for name in names if name in known))
        torch.testing.assert_close(vectors, normalize(expected, dim=1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("prefix", ["encode_text.", "text_encoder."])
@pytest.mark.parametrize(
    ("container", "before"), [("model", "module."), ("state_dict", ""), (None, "module.")]
)
@every
def test_containers_and_prefixes(name, container, before, prefix, tmp_path, random_model, example):
    model = random_model(MODELS[name])
    tensors = {
        key.replace("encode_text.", prefix): tensor for key, tensor in published(model).items()
    }
    path = save(tmp_path / "net.pth.tar", tensors, container, before)
    assert detect(path) == "declip"
    loaded = load_model(path)
    kinds = replace(MODELS[name].tokenizer, kind="clip")  # its vocabulary isn't DeCLIP's
    assert loaded.config == replace(MODELS[name], tokenizer=kinds)
    with torch.no_grad():
        for found, expected in zip(
            loaded.model(*example(MODELS[name])), model(*example(MODELS[name]))
        ):
            assert torch.equal(found, expected)


@every
def test_round_trip_is_bit_equal(name, tmp_path, random_model):
    model = random_model(MODELS[name])
    save_model(tmp_path / "start", model)
    convert(tmp_path / "start", "declip", tmp_path / "out.pth.tar")
    stored = torch.load(tmp_path / "out.pth.tar", weights_only=True)["model"]
    assert all(key.startswith("module.") for key in stored)
    assert stored["module.logit_scale"].shape == (1,)
    convert(tmp_path / "out.pth.tar", "native", tmp_path / "back", config=MODELS[name])
    state = model.state_dict()
    found = load_model(tmp_path / "back").model.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in found.items())


def test_heads_are_stated_and_kept_apart(tmp_path, random_model):
    model = random_model(MODELS["resnet"])
    heads = (
        "projector.linear1.weight",
        "predictor.layer2.bias",
        "text_label_predictor.weight",
        "logit_scale_dense",
    )
    heads = (*heads, "predictor_sim.bn3.running_mean", "visual.fc.weight", "nn_replacer_text.bank")
    extra = {name: torch.randn(48, 3) for name in heads}
    path = save(tmp_path / "net.pth.tar", published(model) | extra)
    loaded = load_model(path)
    assert loaded.provenance["unused"] == list(heads)
    assert loaded.model.state_dict().keys() == model.state_dict().keys()
    said: list[str] = []
    convert(path, "native", tmp_path / "native", say=said.append)
    assert len(said) == 1
    assert said[0].startswith("net.pth.tar: projector.linear1.weight, predictor.layer2.bias, ")
    assert "unused" not in load_model(tmp_path / "native").provenance
    beside = {"momentum_encoder.x": torch.ones(1)}
    path = save(tmp_path / "more.pth.tar", published(model) | beside)
    assert load_model(path).provenance["unused"] == list(beside)
    path = save(tmp_path / "inside.pth.tar", published(model) | {"visual.x": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"visual\.x have no place"):
        load_model(path)


def test_what_clusters_store(tmp_path, random_model):
    """Half precision, a scalar scale, no counters."""
    model = random_model(MODELS["resnet"])
    state = {name: t.half() if t.is_floating_point() else t for name, t in published(model).items()}
    state = {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}
    state["logit_scale"] = state["logit_scale"].reshape(())
    found = load_model(save(tmp_path / "net.pth.tar", state)).model.state_dict()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found[name], tensor.half().to(tensor.dtype), rtol=0, atol=0)


@pytest.mark.parametrize("before", ["", "module.", "module.visual."])
@every
def test_an_image_tower_alone(name, before, tmp_path, random_model, example):
    model = random_model(MODELS[name])
    tensors = {
        n.removeprefix("visual."): t for n, t in published(model).items() if n.startswith("visual.")
    }
    if name == "resnet":
        tensors |= {"fc.weight": torch.ones(48, 256), "fc.bias": torch.ones(48)}
    path = save(tmp_path / "visual.pth.tar", tensors, before=before)
    assert load_model(path, config=MODELS[name]).config.missing == "text"
    own = before.endswith("visual.") and name in ("resnet", "linear head")  # `fc` is DeCLIP's alone
    loaded = load_image_tower(path, config=None if own else MODELS[name].image)
    assert loaded.config == MODELS[name].image
    pixels, _ = example(MODELS[name])
    with torch.no_grad():
        assert torch.equal(loaded.tower(pixels).pooled, model.image(pixels).pooled)
    if name == "resnet":
        assert [each.split(".")[-2] for each in loaded.provenance["unused"]] == ["fc", "fc"]


def test_training_starts_from_it_and_says_once_what_stays_behind(tmp_path, random_model):
    model = random_model(MODELS["vit"])
    heads = {
        f"projector.linear{i}.{part}": torch.ones(1)
        for i in range(1, 4)
        for part in ("weight", "bias")
    }
    path = save(tmp_path / "net.pth.tar", published(model) | heads)
    said = start_tower(random_model(MODELS["vit"], seed=1).image, "image", path)
    assert said == [f"{path}: projector.* (6 tensors) is not used"]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            replace(BASE, text=replace(TEXT, projection_bias=False)),
            "text.projection_bias True, not False",
        ),
        (
            replace(BASE, image=replace(VIT, activation="gelu")),
            "image.activation quick_gelu, not gelu",
        ),
        (replace(BASE, logit_bias=-10.0), "no logit bias"),
    ],
)
def test_what_their_code_cannot_build(config, says, tmp_path, random_model):
    save_model(tmp_path / "in", random_model(config))
    with pytest.raises(CheckpointError, match=f"can't be written as declip: .*{says}"):
        convert(tmp_path / "in", "declip", tmp_path / "out.pth.tar")


def test_a_name_without_a_hub_says_where_a_browser_gets_it():
    with pytest.raises(
        CheckpointError, match=r"on no hub: download https://drive\.google\.com/file/d/1YOAji"
    ):
        load_model("declip-vit-b-32-yfcc15m")
    with pytest.raises(
        CheckpointError, match="no published weights are known for slip-rn50-yfcc15m"
    ):
        load_model("slip-rn50-yfcc15m")
