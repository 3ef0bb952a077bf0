"""UniRepLKNet's files in every layout: read strictly, the form told by the names, nothing lost on
the way back."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from safetensors.torch import load_file, save_file

import diptych
from diptych.checkpoints import convert, detect, load_image_tower, load_model, start_tower
from diptych.config import ClipConfig
from diptych.errors import AssumptionWarning, CheckpointError
from diptych.families.clip import TextConfig, VitConfig
from diptych.families.clip.layouts import open_clip
from diptych.families.unireplknet import UniRepLKNetConfig
from diptych.families.unireplknet import deploy as deploy_module
from diptych.families.unireplknet.deploy import deploy
from diptych.models import build, build_tower
from diptych.weights.native import save_model
from diptych.weights.state import State
from tests import goldens
from tests.families.unireplknet import golden_rules
from tests.models.peers import shake

TOWER = UniRepLKNetConfig(
    depths=(1, 2, 1, 1),
    widths=(8, 12, 16, 24),
    kernel_sizes=((3,), (7, 0), (13,), (5,)),
    layer_scale=1e-6,
)
MODEL = ClipConfig(
    image=TOWER,
    text=TextConfig(context_length=12, vocab_size=60, width=64, layers=2, heads=1, mlp_width=128),
    embed_dim=20,
)
PIXELS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def make(embed_dim=None, config=TOWER):
    torch.manual_seed(0)
    tower = build_tower(config, embed_dim)
    tower.init()
    shake(tower)
    return tower.eval()


def features(tower):
    with torch.no_grad():
        return tower(PIXELS).pooled


def published(tower, form="train", classes=None):
    """A trunk file's names and tensors."""
    state = State.of(tower.state_dict())
    if form == "deploy":
        state, _ = deploy(state, tower.config)
    found = golden_rules.to_published(dict(state))
    head = (
        {"head.weight": torch.randn(classes, 24), "head.bias": torch.randn(classes)}
        if classes
        else {}
    )
    return found | head


def save(path, tensors, container=None):
    torch.save({container: tensors, "epoch": 3} if container else tensors, path)
    return path


def without_counters(tensors):
    return {
        name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")
    }


@pytest.mark.parametrize("form", ["train", "deploy"])
@pytest.mark.parametrize("path", golden_rules.FILES, ids=lambda path: path.stem)
def test_goldens_as_files(path, form, tmp_path):
    """Everything but the size of the pictures is told by the file."""
    golden = goldens.read(path)
    weights = golden_rules.weights(golden)
    if form == "deploy":
        state, _ = deploy(golden_rules.to_ours(weights), golden_rules.config(golden))
        weights = golden_rules.to_published(dict(state))
    loaded = load_image_tower(save(tmp_path / "net.pth", weights))
    expected = replace(golden_rules.config(golden), image_size=224, projection_bias=False)
    if form == "deploy":
        expected = replace(expected, deploy=True, layer_scale=None)
    assert loaded.config == expected
    assert loaded.provenance["unused"] == ["head.weight", "head.bias"]
    for name, pixels in golden_rules.inputs(golden).items():
        with torch.no_grad():
            found = loaded.tower(pixels).pooled
        feature = torch.tensor(golden[form][name]["final_feature"]).view_as(found)
        torch.testing.assert_close(found, feature, rtol=0, atol=3e-5)


CONTAINERS = [None, "model", "module", "state_dict", "model_ema"]
PREFIXES = ["", "module.", "backbone.", "image_encoder.", "visual.trunk.", "module.visual.trunk."]


@pytest.mark.parametrize(
    ("prefix", "container"),
    [
        pytest.param(*pair, marks=() if "" in pair or None in pair else pytest.mark.slow)
        for pair in product(PREFIXES, CONTAINERS)
    ],
)
def test_whatever_stands_before_the_names(prefix, container, tmp_path):
    tower = make()
    tensors = {f"{prefix}{name}": tensor for name, tensor in published(tower).items()}
    path = save(tmp_path / "net.pth", tensors, container)
    assert detect(path) == "unireplknet"
    assert torch.equal(features(load_image_tower(path).tower), features(tower))


