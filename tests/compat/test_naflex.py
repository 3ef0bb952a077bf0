"""NaFlex as open_clip's main branch has it: SigLIP 2's models by its names, and patches."""

import pickle
from dataclasses import replace
from types import SimpleNamespace

import pytest
import timm
import torch
from PIL import Image

from diptych import compat, models, pretrained
from diptych.compat.loading.overrides import overridden
from diptych.compat.naflex_config import NaFlexDataConfig
from diptych.compat.open_clip_train.data import get_imagenet
from diptych.compat.transform import in_training
from diptych.config import PreprocessConfig
from diptych.errors import ConfigError
from diptych.families.siglip import NaflexImageConfig
from diptych.inputs.native import pack, unpack

SIZES = {"ViT-B-16-SigLIP2-naflex": "base", "ViT-SO400M-16-SigLIP2-naflex": "so400m"}
TEXTS = (
    "positional_embedding",
    "transformer.resblocks.0.attn.in_proj_weight",
    "text_projection.bias",
)


@pytest.mark.parametrize("name", SIZES)
def test_models_are_listed_with_their_weights(name):
    assert name in compat.list_models()
    assert compat.list_pretrained_tags_by_model(name) == ["webli"]
    found = compat.get_pretrained_cfg(name, "webli")
    assert found["hf_hub"] == f"timm/{name}/"
    assert (found["mean"], found["resize_mode"]) == ((0.5, 0.5, 0.5), "squash")


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_configurations_say_the_tower_and_how_large_pictures_are(name, size):
    said = compat.get_model_config(name)
    assert said["custom_text"]
    assert said["vision_cfg"] == {
        "image_size": 384,
        "image_seq_len": 576,
        "timm_model_name": f"naflexvit_{size}_patch16_siglip",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    }
    names = {"hf_tokenizer_name", "tokenizer_kwargs"}
    text = said["text_cfg"]
    assert {name: text[name] for name in names} == {
        "hf_tokenizer_name": f"timm/{name.replace('naflex', '256')}",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    }
    assert int(text["width"] * text["mlp_ratio"]) == {"base": 3072, "so400m": 4304}[size]


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_state_dicts_have_timms_names_behind_the_trunk(name, size):
    with torch.device("meta"):
        trunk = timm.create_model(f"naflexvit_{size}_patch16_siglip", num_classes=0)
    model = compat.OpenClipModel(models.build(pretrained.get(name), device="meta"))
    state = model.state_dict()
    found = {name: each.shape for name, each in state.items() if name.startswith("visual.")}
    wanted = {f"visual.trunk.{name}": each.shape for name, each in trunk.state_dict().items()}
    assert found == wanted
    assert {f"text.{each}" for each in TEXTS} | {"logit_scale", "logit_bias"} <= state.keys()
    assert {*dict(model.named_parameters())} <= state.keys()


def test_a_section_of_ones_own_says_another_budget():
    name = "ViT-B-16-SigLIP2-naflex"
    vision = compat.get_model_config(name)["vision_cfg"] | {"image_seq_len": 256}
    found = overridden(pretrained.get(name), {"vision_cfg": vision})
    assert found.image == NaflexImageConfig()
    assert (found.preprocess.patches, found.preprocess.mean) == (256, (0.5, 0.5, 0.5))


def test_pictures_keep_their_aspect_in_training_too():
    how = pretrained.get("ViT-B-16-SigLIP2-naflex").preprocess
    transform = in_training(how, 256, {"scale": (0.99, 1.0), "ratio": (1.0, 1.0)})
    pixels, (grid,) = unpack(transform(Image.new("RGB", (400, 200), (255, 0, 0)))[None], 16)
    rows, columns = grid.tolist()
    assert rows * columns <= 576 < (rows + 1) * (columns + 1)
    assert columns / rows == pytest.approx(2, abs=0.15)
    assert pixels[0, :, 0, 0].tolist() == pytest.approx([1, -1, -1])
    for option in ({"use_timm": True}, {"color_jitter_prob": 0.5}):
        with pytest.raises(ConfigError, match="keep their aspect"):
            in_training(how, 256, option)


PATCHES = {"use_timm": True, "naflex": True}


def test_timms_transforms_of_patches():
    """By `aug_cfg`'s word `naflex`, for loops of one's own; pickled, as loaders' processes need."""
    picture = Image.new("RGB", (64, 32), color=(200, 100, 0))
    train, val = (
        pickle.loads(pickle.dumps(compat.image_transform(32, is_train, aug_cfg=PATCHES)))
        for is_train in (True, False)
    )
    assert train.is_naflex_transform_factory
    assert val.is_naflex_transform_factory
    assert (train.is_naflex_eval_transform_factory, val.is_naflex_eval_transform_factory) == (
        False,
        True,
    )
    found = val(max_seq_len=8, patch_size=16)(picture)
    assert found["patch_coord"].tolist() == [[row, column] for row in (0, 1) for column in range(4)]
    assert found["patches"].shape == (8, 768)
    mean, std = compat.constants.OPENAI_DATASET_MEAN, compat.constants.OPENAI_DATASET_STD
    wanted = (torch.tensor([200, 100, 0]) / 255 - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(found["patches"].unflatten(1, (-1, 3))[0, 0], wanted)
    crop = train(max_seq_len=8, patch_size=16)(picture)
    assert crop.shape[0] == 3
    assert crop[0].numel() <= 8 * 16**2
    with pytest.raises(ConfigError, match="naflex is timm's; set use_timm=True"):
        compat.image_transform(32, False, aug_cfg={"naflex": True})


@torch.no_grad()
def test_squares_of_pixels_are_cut_into_patches():
    config = NaflexImageConfig(
        image_size=32, patch_size=8, width=32, layers=1, heads=2, mlp_width=64
    )
    how = PreprocessConfig(resize="native", patches=16, patch_size=8)
    base = pretrained.get("ViT-B-16-SigLIP2-naflex")
    text = replace(base.text, width=32, layers=1, heads=2, mlp_width=64, vocab_size=50)
    made = replace(base, image=config, text=text, embed_dim=32, preprocess=how)
    model = compat.OpenClipModel(models.build(made)).eval()
    levels = torch.randint(256, (3, 32, 24), generator=torch.Generator().manual_seed(0))
    packed = pack(levels.to(torch.uint8), 8, 12)[None].float()
    torch.testing.assert_close(model.encode_image(levels[None].float()), model.encode_image(packed))


def test_imagenet_in_patches(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 16)).save(tmp_path / name / "0.png")
    args = SimpleNamespace(imagenet_val=str(tmp_path), batch_size=2, workers=0)
    val = compat.image_transform(32, False, aug_cfg=PATCHES)
    sizes = NaFlexDataConfig.resolve(patch_sizes=[16], seq_lens=[4])
    [(images, classes)] = get_imagenet(args, (val, val), "val", sizes).dataloader
    assert images["patch_valid"].sum(1).tolist() == [2, 2]
    assert images["patches"].shape == (2, 4, 768)
    assert classes.tolist() == [0, 1]
    with pytest.raises(ConfigError, match="--imagenet-train"):
        get_imagenet(args, (val, val), "train", sizes)
