"""Every family's towers, exported, give the model's vectors."""

import pytest
import torch

from diptych import models
from diptych.config import ClipConfig, PreprocessConfig
from diptych.config.alone import alone
from diptych.errors import CheckpointError
from diptych.export import export
from diptych.families.clip import ResNetConfig, TextConfig, VitConfig
from diptych.families.clipa import ClipaTextConfig
from diptych.families.coca import CocaDecoderConfig, CocaImageConfig, CocaTextConfig
from diptych.families.eva import EvaConfig
from diptych.families.genlip import GenlipImageConfig
from diptych.families.huggingface import HuggingFaceTextConfig
from diptych.families.mammut import MammutTextConfig
from diptych.families.mobileclip import MobileTextConfig
from diptych.families.pe import PeImageConfig
from diptych.families.siglip import NaflexImageConfig, SiglipImageConfig, SiglipTextConfig
from diptych.families.timm import TimmConfig
from diptych.families.tips import TipsImageConfig, TipsTextConfig
from diptych.families.unireplknet import UniRepLKNetConfig
from diptych.weights.native import save_model

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

WIDTHS = {"width": 32, "layers": 2, "heads": 2, "mlp_width": 64}
IMAGE = {"image_size": 32, "patch_size": 8, **WIDTHS}
TEXT = TextConfig(context_length=12, **WIDTHS)
EVA02 = {"mlp": "swiglu", "attention_norm": True, "mlp_norm": True, "rotary_grid": 4}
BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 49408,
}
IMAGES = {
    "vit": VitConfig(**IMAGE),
    "vit, quick_gelu, mean": VitConfig(**IMAGE, activation="quick_gelu", pool="mean"),
    "vit, all": VitConfig(**IMAGE, pool="all"),
    "declip's stem": VitConfig(**IMAGE, stem_widths=(4, 8, 16)),
    "resnet": ResNetConfig(image_size=64, layers=(1, 2, 1, 1), width=8, heads=4),
    "eva01": EvaConfig(**IMAGE),
    "eva02": EvaConfig(**IMAGE, **EVA02),
    "eva02, post": EvaConfig(**IMAGE, norm_place="post"),
    "eva 8b": EvaConfig(**IMAGE, norm="rms", qkv_bias=False, projection_bias=False),
    "unireplknet": UniRepLKNetConfig(
        image_size=64,
        depths=(1, 1, 1, 1),
        widths=(16, 16, 24, 32),
        kernel_sizes=((3,), (7,), (13,), (5,)),
    ),
    "siglip": SiglipImageConfig(**IMAGE),
    "pe": PeImageConfig(**IMAGE, pool_mlp_width=64),
    "genlip": GenlipImageConfig(**IMAGE, rotary_sections=(2, 3, 3)),
    "tips": TipsImageConfig(**IMAGE),
    "tips, giant": TipsImageConfig(**IMAGE, mlp="swiglu"),
    "coca": CocaImageConfig(**IMAGE, queries=3, pool_heads=2),
    "timm, vit": TimmConfig(
        name="vit_tiny_patch16_224",
        image_size=32,
        options={"embed_dim": 32, "depth": 2, "num_heads": 2},
    ),
    "timm, resnet": TimmConfig(name="resnet10t", image_size=64),
    "mobileclip": TimmConfig(name="fastvit_mci0", image_size=64),
}
TEXTS = {
    "clip": TEXT,
    "siglip": SiglipTextConfig(context_length=12, vocab_size=49408, **WIDTHS),
    "clipa": ClipaTextConfig(context_length=12, vocab_size=49408, **WIDTHS),
    "mobileclip": MobileTextConfig(context_length=12, **WIDTHS),
    "mobileclip, mixer": MobileTextConfig(context_length=12, mixer_kernel=5, **WIDTHS),
    "tips": TipsTextConfig(context_length=12, vocab_size=49408, **WIDTHS),
    "coca": CocaTextConfig(context_length=12, **WIDTHS),
    "mammut": MammutTextConfig(context_length=12, **WIDTHS),
    "mammut, the fork's": MammutTextConfig(
        context_length=12, pool="all", masked=False, lean_every=2, **WIDTHS
    ),
    "bert": HuggingFaceTextConfig(model_type="bert", options=BERT, context_length=12),
    "bert, tokens of a width": HuggingFaceTextConfig(
        model_type="bert", options=BERT, context_length=12, pool="cls", token_width=24
    ),
}


def _built(config: ClipConfig) -> models.Clip:
    torch.manual_seed(0)
    return models.build(config)


def _config(tower) -> ClipConfig:
    return alone(tower, 32)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino", "torch-export"])
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_tower(name, to, tmp_path):
    pytest.importorskip("openvino")
    source = save_model(tmp_path / "model", _built(_config(IMAGES[name])))
    comparison = export(source, to, tmp_path / "out")
    assert comparison.least > 0.99999
    assert comparison.top1 is None


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino", "torch-export"])
@pytest.mark.parametrize("name", TEXTS)
def test_a_text_tower(name, to, tmp_path):
    pytest.importorskip("openvino")
    source = save_model(tmp_path / "model", _built(_config(TEXTS[name])))
    assert export(source, to, tmp_path / "out").least > 0.99999


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "torch-export"])
def test_in_eight_bits(to, tmp_path):
    source = save_model(
        tmp_path / "model", _built(ClipConfig(image=IMAGES["vit"], text=TEXT, embed_dim=16))
    )
    comparison = export(source, to, tmp_path / "out", int8=True, min_cosine=0.99)
    assert 0.99 < comparison.least < 1 - 1e-6


@pytest.mark.slow
def test_a_model_that_writes_captions(tmp_path):
    config = ClipConfig(
        image=IMAGES["coca"],
        text=TEXTS["coca"],
        decoder=CocaDecoderConfig(**WIDTHS),
        embed_dim=32,
        logit_bias=-10.0,
    )
    source = save_model(tmp_path / "model", _built(config))
    assert export(source, "onnx", tmp_path / "out").top1 == 1


def test_naflex_is_refused_by_name(tmp_path):
    preprocess = PreprocessConfig(resize="native", patch_size=8, patches=9)
    native = alone(NaflexImageConfig(**IMAGE), 32, preprocess=preprocess)
    source = save_model(tmp_path / "model", _built(native))
    with pytest.raises(CheckpointError, match="NaflexImageConfig. can't be exported: .*NaFlex"):
        export(source, "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()
