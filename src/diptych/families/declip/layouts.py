"""DeCLIP's own files: OpenAI's names, and `encode_text.` (SLIP's model: `text_encoder.`) before the
text tower's.

https://github.com/Sense-GVT/DeCLIP: prototype/model. What only training needs is noted and left
out.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.config import ClipConfig, ImageTowerConfig, TokenizerConfig, TowerConfig
from diptych.config.serialize import difference
from diptych.errors import CheckpointError
from diptych.families.clip import ResNetConfig, TextConfig, VitConfig
from diptych.families.clip.layouts import openai
from diptych.families.clip.published import published_tower
from diptych.families.declip.pretrained import PREPROCESS, VOCABULARY
from diptych.families.infer import infer, infer_image
from diptych.weights.atomic import save_torch
from diptych.weights.layout import Export, Inputs, Layout, WeightSource, refuse
from diptych.weights.mapping import Change, Rule, Table, rows
from diptych.weights.state import State

PREFIXES = ("encode_text.", "text_encoder.")
HEADS = (
    "predictor_sim.*",
    "projector.*",
    "predictor.*",
    "text_label_predictor.*",
    "logit_scale_dense",
    "nn_replacer_text.*",
    "nn_replacer_img.*",
)
"""What belongs to training: heads, the scale of patches against words, texts of the past."""
INFERRED = (
    "shapes, and DeCLIP's code: quick_gelu, heads of 64 channels, ImageNet's mean and deviation, "
    "its own vocabulary"
)
_SCALE = Change(lambda parts: parts[0].reshape(1), lambda ours: [ours])
_MAPPINGS = rows("", "", ("image_tokens.*", "image_mapping.*"), ("text_tokens.*", "text_mapping.*"))
"""FILIP's: patches and words into the space where they are compared."""


def table(names: Collection[str]) -> Table:
    """The rules for a checkpoint with these names."""
    prefix = next(
        (each for each in PREFIXES if f"{each}token_embedding.weight" in names), PREFIXES[0]
    )
    image, dead = _image_rules(names, "visual.")
    rules = (Rule("logit_scale", "logit_scale", _SCALE), *image, *_text_rules(prefix), *_MAPPINGS)
    return _with_counters(
        Table(rules=rules, ignored=("attn_mask", "*.attn_mask"), noted=(*dead, *HEADS)), names
    )


def image_table(names: Collection[str]) -> Table:
    """The rules for an image tower alone, whose names have no prefix."""
    rules, dead = _image_rules(names, "")
    return _with_counters(Table(rules=rules, noted=dead), names)


def export_table(config: ClipConfig) -> Table:
    """The rules for a model of ours: the layout of every released file but SLIP's."""
    image = (
        _resnet_rules("visual.", config.image.head)
        if isinstance(config.image, ResNetConfig)
        else openai.VIT
    )
    return Table(
        rules=(
            Rule("logit_scale", "logit_scale", _SCALE),
            *image,
            *_text_rules(PREFIXES[0]),
            *_MAPPINGS,
        )
    )


def _image_rules(names: Collection[str], prefix: str) -> tuple[tuple[Rule, ...], tuple[str, ...]]:
    """The image tower's rules, and patterns of what it doesn't use."""
    if f"{prefix}layer1.0.conv1.weight" not in names:
        return _moved(openai.VIT, prefix), ()
    head, fc = (
        ("attention", (f"{prefix}fc.*",)) if _pools_to_the_end(names, prefix) else ("linear", ())
    )
    return _resnet_rules(prefix, head), fc


def _pools_to_the_end(names: Collection[str], prefix: str) -> bool:
    """Whether the attention pool gives the shared space, and `fc`, as wide, is for pictures of
    other sizes alone. The other ResNet in DeCLIP's code always has `fc` behind the pool; where both
    are of one width, the first is meant."""
    shapes = State.of(names).shapes if isinstance(names, Mapping) else {}
    pool, fc = (shapes.get(f"{prefix}{name}.weight") for name in ("attnpool.c_proj", "fc"))
    return pool is None or fc is None or len(pool) == len(fc)


def _resnet_rules(prefix: str, head: str) -> tuple[Rule, ...]:
    fc = (Rule("image.projection.*", f"{prefix}fc.*"),) if head == "linear" else ()
    return (*_moved(openai.RESNET, prefix), *fc)