def test_a_classifier_is_reported_and_counters_may_lack(tmp_path):
    tower = make()
    save_file(without_counters(published(tower, classes=1000)), tmp_path / "net.safetensors")
    loaded = load_image_tower(tmp_path / "net.safetensors")
    assert loaded.provenance["unused"] == ["head.bias", "head.weight"]
    assert torch.equal(features(loaded.tower), features(tower))
    counters = [
        tensor
        for name, tensor in loaded.tower.named_buffers()
        if name.endswith("num_batches_tracked")
    ]
    assert counters
    assert all(counter == 0 for counter in counters)


@pytest.mark.parametrize(
    ("names", "config"),
    [
        ({"trunk.": "", "head.proj.weight": "weight"}, TOWER),
        ({"visual.trunk.": "", "visual.head.proj.weight": "weight"}, TOWER),
        ({"visual.": "", "visual.proj": "transposed"}, TOWER),
        (
            {
                "visual.trunk.": "",
                "visual.trunk.head.weight": "weight",
                "visual.trunk.head.bias": "bias",
            },
            "biased",
        ),
    ],
)
def test_a_projection_beside_the_trunk(names, config, tmp_path):
    config = replace(TOWER, projection_bias=True) if config == "biased" else config
    tower = make(20, config)
    state = tower.state_dict()
    parts = {
        "weight": state["projection.weight"],
        "transposed": state["projection.weight"].T.contiguous(),
    }
    parts["bias"] = state.get("projection.bias")
    prefix, *rest = names
    tensors = {
        f"{prefix}{name}": t for name, t in published(tower).items() if not name.startswith("head.")
    }
    tensors |= {name: parts[names[name]] for name in rest}
    loaded = load_image_tower(save(tmp_path / "net.pt", tensors))
    assert loaded.config == config
    assert torch.equal(features(loaded.tower), features(tower))


def test_training_starts_from_a_trunk(tmp_path):
    path = save(tmp_path / "net.pth", published(make(), classes=1000))
    torch.manual_seed(5)
    tower = build_tower(TOWER, 20)
    tower.init()
    fresh = tower.projection.weight.clone()
    said = start_tower(tower, "image", path)
    assert [sentence.removeprefix(f"{path}: ").split(" is ")[0] for sentence in said] == [
        *("head.weight", "head.bias", "projection.weight")
    ]
    assert torch.equal(tower.projection.weight, fresh)
    assert torch.equal(features(without_projection(tower)), features(make()))
    merged = save(tmp_path / "merged.pth", published(make(), "deploy"))
    with pytest.raises(CheckpointError, match="the image tower can't start from"):
        start_tower(tower, "image", merged)


def without_projection(tower):
    """The trunk of a tower as a tower alone."""
    alone = build_tower(tower.config, None)
    alone.load_state_dict(
        {n: t for n, t in tower.state_dict().items() if not n.startswith("projection.")}
    )
    return alone.eval()


def test_a_detectors_trunk(tmp_path):
    """Its norms stand behind the stages; the last one's becomes the tower's, so that the normed
    tokens are its map."""
    tower = make()
    tensors = published(tower)
    for part in ("weight", "bias"):
        tensors[f"norm3.{part}"] = tensors.pop(f"norm.{part}")
        tensors |= {f"norm{stage}.{part}": torch.ones(TOWER.widths[stage]) for stage in range(3)}
    tensors = {f"backbone.{name}": tensor for name, tensor in tensors.items()} | {
        "neck.conv.weight": torch.ones(3)
    }
    loaded = load_image_tower(save(tmp_path / "detector.pth", tensors, "state_dict"))
    assert len(loaded.provenance["unused"]) == 7
    assert torch.equal(features(loaded.tower), features(tower))


def test_a_training_file_is_merged_for_a_deploy_form_never_taken_as_it_is(tmp_path):
    tower = make()
    path = save(tmp_path / "net.pth", published(tower))
    for loaded in (
        load_image_tower(path, deploy=True),
        load_image_tower(path, config=replace(TOWER, deploy=True)),
    ):
        assert loaded.config == replace(TOWER, deploy=True, layer_scale=None)
        torch.testing.assert_close(features(loaded.tower), features(tower), rtol=0, atol=1e-5)


