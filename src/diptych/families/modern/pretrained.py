"""open_clip's configurations of "modern" texts, of which no weights are published:
https://github.com/mlfoundations/open_clip, model_configs of its main branch."""

from dataclasses import replace
from typing import Any

from diptych.config import ClipConfig, PreprocessConfig, TokenizerConfig
from diptych.families.clip.config import VitConfig
from diptych.families.coca import Coca2ImageConfig, CocaNaflexConfig
from diptych.families.entry import Entry
from diptych.families.modern.config import (
    ModernDecoderConfig,
    ModernTextConfig,
    TwoPassReadersConfig,
    TwoPassTextConfig,
)
from diptych.families.timm import NaflexVitConfig

TIKTOKEN = TokenizerConfig(kind="tiktoken", name="r50k_base", clean="none")
_SPACED = replace(TIKTOKEN, clean="spaces")
_CLIP: dict[str, Any] = {"context_length": 76, "vocab_size": 49408, "mlp_width": 2048, "pad_id": 0}
"""Of texts in CLIP's vocabulary, whose padding is a word, too."""
_SIZES: dict[str, Any] = {"context_length": 128, "mlp_width": 2048, "qk_norm": True}
_R50K: dict[str, Any] = _SIZES | {"start_id": 50259, "end_id": 50257, "pad_id": 50258}
_NAFLEX = NaflexVitConfig(
    name="naflexvit_base_patch16_gap",
    patch_size=32,
    options={"global_pool": "avg", "pos_embed_grid_size": [8, 8]},
)
_PATCHES = PreprocessConfig(resize="native", patches=64, patch_size=32)
MODELS = {
    "moderntext-ViT-B-32-256": ClipConfig(
        image=VitConfig(image_size=256),
        text=ModernTextConfig(variable_text=True),
        embed_dim=512,
        tokenizer=TIKTOKEN,
    ),
    "moderntext-naflex_ViT-B-32": ClipConfig(
        image=_NAFLEX,
        text=ModernTextConfig(variable_text=True),
        embed_dim=512,
        preprocess=_PATCHES,
        tokenizer=TIKTOKEN,
    ),
    "coca2-moderntext_ViT-B-32": ClipConfig(
        image=Coca2ImageConfig(),
        text=ModernTextConfig(**_CLIP, start_id=49406, end_id=49407, still_padding=False),
        decoder=ModernDecoderConfig(**_CLIP, start_id=None, end_id=None),
        embed_dim=512,
    ),
    "coca2-moderntext-naflex_ViT-B-32": ClipConfig(
        image=CocaNaflexConfig(
            trunk=replace(_NAFLEX, options=_NAFLEX.options | {"pre_norm": True}, reads_out=False),
            pools="parallel",
            queries=128,
        ),
        text=ModernTextConfig(**_R50K, reading="mean", variable_text=True),
        decoder=ModernDecoderConfig(**_R50K),
        embed_dim=512,
        preprocess=_PATCHES,
        tokenizer=_SPACED,
    ),
    "mammut2-moderntext_ViT-B-32": ClipConfig(
        image=VitConfig(pool="patches"),
        text=TwoPassTextConfig(**_R50K, variable_text=True),
        decoder=TwoPassReadersConfig(**_SIZES),
        embed_dim=512,
        tokenizer=_SPACED,
    ),
}
"""By open_clip's names."""
TINY = ClipConfig(
    image=VitConfig(image_size=48, patch_size=8, width=128, layers=2, heads=4, mlp_width=256),
    text=ModernTextConfig(
        context_length=32,
        vocab_size=49408,
        width=64,
        layers=2,
        heads=2,
        mlp_width=128,
        start_id=49406,
        end_id=49407,
        pad_id=0,
        still_padding=False,
    ),
    embed_dim=64,
)
"""For demonstrations and tests: minutes on a CPU. The vocabulary is CLIP's, which makes most of the
parameters."""
_TINY: dict[str, Any] = {
    "context_length": 32,
    "vocab_size": 49408,
    "width": 64,
    "layers": 2,
    "heads": 2,
    "mlp_width": 128,
}
TINY_MAMMUT = ClipConfig(
    image=replace(TINY.image, pool="patches"),
    text=TwoPassTextConfig(**_TINY, start_id=49406, end_id=49407, pad_id=0),
    decoder=TwoPassReadersConfig(**_TINY, picture_width=128),
    embed_dim=64,
)
"""The same for tests of captions."""
_NOTE = "no weights are published: for training"


def entries() -> list[Entry]:
    """Those of open_clip's towers, and a tiny one."""
    named = [
        Entry(name=name.lower().replace("_", "-"), config=config, note=_NOTE)
        for name, config in MODELS.items()
    ]
    tiny = {"tiny-moderntext": TINY, "tiny-mammut-moderntext": TINY_MAMMUT}
    return [*named, *(Entry(name=name, config=config) for name, config in tiny.items())]