def _text_rules(prefix: str) -> tuple[Rule, ...]:
    """OpenAI's, but that the projection is a linear layer with a bias."""
    kept = (rule for rule in openai.text(prefix) if rule.ours != "text.projection.weight")
    return (*kept, Rule("text.projection.*", f"{prefix}text_projection.*"))


def _moved(rules: tuple[Rule, ...], prefix: str) -> tuple[Rule, ...]:
    """Rules of names that begin with `visual.`, for another prefix."""
    return tuple(
        Rule(r.ours, prefix + r.sources[0].removeprefix("visual."), r.change) for r in rules
    )


def _with_counters(found: Table, names: Collection[str]) -> Table:
    """Batch norms that were shared by a cluster's machines may have been stored without their
    counters."""
    used = [name for name in names if name.endswith(".running_mean") and not found.unused((name,))]
    counters = (f"{name.removesuffix('running_mean')}num_batches_tracked" for name in used)
    lacking = {name: torch.zeros((), dtype=torch.long) for name in counters if name not in names}
    known = {name: tensor for name, tensor in lacking.items() if not found.unknown((name,))}
    return replace(found, absent=dict(found.to_ours(known)))


def read_config(source: WeightSource, state: State) -> tuple[ClipConfig, dict[str, Any]]:
    """From the shapes; what they don't tell is that of every released file."""
    inferred = infer(state, "quick_gelu")
    assert isinstance(inferred.text, TextConfig)
    kind = "declip" if inferred.text.vocab_size == VOCABULARY else "clip"
    return replace(inferred, preprocess=PREPROCESS, tokenizer=TokenizerConfig(kind=kind)), {
        "config": INFERRED
    }


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """The image tower's, as `read_config`."""
    return infer_image(state, "quick_gelu"), {}


def image_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """Of an image tower whose names have no prefix, which open_clip's may be as well: quick_gelu is
    assumed."""
    return published_tower(infer_image(state, "quick_gelu"))


def inputs(folder: Path, tower: TowerConfig) -> Inputs:
    """Pictures as all of these models see them."""
    return Inputs(preprocess=PREPROCESS)


def export_file(path: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """A file as DeCLIP's trainer saves it: `model`, every name behind `module.`. It says nothing of
    the configuration.

    Raises CheckpointError for what DeCLIP's code can't build.
    """
    _check(config)
    foreign = export_table(config).to_foreign(state)
    save_torch(path, {"model": {f"module.{name}": tensor for name, tensor in foreign.items()}})


def _check(config: ClipConfig) -> None:
    image, text = config.image, config.text
    if not isinstance(image, VitConfig | ResNetConfig) or not isinstance(text, TextConfig):
        raise CheckpointError(
            f"DeCLIP's code has CLIP's towers, and this model has a {type(image).__name__} "
            f"and a {type(text).__name__}"
        )
    if config.logit_bias is not None:
        raise CheckpointError("DeCLIP's code has no logit bias")
    fixed = {
        "mlp_width": 4 * text.width,
        "activation": "quick_gelu",
        "norm_eps": 1e-5,
        "projection_bias": True,
        "layer_scale": None,
    }
    wrong = {
        f"text.{name}": pair for name, pair in difference(text, replace(text, **fixed)).items()
    }
    if isinstance(image, VitConfig):
        like = {"mlp_width": 4 * image.width, "activation": "quick_gelu", "norm_eps": 1e-5}
        possible = replace(
            image, **like, pool="cls", pre_norm=True, stem_widths=(), layer_scale=None
        )
        wrong |= {f"image.{name}": pair for name, pair in difference(image, possible).items()}
    for name, (own, theirs) in wrong.items():
        raise CheckpointError(f"DeCLIP's code has {name} {theirs}, not {own}")


DECLIP = Layout(
    name="declip",
    image=("visual.conv1.weight",),
    text=tuple(f"{prefix}token_embedding.weight" for prefix in PREFIXES),
    scale=("logit_scale",),
    table=table,
    config=read_config,
    tower_config=tower_config,
    inputs=inputs,
    weight_files=("ckpt.pth.tar",),
    exports=(Export(name="declip", write=export_file, place="file"),),
)
DECLIP_IMAGE = Layout(
    name="declip-image",
    image=("class_embedding", "attnpool.positional_embedding"),
    text=(),
    scale=(),
    table=image_table,
    config=refuse,
    tower_config=image_config,
    inputs=inputs,
    weight_files=(),
)


def layouts() -> tuple[Layout, ...]:
    """Whole models, and image towers alone."""
    return DECLIP, DECLIP_IMAGE