def test_a_merged_file_stays_merged_and_says_so(tmp_path):
    tower = make()
    path = save(tmp_path / "net.pth", published(tower, "deploy"))
    for config in (None, TOWER, replace(TOWER, deploy=True)):
        loaded = load_image_tower(path, config=config)
        assert loaded.config == replace(TOWER, deploy=True, layer_scale=None)
        torch.testing.assert_close(features(loaded.tower), features(tower), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "lost", ["stages.0.0.pwconv2.0.bias", "norm.weight", "stages.2.0.dwconv.lk_origin.weight"]
)
@pytest.mark.parametrize("form", ["train", "deploy"])
def test_a_tensor_that_lacks_is_named(form, lost, tmp_path):
    tensors = published(make(), form)
    if lost not in tensors:
        lost = "stages.0.0.pwconv2.2.running_var"
    del tensors[lost]
    with pytest.raises(CheckpointError, match=r"missing|are not in the model"):
        load_image_tower(save(tmp_path / "net.pth", tensors))


def test_a_mixture_of_both_forms_is_refused(tmp_path):
    tower = make()
    for tensors in (
        published(tower) | {"stages.0.0.pwconv2.0.bias": torch.zeros(8)},
        published(tower, "deploy") | {"stages.1.0.dwconv.origin_bn.weight": torch.ones(12)},
    ):
        with pytest.raises(CheckpointError):
            load_image_tower(save(tmp_path / "net.pth", tensors))


def test_any_prefix_of_all_names_is_passed_by_but_not_one_of_two(tmp_path):
    student, teacher = (
        {f"{prefix}.{name}": tensor for name, tensor in published(make()).items()}
        for prefix in ("student", "teacher")
    )
    loaded = load_image_tower(save(tmp_path / "one.pth", student))
    assert torch.equal(features(loaded.tower), features(make()))
    with pytest.raises(CheckpointError, match=r"several models \(student\., teacher\.\)"):
        load_image_tower(save(tmp_path / "two.pth", student | teacher))


def test_the_trunk_alone_is_a_model_and_with_parts_of_a_text_tower_it_is_none(tmp_path):
    path = save(tmp_path / "net.pth", published(make()))
    with pytest.warns(AssumptionWarning, match="what it sees is made as for CLIP"):
        assert load_model(path).config.missing == "text"
    texts = {"token_embedding.weight": torch.ones(60, 64), "logit_scale": torch.ones(())}
    tensors = {f"visual.trunk.{name}": tensor for name, tensor in published(make()).items()} | texts
    with pytest.raises(CheckpointError, match="of the text tower only parts"):
        load_model(save(tmp_path / "half.pt", tensors))
    assert load_image_tower(tmp_path / "half.pt").provenance["unused"] == list(texts)


def whole(biased=False):
    torch.manual_seed(0)
    model = build(replace(MODEL, image=replace(TOWER, projection_bias=biased)))
    shake(model)
    return model.eval()


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("merged", [False, True])
def test_whole_models_in_open_clips_layout(merged, biased, tmp_path):
    model = whole(biased)
    foreign = open_clip.export_table(model.config).to_foreign(model.state_dict())
    assert ("visual.trunk.head.bias" in foreign) == biased
    assert foreign["visual.trunk.stages.1.0.se.down.weight"].shape == (3, 12, 1, 1)
    path = save(tmp_path / "model.pt", foreign)
    assert detect(path) == "open-clip"
    loaded = load_model(path, config=model.config, deploy=merged)
    assert loaded.config.image == replace(
        model.config.image, deploy=merged, layer_scale=None if merged else TOWER.layer_scale
    )
    ids = torch.randint(1, 60, (2, 12))
    with torch.no_grad():
        for found, wanted in zip(loaded.model(PIXELS, ids), model(PIXELS, ids)):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 if merged else 0)
    tower = load_image_tower(path, config=model.config).tower
    assert torch.equal(features(tower), features(model.image))


def test_a_model_without_a_published_name_is_not_written_for_open_clip(tmp_path):
    path = save(
        tmp_path / "model.pt", open_clip.export_table(MODEL).to_foreign(whole().state_dict())
    )
    with pytest.raises(CheckpointError, match="by its published name"):
        convert(path, "open-clip", tmp_path / "out", config=MODEL)
    with pytest.raises(CheckpointError, match="has a UniRepLKNetConfig"):
        convert(path, "openai", tmp_path / "out.pt", config=MODEL)


