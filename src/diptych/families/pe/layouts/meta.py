"""The authors' file of PE-Core: OpenAI's names, and those of the attention pool.

https://github.com/facebookresearch/perception_models, core/vision_encoder/pe.py
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.config import ClipConfig, ImageTowerConfig
from diptych.config.serialize import difference
from diptych.errors import CheckpointError
from diptych.families.clip.config import TextConfig
from diptych.families.clip.layouts import openai
from diptych.families.clip.published import check_vocabulary
from diptych.families.infer import infer, infer_image
from diptych.families.pe.config import PeImageConfig
from diptych.families.pe.pretrained import PREPROCESS
from diptych.weights.atomic import save_torch
from diptych.weights.layout import Export, Inputs, Layout, WeightSource
from diptych.weights.mapping import TOKEN, Table, rows
from diptych.weights.state import State

_HEADS = "heads of the published widths"
TABLE = Table(
    rules=(
        *openai.SCALE,
        *openai.VIT,
        *rows(
            "image.pool.",
            "visual.attn_pool.",
            ("query", "probe", TOKEN),
            ("qkv.*", "attn.in_proj_*"),
            ("out.*", "attn.out_proj.*"),
            ("norm.*", "layernorm.*"),
            ("mlp.up.*", "mlp.c_fc.*"),
            ("mlp.down.*", "mlp.c_proj.*"),
        ),
        *openai.text(""),
    ),
    ignored=openai.IGNORED,
)


def table(names: Collection[str]) -> Table:
    """The same for every file."""
    return TABLE


def read_config(source: WeightSource, state: State) -> tuple[ClipConfig, dict[str, Any]]:
    """From the shapes. Raises CheckpointError for those that tell no such model."""
    config = _told(state)
    check_vocabulary(config.text)
    return config, {"config": "shapes", "assumed": f"{_HEADS}; PE-Core's preprocessing"}


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """The image tower's, as `read_config`."""
    return infer_image(state, "gelu"), {"assumed": _HEADS}


def export(path: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """The state dict alone, as `torch.save` writes it. Raises CheckpointError for a model of which
    the authors' code would make another one."""
    if not isinstance(config.image, PeImageConfig) or not isinstance(config.text, TextConfig):
        raise CheckpointError(
            f"the authors' code of PE-Core has no place for a {type(config.image).__name__} and a "
            f"{type(config.text).__name__}"
        )
    made = replace(_told(state), logit_scale=config.logit_scale, logit_bias=None, token_dim=None)
    for name, (own, theirs) in difference(config, made).items():
        raise CheckpointError(
            f"the authors' code of PE-Core would make of it a model with {name} {theirs} instead "
            f"of {own}; --to open-clip or native keeps it"
        )
    weights = dict(state)
    if bool(weights.pop("image.projection.bias").any()):
        raise CheckpointError(
            "its image projection has a bias, and that of PE-Core's authors none; --to open-clip "
            "keeps it"
        )
    save_torch(path, TABLE.to_foreign(weights))


def _told(state: Mapping[str, Tensor]) -> ClipConfig:
    return replace(infer(state, "gelu"), preprocess=PREPROCESS)


PE = Layout(
    name="pe",
    image=("visual.attn_pool.probe",),
    text=("token_embedding.weight",),
    scale=("logit_scale",),
    table=table,
    config=read_config,
    tower_config=tower_config,
    inputs=lambda folder, tower: Inputs(preprocess=PREPROCESS),
    weight_files=(),
    exports=(Export(name="pe", write=export, place="file"),),
    priority=1,  # all of open_clip's names, and more
)
