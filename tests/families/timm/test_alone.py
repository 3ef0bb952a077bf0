"""timm's models alone, as timm saves them: the same vectors both ways."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import diptych
from diptych.checkpoints import convert, detect, load_image_tower, load_model
from diptych.config import ClipConfig, PreprocessConfig
from diptych.config.alone import alone
from diptych.errors import AssumptionWarning, CheckpointError, UnknownNameError
from diptych.families.eva import EvaConfig
from diptych.families.pe import PeImageConfig
from diptych.families.siglip import NaflexImageConfig, SiglipImageConfig, SiglipTextConfig
from diptych.families.timm import TimmConfig
from diptych.families.timm.alone import export
from diptych.inputs.native import unpack
from diptych.weights.native import save_model

timm = pytest.importorskip("timm")

GREY = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
NORMAL = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}
SMALL = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8}


def saved(folder, name, classes, args, said=None, file="model.safetensors"):
    """timm's model with random numbers, as `timm.models.save_for_hf` lays it out."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=classes, **args).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    folder.mkdir()
    state = model.state_dict()
    torch.save(state, folder / file) if file.endswith(".bin") else save_file(state, folder / file)
    content = {"architecture": name, "num_classes": classes, "num_features": model.num_features}
    cfg = {"input_size": [3, 32, 32], "crop_pct": 0.9, "interpolation": "bicubic", **NORMAL}
    content |= {"model_args": args, "pretrained_cfg": cfg | (said or {})}
    (folder / "config.json").write_text(json.dumps(content))
    return model


@pytest.fixture
def pixels():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


CASES = [
    ("vit_base_patch16_clip_224", 24, SMALL),
    ("vit_base_patch16_clip_224", 0, SMALL),
    ("vit_base_patch16_siglip_224", 0, SMALL),
    ("eva02_base_patch16_clip_224", 24, SMALL),
    ("vit_pe_core_tiny_patch16_384", 24, {"img_size": 32, "depth": 2, "patch_size": 8}),
    ("convnext_atto", 24, {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]}),
    ("resnet10t", 0, {}),
]


OWN = {
    "vit_base_patch16_siglip_224": SiglipImageConfig,
    "eva02_base_patch16_clip_224": EvaConfig,
    "vit_pe_core_tiny_patch16_384": PeImageConfig,
}
"""What isn't timm's tower here, but one of ours."""


@pytest.mark.parametrize(("name", "classes", "args"), CASES)
def test_both_ways(tmp_path, pixels, name, classes, args):
    theirs = saved(tmp_path / "in", name, classes, args)
    assert detect(tmp_path / "in") == "timm"
    ours, meta = load_model(tmp_path / "in")
    assert type(meta.config.image) is OWN.get(name, TimmConfig)
    assert meta.config.missing == "text"
    # What SigLIP's pool reads is in the shared space as it is.
    assert meta.config.projected is (bool(classes) or "siglip" in name)
    assert meta.config.image.image_size == 32
    with torch.no_grad():
        wanted = theirs(pixels)
        torch.testing.assert_close(ours.encode_image(pixels), wanted, atol=1e-5, rtol=1e-5)
        found = load_image_tower(tmp_path / "in").tower(pixels).pooled
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert meta.config.preprocess == PreprocessConfig(
        crop_share=0.9, mean=tuple(NORMAL["mean"]), std=tuple(NORMAL["std"])
    )
    convert(tmp_path / "in", "timm", tmp_path / "out")
    before = theirs.state_dict()
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert written.keys() == before.keys()
    assert all(torch.equal(written[each], before[each]) for each in before)
    again = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    with torch.no_grad():
        assert torch.equal(again(pixels), wanted)
    data = timm.data.resolve_model_data_config(again)
    assert (list(data["input_size"]), data["crop_pct"]) == ([3, 32, 32], 0.9)
    convert(tmp_path / "in", "native", tmp_path / "native")
    assert load_model(tmp_path / "native").config == meta.config


def test_what_is_not_quite_ours_stays_timms(tmp_path, pixels):
    """Other arguments, a classifier of its own: equal all the same."""
    mean = SMALL | {"global_pool": "avg", "fc_norm": False}
    for number, (name, classes, args) in enumerate(
        (
            ("vit_base_patch16_siglip_224", 24, SMALL),
            ("vit_base_patch16_siglip_224", 0, mean),
            ("eva02_base_patch16_clip_224", 0, SMALL | {"global_pool": "avg"}),
        )
    ):
        theirs = saved(tmp_path / str(number), name, classes, args)
        ours, meta = load_model(tmp_path / str(number))
        assert isinstance(meta.config.image, TimmConfig), (name, args)
        with torch.no_grad():
            torch.testing.assert_close(ours.encode_image(pixels), theirs(pixels))


