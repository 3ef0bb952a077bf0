"""EVA-CLIP's JSON: the schema's defaults, its rules, and what has no place."""

import pytest

from diptych import pretrained
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip import TextConfig, VitConfig
from diptych.families.clip.layouts.open_clip_config import from_json
from diptych.families.clip.layouts.towers import mlp_ratio
from diptych.families.eva import EvaConfig
from diptych.families.eva.layouts import eva
from tests.families.eva.small import MODELS, ODD


def read(vision=None, text=None, **rest):
    cfg = {
        "embed_dim": 512,
        "vision_cfg": {"eva_model_name": "x"} | (vision or {}),
        "text_cfg": text or {},
    }
    return from_json({"model_cfg": cfg | rest})


def test_what_is_not_written_has_the_schemas_default():
    assert read().image == EvaConfig(
        image_size=224, patch_size=16, width=768, layers=12, heads=12, mlp_width=3072
    )
    assert read().text == TextConfig(
        context_length=77, vocab_size=49408, width=512, layers=12, heads=8, mlp_width=2048
    )


@pytest.mark.parametrize(
    ("vision", "fields"),
    [
        ({"postnorm": True}, {"norm_place": "post"}),
        ({"use_rms_norm": True}, {"norm": "rms", "norm_eps": 1e-6}),
        ({"qkv_bias": False}, {"qkv_bias": False, "projection_bias": False}),
        ({"subln": True}, {"attention_norm": True, "mlp_norm": True}),
        ({"naiveswiglu": True, "mlp_ratio": 2.6667}, {"mlp": "swiglu", "mlp_width": 2048}),
        ({"rope": True, "intp_freq": True}, {"rotary_grid": 16}),
        ({"rope": True, "pt_hw_seq_len": 14}, {"rotary_grid": 14}),
        ({"pt_hw_seq_len": 14, "intp_freq": True}, {"rotary_grid": None}),
        ({"ls_init_value": 0.1}, {"layer_scale": 0.1}),
        ({"ls_init_value": 0}, {"layer_scale": None}),
        ({"ls_init_value": -1}, {"layer_scale": None}),
        ({"global_average_pool": True}, {"pool": "mean"}),
        ({"drop_path_rate": 0.4, "patch_dropout": 0.5}, {}),
        (
            {"width": 1792, "head_width": 112, "mlp_ratio": 8.571428571428571},
            {"heads": 16, "mlp_width": 15360},
        ),
        ({"width": 1024, "mlp_ratio": 2.6667}, {"mlp_width": 2730}),
        ({"xattn": True, "fusedLN": True, "timm_pool": "avg", "timm_proj": "linear"}, {}),
    ],
)
def test_options(vision, fields):
    image = read(vision).image
    plain = read().image
    for name, value in fields.items():
        assert getattr(image, name) == value
    if not fields:
        assert image == plain


def test_the_activation_is_the_text_towers_alone():
    assert read(quick_gelu=True).text.activation == "quick_gelu"
    assert read(quick_gelu=True).image == read().image
    assert eva.to_json(read(quick_gelu=True))["quick_gelu"] is True


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"text": {"attn_mask": False}}, "text_cfg.attn_mask = False"),
        ({"text": {"masked_language_modeling": True}}, "text_cfg.masked_language_modeling = True"),
        ({"text": {"qk_norm": True}}, "text_cfg.qk_norm = True"),
        ({"vision": {"use_rel_pos_bias": True}}, "vision_cfg.use_rel_pos_bias = True"),
        (
            {"vision": {"rope": True}},
            "16 x 16 patches, and there are 14 x 14; intp_freq must be true",
        ),
        ({"vision": {"layers": [3, 4, 6, 3]}}, "layers"),
        ({"distilled": True}, "model_cfg.distilled = True"),
        ({"embed_dim": "wide"}, "embed_dim"),
        ({"vision": {"head_width": 0}}, "doesn't describe a model"),
    ],
)
def test_what_has_no_place_is_named(content, says):
    with pytest.raises((CheckpointError, ConfigError), match=says):
        read(**content)


def test_another_tower_in_the_same_schema():
    cfg = {
        "embed_dim": 512,
        "vision_cfg": {"layers": 12, "width": 768, "patch_size": 32, "fusedLN": False},
    }
    text = {"xattn": True, "attn_mask": True, "proj": "mlp", "pooler_type": "mean_pooler"}
    config = from_json({"model_cfg": cfg | {"text_cfg": text}})
    assert isinstance(config.image, VitConfig)
    assert config == pretrained.get("vit-b-32")


@pytest.mark.parametrize("name", ["embed_dim", "vision_cfg", "text_cfg"])
def test_what_is_missing_is_named(name):
    cfg = {"embed_dim": 512, "vision_cfg": {}, "text_cfg": {}}
    del cfg[name]
    with pytest.raises(CheckpointError, match=f"the configuration has no '{name}'"):
        from_json({"model_cfg": cfg})


@pytest.mark.parametrize("name", MODELS)
def test_there_and_back(name):
    assert from_json({"model_cfg": eva.to_json(MODELS[name])}) == MODELS[name]


@pytest.mark.parametrize("name", ["pretrained on images", "rms with biases", "a mean"])
def test_what_their_code_cannot_build_is_refused(name):
    with pytest.raises(CheckpointError, match="EVA-CLIP's code"):
        eva.to_json(ODD[name])


@pytest.mark.parametrize("width", [704, 832, 1000])
def test_every_hidden_width_comes_back(width):
    for hidden in range(1, 4 * width, 7):
        image = EvaConfig(width=width, heads=8, mlp_width=hidden)
        cfg = eva.to_json(MODELS["eva01-g"])["vision_cfg"] | {
            "mlp_ratio": mlp_ratio(image.width, image.mlp_width)
        }
        assert read(cfg | {"width": width, "head_width": width // 8}).image.mlp_width == hidden
