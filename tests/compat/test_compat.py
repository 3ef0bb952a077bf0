"""The spellings' signatures and return values, and what can't be honoured."""

import inspect
import json

import pytest
import torch
from PIL import Image

from diptych import compat
from diptych.compat import clip
from diptych.compat.loading.precision import dtype_of
from diptych.errors import CheckpointError, ConfigError, RandomWeightsWarning, UnknownNameError


def test_what_is_returned(published):
    model, train, preprocess = compat.create_model_and_transforms(
        published.config, published.weights
    )
    picture = Image.open(published.picture)
    pixels, ids = (
        preprocess(picture)[None],
        compat.get_tokenizer(published.config)(["a cat", "two dogs"]),
    )
    assert pixels.shape == train(picture)[None].shape == (1, 3, 56, 56)
    assert ids.shape == (2, 77)
    with torch.no_grad():
        image, _, scale = model(pixels, ids)
        torch.testing.assert_close(image, model.encode_image(pixels, normalize=True))
        torch.testing.assert_close(model.encode_text(ids), published.model.encode_text(ids))
    torch.testing.assert_close(scale, published.model.logit_scale.exp()[0])
    assert not model.training
    assert model.visual.tower is model.clip.image
    assert len(compat.create_model_from_pretrained(published.config, published.weights)) == 2


def test_open_clips_signatures_are_understood():
    """Every option that open_clip's callers may write by name is one of ours."""
    open_clip = pytest.importorskip("open_clip")
    ours = set(inspect.signature(compat.create_model).parameters)
    theirs = set(inspect.signature(open_clip.create_model_and_transforms).parameters)
    assert theirs - ours == {"aug_cfg"}
    with pytest.raises(ConfigError, match="aug_cfg=.* has no counterpart in Diptych; leave it out"):
        compat.create_model("tiny", aug_cfg={"scale": (0.9, 1.0)})


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_needs_no_autocast(published, precision):
    model = compat.create_model(published.config, published.weights, precision)
    image = model.encode_image(torch.randn(1, 3, 56, 56))
    assert image.dtype == dtype_of(precision)
    assert model.logit_scale.dtype == torch.float32


def test_options(published):
    options = {
        "force_image_size": 84,
        "image_resize_mode": "squash",
        "force_patch_dropout": 0.5,
        "image_mean": (0.5,) * 3,
    }
    model, _, preprocess = compat.create_model_and_transforms(
        published.config, published.weights, **options
    )
    assert model.clip.config.image.image_size == preprocess.fused.size == 84
    assert preprocess.fused.config.resize == "squash"
    assert preprocess.fused.config.mean == (0.5, 0.5, 0.5)
    assert model.visual.tower.drop.share == 0.5
    quick = compat.create_model("tiny", force_quick_gelu=True, load_weights=False)
    assert quick.config.text.activation == "quick_gelu"


def test_towers_from_their_own_files(published):
    with pytest.warns(RandomWeightsWarning, match="no pretrained weights are loaded for"):
        model = compat.create_model(published.config, pretrained_image=str(published.weights))
    for name, tensor in published.model.image.state_dict().items():
        assert torch.equal(model.clip.image.state_dict()[name], tensor)
    both = {"pretrained_image": published.weights, "pretrained_text": published.weights}
    compat.create_model(published.config, **both)  # nothing is random: no warning


def test_what_cannot_be_honoured_is_said(published, tmp_path):
    with pytest.raises(ConfigError, match="bnb"):
        compat.create_model("tiny", bnb=True)
    with pytest.raises(UnknownNameError, match="precision"):
        compat.create_model("tiny", precision="fp8")
    with pytest.raises(UnknownNameError, match="eva02-clip-b-16"):
        compat.create_model("EVA02-CLIP-B-17")
    with pytest.raises(CheckpointError, match=r"missing\.pt"):
        compat.create_model("tiny", tmp_path / "missing.pt")
    with pytest.raises(CheckpointError, match="no weights are known"):
        compat.create_model_from_pretrained("tiny")
    with pytest.raises(ConfigError, match="truncate"):
        clip.tokenize("word " * 100)
    assert clip.tokenize("word " * 100, truncate=True).shape == (1, 77)


def test_names_of_every_generation():
    names = compat.list_models()
    assert {"EVA02-B-16", "eva-clip-18b", "ViT-B-32"} <= set(names)
    assert "eva-8b-psz14" not in names
    assert compat.get_tokenizer("EVA-ViT-g-14-X").context_length == 77


@pytest.mark.parametrize("remote_code", [True, False])
def test_the_class_itself_reads_folders_with_and_without_remote_code(
    exported, published, remote_code
):
    pytest.importorskip("transformers")
    from diptych.compat.transformers import EvaClipModel

    if not remote_code:  # as such folders were written once
        (exported / "modeling_eva_clip.py").unlink()
        content = json.loads((exported / "config.json").read_text())
        del content["auto_map"]
        (exported / "config.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="dtype='half-way' is none of torch's"):
        EvaClipModel.from_pretrained(exported, dtype="half-way")
    model = EvaClipModel.from_pretrained(exported)
    for name, tensor in published.model.state_dict().items():
        assert torch.equal(model.model.clip.state_dict()[name], tensor)