def test_a_whole_model_leaves_its_image_tower(tmp_path, random_model, pixels):
    shape = {"width": 32, "layers": 2, "heads": 2, "mlp_width": 128}
    model = random_model(
        ClipConfig(
            image=SiglipImageConfig(image_size=32, patch_size=8, activation="gelu", **shape),
            text=SiglipTextConfig(context_length=8, vocab_size=50, **shape),
            embed_dim=32,
            logit_bias=-10.0,
        )
    )
    said = []
    convert(save_model(tmp_path / "in", model), "timm", tmp_path / "out", say=said.append)
    assert said == ["timm holds image towers alone: the text tower stays behind"]
    theirs = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    with torch.no_grad():
        found = model.encode_image(pixels)
        torch.testing.assert_close(theirs(pixels), found, atol=1e-5, rtol=1e-5)


def test_without_config_json_timms_name_says_it(tmp_path, pixels):
    name = "vit_tiny_patch16_224"
    theirs = timm.create_model(name, num_classes=24).eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    torch.save(theirs.state_dict(), tmp_path / "model.pth")
    for file in ("model.safetensors", "model.pth"):
        with pytest.raises(CheckpointError, match=r"no layout .* timm's name of it as config="):
            load_model(tmp_path / file)
        ours, meta = load_model(tmp_path / file, config=f"{name}.augreg_in21k")
        assert isinstance(meta.config.image, TimmConfig)
        said = timm.get_pretrained_cfg(f"{name}.augreg_in21k")
        how = meta.config.preprocess
        assert (how.mean, how.std, how.crop_share) == (said.mean, said.std, said.crop_pct)
        x = torch.nn.functional.interpolate(pixels, (224, 224))
        with torch.no_grad():
            torch.testing.assert_close(ours.encode_image(x), theirs(x), atol=1e-5, rtol=1e-5)
    with pytest.raises(CheckpointError, match="isn't|no layout|have no place|missing"):
        load_model(tmp_path / "model.pth", config="vit_small_patch16_224")
    with pytest.raises(UnknownNameError, match="vit_tinny"):
        load_model(tmp_path / "model.pth", config="vit_tinny_patch16_224")


def test_without_config_json_shapes_may_say_it(tmp_path):
    name = "vit_pe_core_tiny_patch16_384"
    theirs = timm.create_model(name).eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    with pytest.warns(AssumptionWarning, match=f"timm's {name}, which alone has these shapes"):
        ours, meta = load_model(tmp_path / "model.safetensors")
    assert isinstance(meta.config.image, PeImageConfig)
    how, said = meta.config.preprocess, timm.get_pretrained_cfg(name)
    assert (how.mean, how.std) == (said.mean, said.std)
    x = torch.randn(1, 3, 384, 384, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_image(x), theirs(x), atol=1e-5, rtol=1e-5)
    assert load_model(tmp_path / "model.safetensors", config=name).config.image == meta.config.image


def test_a_classifier_of_imagenets_stays_behind(tmp_path, pixels):
    file = "pytorch_model.bin"
    theirs = saved(tmp_path / "in", "vit_base_patch16_clip_224", 1000, SMALL, file=file)
    ours, meta = load_model(tmp_path / "in" / file)
    assert sorted(meta.provenance["unused"]) == ["head.bias", "head.weight"]
    with torch.no_grad():
        wanted = theirs.forward_head(theirs.forward_features(pixels), pre_logits=True)
        torch.testing.assert_close(ours.encode_image(pixels), wanted, atol=1e-5, rtol=1e-5)
    picture = np.zeros((40, 50, 3), np.uint8)
    assert diptych.load(tmp_path / "in").embed_images([picture]).shape == (1, 32)


def test_pictures_are_made_as_timm_makes_them(tmp_path):
    for mode, resize in (("squash", "squash"), ("border", "longest"), ("center", "shortest")):
        said = {"crop_mode": mode, "crop_pct": 1.0, "interpolation": "bilinear"}
        saved(tmp_path / mode, "resnet10t", 0, {}, said)
        how = load_model(tmp_path / mode).config.preprocess
        assert (how.resize, how.interpolation, how.crop_share) == (resize, "bilinear", 1.0)
        convert(tmp_path / mode, "timm", tmp_path / f"{mode}-out")
    saved(tmp_path / "odd", "resnet10t", 0, {}, {"crop_mode": "squash", "crop_pct": 0.9})
    with pytest.raises(CheckpointError, match="cut by 'squash' with a share of 0.9"):
        load_model(tmp_path / "odd")


