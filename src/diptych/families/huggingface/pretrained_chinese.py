"""Chinese-CLIP's published models (Yang et al. 2022, arXiv:2211.01335).

https://github.com/OFA-Sys/Chinese-CLIP and https://huggingface.co/OFA-Sys
"""

from dataclasses import replace

from diptych.config import ClipConfig, PreprocessConfig, TokenizerConfig
from diptych.families.clip.config import VitConfig
from diptych.families.clip.open_clip_models import BASE, HUGE, LARGE
from diptych.families.entry import Claim, Entry, Training, Weights
from diptych.families.huggingface.known import KNOWN

CONTEXT = 52
"""Tokens of a text in training, of the 512 that BERT has places for."""
PREPROCESS = PreprocessConfig(resize="squash")
_SOURCE = "OFA-Sys/Chinese-CLIP, Results.md"
_METRICS = (
    "MUGE text-to-image R@1",
    "Flickr30K-CN text-to-image R@1",
    "Flickr30K-CN image-to-text R@1",
    "COCO-CN text-to-image R@1",
    "COCO-CN image-to-text R@1",
)
"""Zero-shot."""


_BASE, _LARGE = "hfl/chinese-roberta-wwm-ext", "hfl/chinese-roberta-wwm-ext-large"
_BASE_16, _LARGE_336 = replace(BASE, patch_size=16), replace(LARGE, image_size=336)


def entries() -> list[Entry]:
    """All that are in transformers' layout."""
    # fmt: off
    return [
        _entry("base-patch16",        _BASE_16,   _BASE,  512,  52.1, 62.7, 74.6, 62.2, 57.0),
        _entry("large-patch14",       LARGE,      _BASE,  768,  56.3, 68.0, 80.2, 64.0, 60.4),
        _entry("large-patch14-336px", _LARGE_336, _BASE,  768,  59.0, 69.0, 83.3, 64.7, 63.4),
        _entry("huge-patch14",        HUGE,       _LARGE, 1024, 63.0, 71.2, 81.6, 69.2, 63.0),
    ]
    # fmt: on


def _entry(size: str, image: VitConfig, text: str, embed_dim: int, *values: float) -> Entry:
    """`values`: of `_METRICS`."""
    name = f"chinese-clip-vit-{size}"
    repo = f"OFA-Sys/{name}"
    config = ClipConfig(
        image=replace(image, activation="quick_gelu"),
        text=replace(KNOWN[text], context_length=CONTEXT, pool="cls"),
        embed_dim=embed_dim,
        preprocess=PREPROCESS,
        tokenizer=TokenizerConfig(kind="huggingface", name=repo),
    )
    claims = (
        Claim(metric=metric, value=value, source=_SOURCE)
        for metric, value in zip(_METRICS, values, strict=True)
    )
    return Entry(
        name=name,
        config=config,
        weights=(Weights(repo=repo, format="chinese-clip", licence="not said", names=(repo,)),),
        claims=tuple(claims),
        training=Training(
            data="200 M pairs, most of them of public datasets",
            languages="Chinese",
            text_init=f"Hugging Face's {text}",
            source="github.com/OFA-Sys/Chinese-CLIP",
        ),
    )
