"""SigLIP 2's models for pictures of their own aspect, NaFlex (Tschannen et al. 2025,
arXiv:2502.14786), under the names of their repositories, which hold them in transformers' layout.
"""

import math
from dataclasses import replace

from diptych.config import ClipConfig, TokenizerConfig
from diptych.config.model import SIGLIP_BIAS
from diptych.families.entry import Entry, Training, Weights
from diptych.families.siglip.config import NaflexImageConfig, SiglipTextConfig
from diptych.families.siglip.pretrained import PREPROCESS as SQUARES
from diptych.families.siglip.pretrained import SIZES
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


def _config(name: str) -> ClipConfig:
    width, layers, heads, mlp_width = SIZES[_NAMES[name]]
    return ClipConfig(
        image=NaflexImageConfig(width=width, layers=layers, heads=heads, mlp_width=mlp_width),
        text=SiglipTextConfig(
            vocab_size=256000, width=width, layers=layers, heads=heads, mlp_width=mlp_width
        ),
        embed_dim=width,
        logit_scale=math.log(10),
        logit_bias=SIGLIP_BIAS,
        preprocess=PREPROCESS,
        tokenizer=TokenizerConfig(kind="huggingface", name=f"google/{name}", clean="lower"),
    )


def _entry(name: str) -> Entry:
    repo = f"google/{name}"
    weights = Weights(repo=repo, format="siglip-transformers", licence="Apache-2.0", names=(repo,))
    note = "256 patches a picture; preprocess.patches is another budget (128 to 1024 were trained)"
    return Entry(name=name, config=_config(name), weights=(weights,), note=note, training=_TRAINING)


def entries() -> list[Entry]:
    """The family's models: those for squares, and these."""
    return [*for_squares(), *map(_entry, _NAMES)]
