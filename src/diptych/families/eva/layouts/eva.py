"""EVA-CLIP's own files: `visual.` before the image tower's names, and `text.` or nothing before the
text tower's.

https://github.com/baaivision/EVA: EVA-CLIP/rei, EVA-CLIP-18B/shinji, EVA-01/clip
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.config import ClipConfig, ImageTowerConfig
from diptych.config.serialize import difference
from diptych.errors import CheckpointError
from diptych.families.clip.config import TextConfig
from diptych.families.clip.layouts import openai
from diptych.families.clip.layouts.towers import write_text
from diptych.families.clip.published import published
from diptych.families.eva.config import EvaConfig
from diptych.families.eva.layouts import config as eva_config
from diptych.families.eva.layouts import tower as eva_tower
from diptych.families.eva.pretrained import entries
from diptych.families.infer import infer, infer_image
from diptych.weights.atomic import save_torch
from diptych.weights.layout import GIVE_CONFIG, Export, Layout, WeightSource
from diptych.weights.mapping import SCALAR, Rule, Table
from diptych.weights.state import State

_IGNORED = (*eva_tower.IGNORED, "attn_mask", "*.attn_mask")


def table(names: Collection[str]) -> Table:
    """The rules for a checkpoint with these names: the text tower with or without its prefix, and
    in EVA-01's files with the logit scale in it."""
    text = openai.text("text." if "text.token_embedding.weight" in names else "")
    scale = "text.logit_scale" if "text.logit_scale" in names else "logit_scale"
    return Table(
        rules=(Rule("logit_scale", scale, SCALAR), *eva_tower.rules("visual.", names), *text),
        ignored=_IGNORED,
    )


def export_table(image: EvaConfig) -> Table:
    """The rules for a model of ours with this image tower: the layout of every released file,
    `CustomCLIP`'s."""
    tower = eva_tower.export_rules("visual.", image, "eva")
    return Table(rules=(Rule("logit_scale", "logit_scale", SCALAR), *tower, *openai.text("text.")))


def read_config(source: WeightSource, state: State) -> tuple[ClipConfig, dict[str, Any]]:
    """From the shapes and the published models. Raises CheckpointError where these don't say
    enough."""
    _check_pool(source.weights.tensors)
    return inferred(state)


def inferred(state: State) -> tuple[ClipConfig, dict[str, Any]]:
    """From the shapes, which no two published EVA models share; beside another text tower, what
    that doesn't tell is assumed."""
    inferred = infer(state, "gelu")
    for entry in entries():
        if isinstance(entry.config, ClipConfig) and _same_shapes(entry.config, inferred):
            return inferred, {"config": f"shapes, which are those of {entry.name}"}
    return published(inferred)


def _same_shapes(known: ClipConfig, inferred: ClipConfig) -> bool:
    resized = difference(known.image, inferred.image).keys() <= {"image_size", "patch_size"}
    return known.text == inferred.text and resized


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """The image tower's, as `read_config`."""
    _check_pool(source.weights.tensors)
    return infer_image(state, "gelu"), {}


def _check_pool(names: Collection[str]) -> None:
    """A mean is pooled of all tokens in one of the projects, without the class token in the
    others."""
    if pooled := [name for name in ("fc_norm.weight", "visual.fc_norm.weight") if name in names]:
        raise CheckpointError(
            f"{pooled[0]} tells that a mean is pooled, but not of which tokens; {GIVE_CONFIG}"
        )


def to_json(config: ClipConfig) -> dict[str, Any]:
    """The configuration as EVA-CLIP's projects publish theirs, for a file of `model_configs/`.

    Raises CheckpointError for what their code can't build.
    """
    if not isinstance(config.image, EvaConfig) or not isinstance(config.text, TextConfig):
        kinds = f"a {type(config.image).__name__} and a {type(config.text).__name__}"
        raise CheckpointError(f"the layout is that of EVA's towers, and this model has {kinds}")
    text = write_text(config.text)
    plain = text.pop("mlp_ratio") == 4.0 and not text.pop("norm_kwargs", None)
    if not plain or config.logit_bias is not None:
        raise CheckpointError(
            "EVA-CLIP's code has text towers with an MLP of four widths and norms of eps 1e-5, "
            "and no logit bias"
        )
    quick = {"quick_gelu": True} if config.text.activation == "quick_gelu" else {}
    return {
        "embed_dim": config.embed_dim,
        "vision_cfg": eva_config.write_vision(config.image),
        "text_cfg": text,
    } | quick


def export_file(path: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """The state dict alone, as `torch.save` writes it; its configuration is `to_json`.

    Raises CheckpointError for what the authors' code can't build.
    """
    to_json(config)
    assert isinstance(config.image, EvaConfig)
    save_torch(path, export_table(config.image).to_foreign(state))


EVA = Layout(
    name="eva",
    image=("visual.cls_token",),
    text=("text.token_embedding.weight", "token_embedding.weight"),
    scale=("logit_scale", "text.logit_scale"),
    table=table,
    config=read_config,
    tower_config=tower_config,
    weight_files=(),
    exports=(Export(name="eva", write=export_file, place="file"),),
)
