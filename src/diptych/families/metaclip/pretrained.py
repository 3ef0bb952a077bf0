"""MetaCLIP 2's published models (Chuang et al. 2025, arXiv:2507.22062), the four that open_clip has
under its names, and those that were distilled of them.

https://huggingface.co/facebook, metaclip-2-worldwide-*; open_clip, model_configs/*-worldwide*.json
"""

from dataclasses import replace
from functools import partial

from diptych.config import ClipConfig, PreprocessConfig, TokenizerConfig
from diptych.families.clip.config import TextConfig, VitConfig
from diptych.families.clip.open_clip_models import (
    BASE,
    BIG,
    BIG_TEXT,
    HUGE,
    HUGE_TEXT,
    LARGE,
    LARGE_TEXT,
    MEDIUM,
    SMALL,
    TEXT,
    TEXT_384,
)
from diptych.families.clip.pretrained import quick
from diptych.families.entry import Claim, Entry, Training, Weights

_LICENCE, _PAPER = "CC-BY-NC-4.0", "arXiv:2507.22062"
_TAG = "metaclip2_worldwide"

_world = partial(replace, vocab_size=901629, end_id=2)
"""A text tower for XLM-V's vocabulary, whose highest id is no end of text, but a mask."""
_XLM_V = TokenizerConfig(kind="huggingface", name="facebook/xlm-v-base")
_MT5 = TokenizerConfig(kind="huggingface", name="google/mt5-base", clean="canonical")
_SQUASH = PreprocessConfig(resize="squash")
_BASE_16 = replace(BASE, patch_size=16)


def _model(
    image: VitConfig, text: TextConfig, embed_dim: int, size: int = 224, squash: bool = True
) -> ClipConfig:
    return ClipConfig(
        image=replace(image, image_size=size),
        text=_world(text),
        embed_dim=embed_dim,
        preprocess=_SQUASH if squash else PreprocessConfig(),
        tokenizer=_XLM_V,
    )


# fmt: off
OPEN_CLIP = {  # open_clip's name
    "ViT-H-14-worldwide":        _model(HUGE, HUGE_TEXT, 1024, squash=False),
    "ViT-H-14-worldwide-378":    _model(HUGE, HUGE_TEXT, 1024, 378),
    "ViT-bigG-14-worldwide":     _model(BIG,  BIG_TEXT,  1280, squash=False),
    "ViT-bigG-14-worldwide-378": _model(BIG,  BIG_TEXT,  1280, 378),
}
DISTILLED = {  # the authors' name
    "metaclip-2-worldwide-s16":     _model(SMALL,    TEXT_384,   384),
    "metaclip-2-worldwide-s16-384": _model(SMALL,    TEXT_384,   384, 384),
    "metaclip-2-worldwide-m16":     _model(MEDIUM,   TEXT,       512),
    "metaclip-2-worldwide-m16-384": _model(MEDIUM,   TEXT,       512, 384),
    "metaclip-2-worldwide-b32":     _model(BASE,     TEXT,       512),
    "metaclip-2-worldwide-b32-384": _model(BASE,     TEXT,       512, 384),
    "metaclip-2-worldwide-b16":     _model(_BASE_16, TEXT,       512),
    "metaclip-2-worldwide-b16-384": _model(_BASE_16, TEXT,       512, 384),
    "metaclip-2-worldwide-l14":     _model(LARGE,    LARGE_TEXT, 768),
}
# fmt: on
_LARGE = ClipConfig(
    image=LARGE,
    text=replace(LARGE_TEXT, vocab_size=250100, end_id=1),
    embed_dim=768,
    tokenizer=_MT5,
)
"""An architecture of open_clip's with mT5's vocabulary, of which it has no weights."""


def entries() -> list[Entry]:
    """All of them; the huge one for 224 pixels was trained with QuickGELU."""
    plain, huge = OPEN_CLIP["ViT-H-14-worldwide"], "vit-h-14-worldwide"
    return [
        Entry(name=huge, config=plain),
        _entry("ViT-H-14-worldwide-quickgelu", quick(plain), 224, "huge-quickgelu", 57.4, huge),
        _entry("ViT-H-14-worldwide-378", OPEN_CLIP["ViT-H-14-worldwide-378"], 378, "huge-378"),
        _entry("ViT-bigG-14-worldwide", OPEN_CLIP["ViT-bigG-14-worldwide"], 224, "giant"),
        _entry(
            "ViT-bigG-14-worldwide-378",
            OPEN_CLIP["ViT-bigG-14-worldwide-378"],
            378,
            "giant-378",
            62.0,
        ),
        Entry(name="vit-l-14-worldwide", config=_LARGE),
        Entry(name="vit-l-14-worldwide-quickgelu", config=quick(_LARGE)),
        *(
            Entry(name=name, config=config, weights=(_transformers(name),), training=_TRAINING)
            for name, config in DISTILLED.items()
        ),
    ]


_TRAINING = Training(data="pairs of the web, curated", languages="300", source="arXiv:2507.22062")


def _entry(
    name: str, config: ClipConfig, size: int, own: str, cvqa: float | None = None, also: str = ""
) -> Entry:
    """`also`: another name whose tag means these weights."""
    timm_size = "huge" if name.startswith("ViT-H") else "gigantic"
    repo = f"timm/vit_{timm_size}_patch14_clip_{size}.{_TAG}"
    claims = ()
    if cvqa is not None:
        claims = (Claim(metric="CVQA, local languages, top-1", value=cvqa, source=_PAPER),)
    weights = Weights(
        repo=repo,
        format="open-clip",
        licence=_LICENCE,
        names=(repo, *([f"{also}/{_TAG}"] if also else ())),
        tags=(_TAG,),
    )
    return Entry(
        name=name.lower(),
        config=config,
        weights=(weights, _transformers(f"metaclip-2-worldwide-{own}")),
        claims=claims,
        training=_TRAINING,
    )


def _transformers(name: str) -> Weights:
    repo = f"facebook/{name}"
    return Weights(
        repo=repo,
        format="transformers",
        licence=_LICENCE,
        names=(repo, name),
    )
