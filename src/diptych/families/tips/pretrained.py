"""TIPSv2's published models (Cao et al. 2026, arXiv:2604.12012), under open_clip's names."""

import math
from dataclasses import dataclass

from diptych.config import ClipConfig, PreprocessConfig, TokenizerConfig
from diptych.families.entry import Claim, Entry, Training, Weights
from diptych.families.tips.config import TipsImageConfig, TipsTextConfig

PREPROCESS = PreprocessConfig(
    resize="squash", interpolation="bilinear", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
)
"""Pixels from 0 to 1."""
TOKENIZER = TokenizerConfig(kind="huggingface", name="google/tipsv2-b14", clean="lower")
"""All sizes have the same."""
TEMPERATURE = 0.005065968260169029
"""What cosines are divided by where nothing says it: transformers' default, which is B/14's."""
LOGIT_SCALE = -math.log(TEMPERATURE)


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of both towers."""

    width: int
    layers: int
    heads: int
    image_mlp: int
    text_layers: int
    text_mlp: int
    gated: bool = False


# fmt: off
SIZES = {  # timm's name of a size; TIPS alone has "small"
    "small":  Size(width=384,  layers=12, heads=6,  image_mlp=1536, text_layers=12, text_mlp=1536),
    "base":   Size(width=768,  layers=12, heads=12, image_mlp=3072, text_layers=12, text_mlp=3072),
    "large":  Size(width=1024, layers=24, heads=16, image_mlp=4096, text_layers=12, text_mlp=4096),
    "so400m": Size(width=1152, layers=27, heads=16, image_mlp=4304, text_layers=27, text_mlp=4304),
    "giant":  Size(width=1536, layers=40, heads=24, image_mlp=4096, text_layers=12, text_mlp=6144,
                   gated=True),
}
MODELS = {  # open_clip's name: size, the authors' name
    "TIPSv2-B-14":      ("base",   "tipsv2-b14"),
    "TIPSv2-L-14":      ("large",  "tipsv2-l14"),
    "TIPSv2-SO400M-14": ("so400m", "tipsv2-so400m14"),
    "TIPSv2-g-14":      ("giant",  "tipsv2-g14"),
}
# Flickr30k, texts by pictures and pictures by texts; ImageNet's nearest neighbours: the README.
_FIGURES = {
    "TIPSv2-B-14":      (92.6, 80.0, 79.8),
    "TIPSv2-L-14":      (95.4, 83.3, 82.5),
    "TIPSv2-SO400M-14": (94.8, 84.0, 82.8),
    "TIPSv2-g-14":      (95.1, 85.9, 83.7),
}
# fmt: on
_METRICS = ("flickr image-to-text", "flickr text-to-image", "imagenet1k nearest neighbours")
_SOURCE = "github.com/google-deepmind/tips, README.md"
HEADS = {size.width: size.heads for size in SIZES.values()}
"""Of the published widths; the number of heads can't be seen in the weights."""


def image_config(size: str) -> TipsImageConfig:
    """The image tower of this size.

    >>> from diptych.families.tips.pretrained import image_config
    >>> image_config("giant").mlp
    'swiglu'
    """
    s = SIZES[size]
    return TipsImageConfig(
        width=s.width,
        layers=s.layers,
        heads=s.heads,
        mlp_width=s.image_mlp,
        mlp="swiglu" if s.gated else "gelu",
    )


def model_config(size: str) -> ClipConfig:
    """The model of this size.

    >>> from diptych.families.tips.pretrained import model_config
    >>> model_config("base").embed_dim
    768
    """
    s = SIZES[size]
    text = TipsTextConfig(width=s.width, layers=s.text_layers, heads=s.heads, mlp_width=s.text_mlp)
    return ClipConfig(
        image=image_config(size),
        text=text,
        embed_dim=s.width,
        logit_scale=LOGIT_SCALE,
        preprocess=PREPROCESS,
        tokenizer=TOKENIZER,
    )


def entries() -> list[Entry]:
    """All of them."""
    return [_entry(name) for name in MODELS]


def _entry(name: str) -> Entry:
    size, own = MODELS[name]
    repo = f"google/{own}"
    weights = Weights(
        repo=repo,
        format="tips",
        licence="Apache-2.0",
        names=(repo,),
        note="the authors' repository on GitHub gives what is no software under CC-BY-4.0",
    )
    figures = zip(_METRICS, _FIGURES[name], strict=True)
    return Entry(
        name=name.lower(),
        config=model_config(size),
        weights=(weights,),
        aliases=(own,),
        claims=tuple(Claim(metric=m, value=v, source=_SOURCE) for m, v in figures),
        training=Training(
            data="WebLI, with captions of the web and synthetic ones",
            languages="English",
            use="zero-shot classification, retrieval, segmentation; also dense features of patches",
            source="arXiv:2604.12012",
        ),
    )
