"""Towers of squares made such of pictures of their own aspect, by open_clip's words and names, and
patches of other sizes than a tower's own."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from timm.layers.patch_embed import PatchEmbedInterpolator
from torchvision.transforms.functional import to_tensor

from diptych import compat
from diptych.compat import naflex_convert
from diptych.compat.faces.naflex import patches_of, resized
from diptych.compat.open_clip_train.naflex_data import (
    NaFlexBatchScheduler,
    create_naflex_data_config_from_args,
    create_naflex_eval_transform,
    get_naflex_model_image_seq_len,
    get_naflex_model_patch_size,
    get_naflex_model_supports_patch_interpolation,
)
from diptych.errors import ConfigError

TEXT = {"context_length": 4, "vocab_size": 16, "width": 8, "layers": 1, "heads": 1}
PLAIN = {"image_size": 32, "patch_size": 16, "width": 8, "layers": 1, "head_width": 8}
OF_TIMM = {"timm_model_name": "eva02_tiny_patch14_224", "timm_pool": "token"}
SIGLIP = {"timm_model_name": "vit_base_patch32_siglip_256", "timm_pool": "map", "timm_proj": "none"}
MODELS = {"plain": PLAIN, "eva": OF_TIMM, "siglip": SIGLIP | {"image_size": 256}}


def said(vision):
    embed_dim = 768 if vision.get("timm_proj") == "none" else 8
    return {"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": TEXT}


@pytest.fixture(params=MODELS)
def name(request, monkeypatch):
    monkeypatch.setitem(compat.factory._MODEL_CONFIGS, request.param, said(MODELS[request.param]))
    return request.param


@torch.no_grad()
def test_weights_of_a_tower_of_squares_give_the_same_vectors(name):
    squares = compat.create_model(name, load_weights=False)
    model = compat.create_model(name, load_weights=False, force_naflex_vision=True)
    model.load_state_dict(naflex_convert.convert_naflex_state_dict(model, squares.state_dict()))
    side = squares.visual.image_size[0]
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    both = model.encode_image(pixels), squares.encode_image(pixels)
    torch.testing.assert_close(*both, atol=1e-5, rtol=1e-5)
    assert naflex_convert.convert_naflex_state_dict(squares, {"a": pixels})["a"] is pixels


def test_the_configuration_says_the_tower(name):
    model_cfg = said(MODELS[name])
    naflex_convert.apply_naflex_vision_config(model_cfg)
    vision = model_cfg["vision_cfg"]
    arguments = vision["timm_model_kwargs"]
    assert arguments["use_naflex"]
    assert arguments["enable_patch_interpolator"]
    if name == "plain":
        assert (vision["timm_pool"], vision["timm_proj"]) == ("token", "linear")
        assert (arguments["embed_dim"], arguments["pos_embed_grid_size"]) == (8, (2, 2))
    else:
        assert vision["timm_model_name"] == MODELS[name]["timm_model_name"]
        assert arguments["patch_size"] == {"eva": 14, "siglip": 32}[name]
    again = dict(vision)
    naflex_convert.apply_naflex_vision_config(model_cfg)
    assert model_cfg["vision_cfg"] == again
    with pytest.raises(RuntimeError, match="only standard native OpenCLIP/OpenAI ViT towers"):
        naflex_convert.apply_naflex_vision_config(compat.get_model_config("RN50"))


def test_patches_are_resized_as_timm_resizes_kernels():
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 8 * 8 * 3, generator=rng)
    for sides, mode in (((12, 10), "bicubic"), ((5, 5), "bilinear")):
        patches = torch.randn(2, 3, *sides, 3, generator=rng)
        wanted = PatchEmbedInterpolator((8, 8), 3, 4, interpolation=mode)(
            patches, weight, None, sides
        )
        found = resized(patches, 8, mode).flatten(2) @ weight.T
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_a_tower_takes_patches_of_another_size(monkeypatch):
    monkeypatch.setitem(compat.factory._MODEL_CONFIGS, "plain", said(PLAIN))
    model = compat.create_model("plain", load_weights=False, force_naflex_vision=True)
    assert (get_naflex_model_patch_size(model), get_naflex_model_image_seq_len(model)) == (
        (16, 16),
        4,
    )
    assert get_naflex_model_supports_patch_interpolation(model)
    scheduler = NaFlexBatchScheduler(
        train_num_samples=1,
        patch_size_choices=(16, 32),
        model_patch_size=16,
        seq_lens=[4],
        transform_factory=lambda **_: to_tensor,
    )
    picture = Image.effect_noise((64, 64), 50).convert("RGB")
    batches = [
        scheduler.collate_batch([{"image": each, "text": 0}], seq_len=4, patch_idx=index)["image"]
        for index, each in enumerate((picture.resize((32, 32)), picture))
    ]
    assert [batch["patches"].shape for batch in batches] == [(1, 4, 768), (1, 4, 32, 32, 3)]
    model.encode_image(batches[1]).square().sum().backward()
    assert model.visual.trunk.embeds.proj.weight.grad.abs().sum() > 0
    # One picture, once of large patches: nearly the same vector.
    vectors = [model.encode_image(batch, normalize=True) for batch in batches]
    assert (vectors[0] * vectors[1]).sum() > 0.99


def test_sizes_that_a_model_does_not_take_are_refused():
    args = SimpleNamespace(naflex_patch_sizes=[16, 32], naflex_seq_lens=[4])
    with pytest.raises(ConfigError, match="patch interpolation enabled/supported"):
        create_naflex_data_config_from_args(args, 16, supports_patch_interpolation=False)
    args.naflex_patch_sizes = [32]
    config = create_naflex_data_config_from_args(args, 16, supports_patch_interpolation=True)
    factory = compat.image_transform(32, False, aug_cfg={"use_timm": True, "naflex": True})
    transform, seq_len, size = create_naflex_eval_transform(factory, config)
    found = transform(Image.new("RGB", (64, 32)))
    assert (found["patches"].shape, seq_len, size) == ((2, 32, 32, 3), 4, (32, 32))
    with pytest.raises(ConfigError, match="needs a factory of transforms"):
        create_naflex_eval_transform(to_tensor, config)
    named = patches_of(torch.zeros(1, 3, 32, 32), 16)
    squares = compat.create_model("tiny", load_weights=False)
    assert not get_naflex_model_supports_patch_interpolation(squares)
    with pytest.raises(ConfigError, match="takes squares of pixels"):
        squares.encode_image(named)
