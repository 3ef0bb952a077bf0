"""A plain ViT made one for pictures of their own aspect gives the same vectors of squares."""

from dataclasses import replace

import pytest
import torch

from diptych import models, pretrained
from diptych.compat.faces.naflex import packed_squares
from diptych.config import ClipConfig
from diptych.errors import ConfigError
from diptych.families.clip import ResNetConfig, TextConfig, VitConfig
from diptych.families.clip.layouts import open_clip
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.timm import NaflexVitConfig, TimmConfig
from diptych.families.timm.as_naflex import NotNaflexError, as_naflex, naflex_of
from diptych.families.timm.model import fixed_size, kept_norm

VIT = VitConfig(image_size=32, patch_size=8, width=32, layers=2, heads=2, mlp_width=80)
TEXT = TextConfig(context_length=8, vocab_size=40, width=16, layers=1, heads=1, mlp_width=32)
CONFIG = ClipConfig(image=VIT, text=TEXT, embed_dim=12)


@pytest.mark.parametrize(
    "options", [{}, {"activation": "quick_gelu", "layer_scale": 0.1}], ids=["plain", "scaled"]
)
@torch.no_grad()
def test_squares_have_the_same_vectors(random_model, options):
    made = random_model(replace(CONFIG, image=replace(VIT, **options))).eval()
    found = as_naflex(made)
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    both = found.encode_image(packed_squares(pixels, 8)), made.encode_image(pixels)
    torch.testing.assert_close(*both, atol=1e-5, rtol=1e-5)
    assert found.encode_image(packed_squares(pixels[..., :24], 8)).isfinite().all()
    assert found.text is made.text
    how = found.config.preprocess
    assert (how.resize, how.patches, how.patch_size) == ("native", 16, 8)
    assert isinstance(found.config.image, NaflexVitConfig)
    assert from_json(to_json(found.config)) == found.config


@pytest.mark.parametrize(
    "image",
    [
        replace(VIT, pool="mean"),
        replace(VIT, pre_norm=False),
        replace(VIT, activation="gelu_tanh"),
        replace(VIT, norm_eps=1e-6),
        ResNetConfig(image_size=64, layers=(1, 1, 1, 1), width=8, heads=4),
    ],
)
def test_others_can_not(image):
    made = models.build(replace(CONFIG, image=image), device="meta")
    with pytest.raises(ConfigError, match="can't become one for pictures of their own aspect"):
        as_naflex(made)


def test_a_published_size_on_meta():
    found = as_naflex(models.build(pretrained.get("vit-b-32"), device="meta"))
    assert found.image.trunk.embeds.pos_embed.shape == (1, 7, 7, 768)


@pytest.mark.parametrize(
    ("name", "pool", "projection"),
    [
        ("vit_tiny_patch16_224", "token", "linear"),
        ("vit_tiny_patch16_224", "avg", "mlp"),
        ("vit_tiny_patch16_224", "avg", "none"),
        ("eva02_tiny_patch14_224", "avg", "linear"),
        ("eva02_tiny_patch14_224", "token", "classifier"),
        ("vit_pe_core_tiny_patch16_384", "map", "classifier"),
    ],
)
@torch.no_grad()
def test_timms_towers_have_the_same_vectors(random_model, name, pool, projection):
    side = fixed_size(name)
    options = {"global_pool": pool} | (kept_norm(name, pool) if projection == "mlp" else {})
    image = TimmConfig(name=name, image_size=side, options=options, projection=projection)
    embed_dim = 192 if projection == "none" else 12
    made = random_model(replace(CONFIG, image=image, embed_dim=embed_dim)).eval()
    found = as_naflex(made)
    size = found.config.image.patch_size
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    both = found.encode_image(packed_squares(pixels, size)), made.encode_image(pixels)
    torch.testing.assert_close(*both, atol=1e-5, rtol=1e-4)
    assert found.config.preprocess.patches == (side // size) ** 2
    assert from_json(to_json(found.config)) == found.config
    theirs = open_clip.export_table(found.config).to_foreign(found.state_dict())
    assert open_clip.table(theirs).to_ours(theirs).keys() == found.state_dict().keys()


@pytest.mark.parametrize(
    "name", ["resnet10t", "swin_tiny_patch4_window7_224", "naflexvit_base_patch16_gap"]
)
def test_others_of_timms_can_not(name):
    image = TimmConfig(name=name)
    with pytest.raises(NotNaflexError, match="can't become one for pictures of their own"):
        naflex_of(replace(CONFIG, image=image))