def test_what_does_not_fit_is_said(tmp_path):
    saved(tmp_path / "in", "resnet10t", 0, {})
    file = tmp_path / "in" / "config.json"
    content = json.loads(file.read_text())
    for change, said in (
        ({"architecture": "resnet10u"}, "timm has no model 'resnet10u'; near are"),
        ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "checkpoint_path aren't passed on"),
        ({"model_args": 3}, "config.json describes no model of timm's"),
        ({"pretrained_cfg": {"input_size": "wide"}}, "config.json describes no model of timm's"),
        ({"architecture": "convnext_atto"}, "is it a checkpoint of another|read as timm"),
    ):
        file.write_text(json.dumps(content | change))
        with pytest.raises(CheckpointError, match=said):
            load_model(tmp_path / "in")
    image = TimmConfig(name="resnet10t", image_size=32)
    with pytest.raises(CheckpointError, match="the classifier projects"):
        export(tmp_path / "out", alone(image, 24), {})


def naflex_inputs(packed, patch_size):
    """Our packed pictures as timm's dictionary of patches."""
    column, grids = unpack(packed, patch_size)
    rows = column.unflatten(2, (-1, patch_size)).permute(0, 2, 3, 4, 1).flatten(2)
    places, valid = [], []
    for height, width in grids.tolist():
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        place = torch.stack([y.flatten(), x.flatten()], dim=1)
        missing = rows.shape[1] - len(place)
        places.append(torch.nn.functional.pad(place, (0, 0, 0, missing)))
        valid.append(torch.arange(rows.shape[1]) < len(place))
    coord, seen = torch.stack(places), torch.stack(valid)
    return {"patches": rows, "patch_coord": coord, "patch_valid": seen}


@torch.no_grad()
def test_siglips_naflex_is_timms(tmp_path):
    made = timm.models.naflexvit
    cfg = made.NaFlexVitCfg(
        patch_size=16,
        embed_dim=768,
        depth=1,
        num_heads=12,
        mlp_ratio=1 / 12,
        act_layer="gelu_tanh",
        global_pool="map",
        pos_embed_grid_size=(4, 4),
        pos_embed_interp_mode="bilinear",
        attn_pool_mlp_ratio=1 / 12,
    )
    torch.manual_seed(0)
    theirs = made.NaFlexVit(cfg, num_classes=0).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    content = {"architecture": "naflexvit_base_patch16_siglip", "num_classes": 0}
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert detect(tmp_path) == "timm-naflex"
    encoder = diptych.load(tmp_path, patches=20)
    assert encoder.config.image == NaflexImageConfig(
        image_size=64, patch_size=16, layers=1, mlp_width=64
    )
    draw = np.random.default_rng(0)
    shapes = ((80, 60, 3), (40, 180, 3), (128, 128, 3))
    packed = encoder.pixels([draw.integers(0, 256, shape, np.uint8) for shape in shapes])
    wanted = theirs(naflex_inputs(packed, 16))
    found = encoder.model.encode_image(packed)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_naflex_is_written_for_timm(tmp_path, random_model):
    shape = {"width": 32, "layers": 2, "heads": 2, "mlp_width": 100}
    how = PreprocessConfig(
        resize="native", interpolation="bilinear", patches=20, patch_size=8, **GREY
    )
    model = random_model(
        ClipConfig(
            image=NaflexImageConfig(image_size=40, patch_size=8, **shape),
            text=SiglipTextConfig(context_length=8, vocab_size=50, **shape),
            embed_dim=32,
            preprocess=how,
        )
    )
    convert(save_model(tmp_path / "in", model), "timm", tmp_path / "out")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    encoder = diptych.load(tmp_path / "out")
    assert (encoder.config.image, encoder.config.preprocess) == (model.config.image, how)
    draw = np.random.default_rng(0)
    shapes = ((80, 60, 3), (40, 180, 3), (128, 128, 3))
    packed = encoder.pixels([draw.integers(0, 256, each, np.uint8) for each in shapes])
    wanted = theirs(naflex_inputs(packed, 8))
    torch.testing.assert_close(model.encode_image(packed), wanted, atol=1e-5, rtol=1e-5)
    convert(tmp_path / "out", "timm", tmp_path / "again")
    one, other = (load_file(tmp_path / each / "model.safetensors") for each in ("out", "again"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[each], other[each]) for each in one)
