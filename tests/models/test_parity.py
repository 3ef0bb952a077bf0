"""Our towers against open_clip's and transformers', on the same random weights."""

import pytest
import torch

from diptych import pretrained
from diptych.config import ClipConfig
from diptych.families.clip import pretrained as clip_models
from diptych.families.clip.layouts import open_clip, transformers_names
from diptych.models import build
from tests.models.peers import (
    RESNET,
    TEXT,
    VIT,
    captions,
    open_clip_model,
    shake,
    transformers_model,
)

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
SMALL = {
    "vit gelu": ClipConfig(image=VIT, text=TEXT, embed_dim=24),
    "vit quick_gelu": clip_models.quick(ClipConfig(image=VIT, text=TEXT, embed_dim=24)),
    "resnet": ClipConfig(image=RESNET, text=TEXT, embed_dim=24),
}


@pytest.mark.parametrize("config", SMALL.values(), ids=SMALL.keys())
def test_equals_open_clip(config):
    torch.manual_seed(0)
    theirs, ours = open_clip_model(config), build(config).eval()
    shake(theirs)
    ours.load_state_dict(open_clip.table(theirs.state_dict()).to_ours(theirs.state_dict()))
    pixels, ids = torch.randn(4, 3, config.image.image_size, config.image.image_size), captions()
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_image(pixels), theirs.encode_image(pixels), **CLOSE)
        torch.testing.assert_close(ours.encode_text(ids), theirs.encode_text(ids), **CLOSE)
        images, texts = ours(pixels, ids)
        torch.testing.assert_close(
            ours.logits(images, texts), theirs.get_logits(pixels, ids)[0], **CLOSE
        )


@pytest.mark.parametrize("name", ["vit gelu", "resnet"])
def test_open_clip_takes_our_weights(name):
    config = SMALL[name]
    torch.manual_seed(0)
    theirs, ours = open_clip_model(config), build(config).eval()
    shake(ours)
    theirs.load_state_dict(open_clip.export_table(config).to_foreign(ours.state_dict()))
    pixels, ids = torch.randn(2, 3, config.image.image_size, config.image.image_size), captions(2)
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_image(pixels), theirs.encode_image(pixels), **CLOSE)
        torch.testing.assert_close(ours.encode_text(ids), theirs.encode_text(ids), **CLOSE)


def test_resnet_trains_like_open_clips():
    """Batch statistics, too: outputs in training mode and the running statistics after it."""
    config = SMALL["resnet"]
    torch.manual_seed(0)
    theirs, ours = open_clip_model(config), build(config)
    shake(theirs)
    table = open_clip.table(theirs.state_dict())
    ours.load_state_dict(table.to_ours(theirs.state_dict()))
    pixels = torch.randn(4, 3, 64, 64)
    mine, other = ours.train().encode_image(pixels), theirs.train().encode_image(pixels)
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
    other = table.to_ours(theirs.state_dict())
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("name", ["vit gelu", "vit quick_gelu"])
@pytest.mark.parametrize("direction", ["import", "export"])
def test_equals_transformers(name, direction):
    config = SMALL[name]
    torch.manual_seed(0)
    theirs, ours = transformers_model(config), build(config).eval()
    if direction == "import":
        shake(theirs)
        ours.load_state_dict(transformers_names.TABLE.to_ours(theirs.state_dict()))
    else:
        shake(ours)
        theirs.load_state_dict(transformers_names.TABLE.to_foreign(ours.state_dict()))
    pixels, ids = torch.randn(4, 3, 32, 32), captions()
    with torch.no_grad():
        out = theirs(input_ids=ids, pixel_values=pixels)
        images, texts = ours(pixels, ids)
        torch.testing.assert_close(images, out.image_embeds, **CLOSE)
        torch.testing.assert_close(texts, out.text_embeds, **CLOSE)
        torch.testing.assert_close(ours.logits(images, texts), out.logits_per_image, **CLOSE)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_gradients_equal_open_clips(activation):
    config = SMALL[f"vit {activation}"]
    torch.manual_seed(0)
    theirs, ours = open_clip_model(config), build(config)
    shake(theirs)
    table = open_clip.table(theirs.state_dict())
    ours.load_state_dict(table.to_ours(theirs.state_dict()))
    pixels, ids = torch.randn(4, 3, 32, 32), captions()
    for model in (ours, theirs):
        (model.encode_image(pixels) * model.encode_text(ids)).square().sum().backward()
    other = table.to_ours(
        {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    )
    mine = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    assert mine.keys() == other.keys()
    for name, gradient in mine.items():
        scale = other[name].abs().max()
        torch.testing.assert_close(
            gradient / scale, other[name] / scale, rtol=1e-4, atol=1e-5, msg=name
        )


@pytest.mark.parametrize("name", [*clip_models.MODELS, "vit-b-32-quickgelu"])
def test_full_size_names_and_shapes_equal_open_clips(name):
    config = pretrained.get(name)
    with torch.device("meta"):
        theirs = open_clip_model(config).state_dict()
    ours = build(config, device="meta")
    there = {key: tuple(value.shape) for key, value in theirs.items()}
    exported = open_clip.export_table(config).to_foreign(ours.state_dict())
    assert {key: tuple(value.shape) for key, value in exported.items()} == there
    imported = open_clip.table(theirs).to_ours(theirs)
    assert {key: value.shape for key, value in imported.items()} == {
        key: value.shape for key, value in ours.state_dict().items()
    }


PARAMETERS = {
    "vit-b-32": 151_277_313,
    "vit-b-16": 149_620_737,
    "vit-l-14": 427_616_513,
    "vit-l-14-336": 427_944_193,
    "rn50": 102_007_137,
    "rn101": 119_688_033,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_are_the_published_ones(name):
    assert (
        sum(p.numel() for p in build(pretrained.get(name), device="meta").parameters())
        == PARAMETERS[name]
    )


@pytest.mark.parametrize(
    "name", ["vit-b-32-quickgelu", "vit-b-16-quickgelu", "vit-l-14-336-quickgelu"]
)
def test_full_size_names_and_shapes_equal_transformers(name):
    config = pretrained.get(name)
    with torch.device("meta"):
        theirs = transformers_model(config).state_dict()
    exported = transformers_names.TABLE.to_foreign(build(config, device="meta").state_dict())
    assert {key: value.shape for key, value in exported.items()} == {
        key: v.shape for key, v in theirs.items()
    }


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_trimmed_text_equals_padded_text(activation):
    """Whatever stands behind the end of text, and however long it is."""
    torch.manual_seed(0)
    model = build(SMALL[f"vit {activation}"]).eval()
    shake(model)
    ids = captions(4, 12)
    other = torch.where(torch.arange(12) > ids.argmax(dim=1, keepdim=True), 7, ids)
    with torch.no_grad():
        whole = model.encode_text(ids)
        torch.testing.assert_close(model.encode_text(ids[:, :6]), whole, **CLOSE)
        torch.testing.assert_close(model.encode_text(other), whole, **CLOSE)
        for row, vector in zip(ids, whole):
            alone = row[: row.argmax() + 1][None]
            torch.testing.assert_close(model.encode_text(alone)[0], vector, **CLOSE)
