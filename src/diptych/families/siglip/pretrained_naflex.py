"""SigLIP 2's models for pictures of their own aspect, NaFlex (Tschannen et al. 2025,
arXiv:2502.14786): under the names of their repositories, which hold them in transformers' layout,
and under open_clip's, whose repositories hold them in its own.
"""

import math
from dataclasses import replace

from diptych.config import ClipConfig, PreprocessConfig, TokenizerConfig
from diptych.config.model import SIGLIP_BIAS
from diptych.families.entry import Entry, Training, Weights
from diptych.families.siglip.config import NaflexImageConfig, SiglipTextConfig
from diptych.families.siglip.pretrained import PREPROCESS as SQUARES
from diptych.families.siglip.pretrained import SIZES, authors_claims
from diptych.families.siglip.pretrained import entries as for_squares

_NAMES = {"siglip2-base-patch16-naflex": "base", "siglip2-so400m-patch16-naflex": "so400m"}
PREPROCESS = replace(SQUARES, resize="native", interpolation="bilinear")
_TRAINING = Training(
    data="WebLI",
    languages="109",
    batch="32,768",
    hardware="up to 2,048 TPU v5e",
    use="zero-shot classification, retrieval, pictures of their own aspect such as documents",
    source="arXiv:2502.14786, the model cards",
)


_OPEN_CLIP = {
    "ViT-B-16-SigLIP2-naflex": "base",
    "ViT-SO400M-16-SigLIP2-naflex": "so400m",
}
"""Of its main branch."""
_CLAIMS = {"base": authors_claims(78.5, 51.1), "so400m": authors_claims(83.5, 55.1)}
"""With 256 patches a picture."""
_NOTE = "{} patches a picture; preprocess.patches is another budget (128 to 1024 were trained)"


def _config(size: str, preprocess: PreprocessConfig, tokenizer: TokenizerConfig) -> ClipConfig:
    width, layers, heads, mlp_width = SIZES[size]
    return ClipConfig(
        image=NaflexImageConfig(width=width, layers=layers, heads=heads, mlp_width=mlp_width),
        text=SiglipTextConfig(
            vocab_size=256000, width=width, layers=layers, heads=heads, mlp_width=mlp_width
        ),
        embed_dim=width,
        logit_scale=math.log(10),
        logit_bias=SIGLIP_BIAS,
        preprocess=preprocess,
        tokenizer=tokenizer,
    )


def _entry(name: str) -> Entry:
    repo = f"google/{name}"
    tokenizer = TokenizerConfig(kind="huggingface", name=repo, clean="lower")
    weights = Weights(repo=repo, format="siglip-transformers", licence="Apache-2.0", names=(repo,))
    return Entry(
        name=name,
        config=_config(_NAMES[name], PREPROCESS, tokenizer),
        weights=(weights,),
        note=_NOTE.format(PREPROCESS.patches),
        claims=_CLAIMS[_NAMES[name]],
        training=_TRAINING,
    )


def _open_clips(name: str) -> Entry:
    """The same weights as open_clip has them: its tokenizer, and pictures as large as its
    configuration says."""
    repo = f"timm/{name}"
    tokenizer = TokenizerConfig(
        kind="huggingface", name=repo.replace("naflex", "256"), clean="canonical"
    )
    how = replace(SQUARES, resize="native", patches=576)
    weights = Weights(
        repo=repo,
        file="open_clip_model.safetensors",
        format="open-clip",
        licence="Apache-2.0",
        names=(repo,),
        tags=("webli",),
    )
    return Entry(
        name=name.lower(),
        config=_config(_OPEN_CLIP[name], how, tokenizer),
        weights=(weights,),
        note=_NOTE.format(how.patches),
        training=_TRAINING,
    )


def entries() -> list[Entry]:
    """The family's models: those for squares, and these."""
    return [*for_squares(), *map(_entry, _NAMES), *map(_open_clips, _OPEN_CLIP)]
