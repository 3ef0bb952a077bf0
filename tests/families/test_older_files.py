"""Configurations as an older Diptych wrote them, when what only training does stood in them."""

import json

import pytest
import torch

from diptych.checkpoints import load_model
from diptych.config import ClipConfig
from diptych.config.serialize import from_dict, to_dict
from diptych.errors import ConfigError
from diptych.models import build
from diptych.weights import save_model

PREPROCESS = (
    '{"type": "PreprocessConfig", "resize": "shortest", "crop_share": 1.0, '
    '"interpolation": "bicubic", "fill": 0, "mean": [0.48145466, 0.4578275, 0.40821073], '
    '"std": [0.26862954, 0.26130258, 0.27577711]}'
)
TEXT = (
    '{"type": "TextConfig", "context_length": 8, "vocab_size": 60, "width": 32, "layers": 1, '
    '"heads": 1, "mlp_width": 64, "activation": "gelu", "norm_eps": 1e-05, '
    '"projection_bias": false}'
)
IMAGES = {
    "vit": (
        '{"type": "VitConfig", "image_size": 32, "patch_size": 8, "width": 128, "layers": 1, '
        '"heads": 2, "mlp_width": 256, "activation": "gelu", "pool": "cls", "pre_norm": true, '
        '"stem_widths": [], "norm_eps": 1e-05, "patch_dropout": 0.5}'
    ),
    "eva": (
        '{"type": "EvaConfig", "image_size": 32, "patch_size": 8, "width": 32, "layers": 1, '
        '"heads": 2, "mlp_width": 48, "mlp": "gelu", "norm": "layer", "norm_eps": 1e-06, '
        '"norm_place": "pre", "attention_norm": false, "mlp_norm": false, "qkv_bias": true, '
        '"projection_bias": true, "rotary_grid": null, "layer_scale": null, "pool": "cls", '
        '"patch_dropout": 0.25, "stochastic_depth": 0.1}'
    ),
    "unireplknet": (
        '{"type": "UniRepLKNetConfig", "image_size": 32, "depths": [1, 1, 1, 1], '
        '"widths": [8, 8, 8, 8], "kernel_sizes": [[3], [13], [13], [13]], "layer_scale": 1e-06, '
        '"stochastic_depth": 0.2, "projection_bias": false, "deploy": false}'
    ),
    "resnet": (
        '{"type": "ResNetConfig", "image_size": 32, "layers": [1, 1, 1, 1], "width": 8, '
        '"heads": 4, "head": "attention"}'
    ),
}
KNOBS = ("patch_dropout", "stochastic_depth")


def older(image: str) -> dict:
    return json.loads(
        f'{{"type": "ClipConfig", "image": {IMAGES[image]}, "text": {TEXT}, "embed_dim": 16, '
        '"token_dim": null, "logit_scale": 2.659260036932778, "logit_bias": null, '
        f'"preprocess": {PREPROCESS}, '
        '"tokenizer": {"type": "TokenizerConfig", "kind": "clip", "name": ""}}'
    )


@pytest.mark.parametrize("image", IMAGES)
def test_what_only_training_did_is_passed_over(image):
    written = older(image)
    config = from_dict(ClipConfig, written)
    expected = json.loads(json.dumps(written))
    for knob in KNOBS:
        expected["image"].pop(knob, None)
    assert json.loads(json.dumps(to_dict(config))) == expected


@pytest.mark.parametrize("image", IMAGES)
def test_a_model_saved_then_loads(image, tmp_path):
    model = build(from_dict(ClipConfig, older(image)))
    save_model(tmp_path / "model", model)
    meta = json.loads((tmp_path / "model" / "model.json").read_text())
    meta["config"] = older(image)
    (tmp_path / "model" / "model.json").write_text(json.dumps(meta))
    loaded, _ = load_model(tmp_path / "model")
    assert loaded.config == model.config
    state = loaded.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_field_that_never_was_is_still_an_error():
    written = older("resnet")
    written["image"]["patch_dropout"] = 0.5
    with pytest.raises(ConfigError, match=r"ClipConfig.image has no field 'patch_dropout'"):
        from_dict(ClipConfig, written)
