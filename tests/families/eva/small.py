"""A small model of each of EVA's families, and some that EVA's own code can't build."""

from dataclasses import replace

from diptych.config import ClipConfig
from diptych.families.clip import TextConfig
from diptych.families.eva import EvaConfig

TEXT = TextConfig(context_length=12, vocab_size=60, width=32, layers=2, heads=2, mlp_width=128)
BASE = EvaConfig(image_size=32, patch_size=8, width=32, layers=2, heads=2, mlp_width=48)
GATED = replace(BASE, mlp="swiglu", rotary_grid=3, mlp_width=44)
RMS = replace(BASE, norm="rms", qkv_bias=False, projection_bias=False)

TOWERS = {
    "eva01-b": replace(BASE, layer_scale=0.1),
    "eva01-g": BASE,
    "eva02-b": replace(GATED, attention_norm=True, mlp_norm=True),
    "eva02-e": replace(BASE, norm_place="post"),
    "eva-8b": RMS,
    "eva-18b": replace(RMS, norm_place="post"),
}
ODD_TOWERS = {
    "gated": GATED,
    "pretrained on images": replace(GATED, mlp_norm=True),
    "sub-norms": replace(BASE, attention_norm=True, mlp_norm=True),
    "rms with biases": replace(BASE, norm="rms", norm_eps=1e-5, pool="patches"),
    "a mean": replace(BASE, pool="mean", projection_bias=False),
}


def model(image: EvaConfig) -> ClipConfig:
    return ClipConfig(image=image, text=TEXT, embed_dim=24)


MODELS = {name: model(tower) for name, tower in TOWERS.items()}
ODD = {name: model(tower) for name, tower in ODD_TOWERS.items()}
