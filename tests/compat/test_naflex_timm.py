"""SigLIP 2's towers for pictures of their own aspect are timm's here, as on open_clip's main
branch."""

import sys

import pytest
import torch
from timm.models.naflexvit import NaFlexVit

from diptych import compat
from diptych.compat.faces.naflex import packed, patches_of
from diptych.compat.faces.naflex_timm import NaflexTimmModel
from diptych.compat.faces.towers import OpenClipVisual
from diptych.errors import ConfigError
from diptych.inputs.native import pack
from tests.families.siglip.test_naflex_open_clip import MODEL, VISION

NEAR = {"atol": 2e-5, "rtol": 1e-4}


@pytest.fixture
def name(monkeypatch):
    monkeypatch.setitem(compat.factory._MODEL_CONFIGS, "small", MODEL | {"vision_cfg": VISION})
    return "small"


@pytest.fixture
def batch():
    """Two pictures of other grids in rows of 12 patches of 8 pixels."""
    rng = torch.Generator().manual_seed(0)
    pictures = [torch.randint(256, shape, generator=rng) for shape in ((3, 32, 24), (3, 16, 40))]
    return torch.stack([pack(each.to(torch.uint8), 8, 12).float() for each in pictures])


@torch.no_grad()
def test_the_trunk_is_timms(name, batch):
    model = compat.create_model(name, load_weights=False)
    trunk = model.visual.trunk
    assert isinstance(model.visual, NaflexTimmModel)
    assert isinstance(trunk, NaFlexVit)
    assert trunk.embeds.proj.weight.shape == (64, 3 * 8 * 8)
    assert trunk.embeds.pos_embed.shape == (1, 5, 5, 64)
    assert (model.visual.get_patch_size(), model.visual.image_seq_len) == ((8, 8), 30)
    found = model.encode_image(batch)
    torch.testing.assert_close(found, model.clip.encode_image(batch), **NEAR)
    patches = patches_of(batch, 8)
    torch.testing.assert_close(model.encode_image(patches), found, **NEAR)
    torch.testing.assert_close(model.clip.encode_image(packed(patches, 8)), found, **NEAR)
    torch.testing.assert_close(model.pixels(patches), batch)
    half = model.to(torch.bfloat16).encode_image(patches)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), found, atol=0.05, rtol=0.05)


@torch.no_grad()
def test_it_gives_what_ours_gives_without_timm(name, batch, monkeypatch):
    with_timm = compat.create_model(name, load_weights=False)
    monkeypatch.setitem(sys.modules, "timm", None)
    without = compat.create_model(name, load_weights=False)
    monkeypatch.undo()
    assert isinstance(without.visual, OpenClipVisual)
    without.load_state_dict(with_timm.state_dict())
    pixels = torch.randn(1, 3, 24, 40)
    for given in (batch, patches_of(batch, 8), pixels):
        found, wanted = (model.encode_image(given) for model in (with_timm, without))
        torch.testing.assert_close(found, wanted, **NEAR)
    with_timm.visual.output_tokens = without.visual.output_tokens = True
    found, wanted = (model.visual(batch) for model in (with_timm, without))
    seen = wanted["patch_valid"]
    assert torch.equal(found["patch_valid"], seen)
    both = found["patch_tokens"][seen], wanted["patch_tokens"][seen]
    torch.testing.assert_close(*both, **NEAR)
    assert without.visual.image_seq_len == with_timm.visual.image_seq_len


@pytest.mark.parametrize("where", ["visual", "clip"])
def test_patches_that_are_none_are_refused(name, batch, where):
    model = compat.create_model(name, load_weights=False)
    take = model.encode_image if where == "visual" else model.pixels
    patches = patches_of(batch, 8)
    with pytest.raises(ConfigError, match="patches of 190 numbers; this tower takes 8 x 8 pixels"):
        take(patches | {"patches": patches["patches"][..., :190]})
    for missing in patches:
        with pytest.raises(ConfigError, match=f"pictures in patches lack {missing}"):
            take({name: each for name, each in patches.items() if name != missing})


@pytest.mark.parametrize(
    "vision", [VISION, {"timm_model_name": "vit_base_patch32_siglip_256", "image_size": 256}]
)
def test_patches_are_dropped_in_training(vision, monkeypatch):
    of_map = {"timm_pool": "map", "timm_proj": "none"}
    width = 64 if vision is VISION else 768
    said = MODEL | {"embed_dim": width, "vision_cfg": vision | of_map}
    monkeypatch.setitem(compat.factory._MODEL_CONFIGS, "dropping", said)
    model = compat.create_model("dropping", load_weights=False, force_patch_dropout=0.5)
    assert model.visual.patch_drop == 0.5
    pixels = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        kept = [model.visual(pixels) for _ in range(2)]
        model.train()
        dropped = [model.visual(pixels) for _ in range(2)]
    assert torch.equal(*kept)
    assert not torch.equal(*dropped)
    again = [each.share for each in model.clip.image.modules() if hasattr(each, "share")]
    assert again == [0.5]