def test_a_published_size_goes_round_by_open_clips_json(tmp_path):
    config = replace(
        MODEL,
        image=UniRepLKNetConfig(image_size=64, depths=(2, 2, 6, 2), widths=(40, 80, 160, 320)),
    )
    torch.manual_seed(0)
    model = build(config)
    torch.save(open_clip.export_table(config).to_foreign(model.state_dict()), tmp_path / "model.pt")
    convert(tmp_path / "model.pt", "open-clip", tmp_path / "there", config=config)
    again = load_model(tmp_path / "there")
    assert again.config.image == config.image
    ours, theirs = (
        load_file(tmp_path / "there" / "open_clip_model.safetensors"),
        torch.load(tmp_path / "model.pt"),
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_convert_merges_a_whole_model(tmp_path):
    model = whole()
    path = save(
        tmp_path / "model.pt", open_clip.export_table(model.config).to_foreign(model.state_dict())
    )
    convert(path, "native", tmp_path / "merged", deploy=True, config=model.config)
    loaded = load_model(tmp_path / "merged")
    assert loaded.config == replace(MODEL, image=replace(TOWER, deploy=True, layer_scale=None))
    torch.testing.assert_close(
        features(loaded.model.image), features(model.image), rtol=0, atol=1e-5
    )
    again = convert(tmp_path / "merged", "native", tmp_path / "again", deploy=True)
    assert load_file(again / "model.safetensors").keys() == loaded.model.state_dict().keys()


@pytest.mark.parametrize("merged", [False, True])
def test_convert_writes_the_trunk_as_its_authors_load_it(merged, tmp_path):
    tower = make()
    path = save(tmp_path / "net.pth", published(tower, classes=1000))
    convert(path, "unireplknet", tmp_path / "out.pth", deploy=merged)
    written, expected = (
        torch.load(tmp_path / "out.pth"),
        published(tower, "deploy" if merged else "train"),
    )
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], expected[name]) for name in expected)
    assert detect(tmp_path / "out.pth") == "unireplknet"
    with pytest.raises(CheckpointError, match="exists"):
        convert(path, "unireplknet", tmp_path / "out.pth")


def test_a_wrong_merge_is_noticed(tmp_path, monkeypatch):
    path = save(tmp_path / "net.pth", published(make()))
    monkeypatch.setattr(deploy_module, "NORM_EPS", 0.5)
    with pytest.raises(CheckpointError, match="merged, its vectors differ by .*; leave deploy out"):
        convert(path, "unireplknet", tmp_path / "out.pth", deploy=True)
    assert not (tmp_path / "out.pth").exists()


def test_other_towers_have_no_deploy_form(tmp_path):
    model = build(
        replace(MODEL, image=VitConfig(image_size=32, patch_size=16, width=32, layers=1, heads=2))
    )
    folder = save_model(tmp_path / "model", model)
    with pytest.raises(CheckpointError, match="a VitConfig has no deploy form"):
        convert(folder, "native", tmp_path / "out", deploy=True)
    with pytest.raises(CheckpointError, match="of another kind"):
        convert(folder, "unireplknet", tmp_path / "out.pth")
    assert load_model(folder, deploy=True).config == model.config


def test_the_encoder_computes_in_deploy_form_unless_told_otherwise(tmp_path):
    config = replace(
        MODEL, image=replace(TOWER, image_size=64), text=replace(MODEL.text, vocab_size=49408)
    )
    torch.manual_seed(0)
    model = build(config)
    shake(model)
    folder = save_model(tmp_path / "model", model)
    merged, plain = diptych.load(folder, "cpu"), diptych.load(folder, "cpu", deploy=False)
    assert merged.config.image.deploy
    assert plain.config == config
    picture = torch.randint(0, 256, (3, 70, 80), dtype=torch.uint8)
    torch.testing.assert_close(
        merged.embed_images(picture), plain.embed_images(picture), rtol=0, atol=1e-5
    )
    assert diptych.load(folder, "cpu", "bf16").config.image.deploy
