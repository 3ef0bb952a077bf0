"""Apple's own layout of MobileCLIP: one `.pt` file with the state dict alone.

https://github.com/apple/ml-mobileclip; the shapes of its weights tell which model it is.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.config import ClipConfig, ImageTowerConfig, TowerConfig
from diptych.errors import CheckpointError
from diptych.families.clip.config import TextConfig
from diptych.families.mobileclip.config import MobileTextConfig
from diptych.families.mobileclip.pretrained import APPLE, MODELS
from diptych.families.timm import TimmConfig
from diptych.weights.atomic import save_torch
from diptych.weights.layout import Export, Inputs, Layout, WeightSource
from diptych.weights.mapping import (
    SCALAR,
    TRANSPOSED,
    Change,
    Row,
    Rule,
    Table,
    count_numbers,
    rows,
)
from diptych.weights.state import State

_IMAGE, _TEXT = "image_encoder.model.", "text_encoder."
_VIT, _FASTVIT = f"{_IMAGE}patch_emb.0.block.conv.weight", f"{_IMAGE}patch_embed.0."
_STEM = tuple(f"{_FASTVIT}{conv}" for conv in ("rbr_conv.0.conv.weight", "reparam_conv.weight"))
_WORDS = f"{_TEXT}embedding_layer.weight"

_POSITIONS = Change(lambda parts: parts[0].flatten(0, 2), lambda ours: [ours[None, None]])
"""[1, 1, tokens, width] there."""
_PATCHES = Change(lambda parts: parts[0].flatten(0, 1), lambda ours: [ours[None]])
"""[1, 1, tokens, width] there, [1, tokens, width] in timm's trunk."""
_OVER_WORDS = Change(lambda parts: parts[0].squeeze(2), lambda ours: [ours.unsqueeze(2)])
"""Convolutions over pictures one pixel high there."""
_POINTWISE = Change(
    lambda parts: parts[0].flatten(1), lambda ours: [ours.unflatten(1, (-1, 1, 1)).contiguous()]
)
"""A convolution that sees one place there, a matrix here."""
_COLUMN = Change(lambda parts: parts[0].flatten(), lambda ours: [ours[:, None, None]])
"""[width, 1, 1] there."""

# Their name of a part, and timm's. MobileOne's branches, in every block of convolutions:
_BRANCHES: tuple[Row, ...] = (
    ("conv_kxk.*", "rbr_conv.*"),
    ("conv_scale.*", "rbr_scale.*"),
    ("identity.*", "rbr_skip.*"),
    ("se.fc1.*", "se.reduce.*"),
    ("se.fc2.*", "se.expand.*"),
    ("reparam_conv.*", "reparam_conv.*"),
)
_LARGE: tuple[Row, ...] = (
    ("large_conv.*", "lkb_origin.*"),
    ("reparam_conv.*", "lkb_reparam.*"),
    ("small_conv.*", "small_conv.*"),
    ("se.fc1.*", "se.reduce.*"),
    ("se.fc2.*", "se.expand.*"),
)
_STAGES = (0, 2, 4, 7)
"""Where the blocks of each stage stand in their flat list; before those of all but the first comes
what halves the picture, and before those of the last the conditional positions."""


def _stage(number: int, place: int) -> tuple[Rule, ...]:
    ours, theirs = f"image.trunk.stages.{number}.", f"{_IMAGE}network.{place}.#."
    block = f"{ours}blocks.#."
    return (
        *rows(f"{block}token_mixer.norm.", f"{theirs}token_mixer.norm.", *_BRANCHES),
        *rows(f"{block}token_mixer.mixer.", f"{theirs}token_mixer.mixer.", *_BRANCHES),
        *rows(
            block,
            theirs,
            ("token_mixer.layer_scale.gamma", "token_mixer.layer_scale"),
            ("token_mixer.*", "token_mixer.*"),
            ("mlp.*", "convffn.*"),
            ("norm.*", "norm.*"),
            ("layer_scale.gamma", "layer_scale"),
            ("layer_scale_1.gamma", "layer_scale_1"),
            ("layer_scale_2.gamma", "layer_scale_2"),
        ),
    )


def _halving(number: int, place: int) -> tuple[Rule, ...]:
    ours, theirs = f"image.trunk.stages.{number}.downsample.proj.", f"{_IMAGE}network.{place}.proj."
    return (
        *rows(f"{ours}0.", f"{theirs}0.", *_LARGE),
        *rows(f"{ours}1.", f"{theirs}1.", *_BRANCHES),
    )


def _fastvit() -> tuple[Rule, ...]:
    found = [
        *rows("image.trunk.stem.#.", f"{_IMAGE}patch_embed.#.", *_BRANCHES),
        *rows("image.trunk.final_conv.", f"{_IMAGE}conv_exp.", *_BRANCHES),
        Rule("image.projection.weight", f"{_IMAGE}head.proj", TRANSPOSED),
    ]
    for number, place in enumerate(_STAGES):
        found += _stage(number, place)
    for number, place in enumerate((1, 3, 5), 1):
        found += _halving(number, place)
    ours, theirs = "image.trunk.stages.3.pos_emb.", f"{_IMAGE}network.6."
    return *found, *rows(ours, theirs, ("pos_enc.*", "pe.*"), ("reparam_conv.*", "reparam_conv.*"))


_BLOCK: tuple[Row, ...] = (
    ("norm1.*", "pre_norm_mha.0.*"),
    ("attn.qkv.*", "pre_norm_mha.1.qkv_proj.*"),
    ("attn.proj.*", "pre_norm_mha.1.out_proj.*"),
    ("norm2.*", "pre_norm_ffn.0.*"),
    ("mlp.fc1.*", "pre_norm_ffn.1.*"),
    ("mlp.fc2.*", "pre_norm_ffn.4.*"),
)
_VIT_RULES = (
    *rows(
        "image.trunk.",
        _IMAGE,
        ("cls_token", "cls_token"),
        ("pos_embed", "pos_embed.pos_embed.pos_embed", _PATCHES),
        ("patch_embed.backbone.#.conv.*", "patch_emb.#.block.conv.*"),
        ("patch_embed.backbone.#.bn.*", "patch_emb.#.block.norm.*"),
        ("norm.*", "post_transformer_norm.*"),
    ),
    *rows("image.trunk.blocks.#.", f"{_IMAGE}transformer.#.", *_BLOCK),
    Rule("image.projection.weight", f"{_IMAGE}classifier.proj", TRANSPOSED),
)
_FASTVIT_RULES = _fastvit()
_TEXT_RULES = (
    *rows(
        "text.",
        _TEXT,
        ("tokens.weight", "embedding_layer.weight"),
        ("positions", "positional_embedding.pos_embed.pos_embed", _POSITIONS),
        ("norm_post.*", "final_layer_norm.*"),
        ("projection.weight", "projection_layer", TRANSPOSED),
    ),
    *rows(
        "text.blocks.#.",
        f"{_TEXT}transformer.#.",
        ("norm_1.*", "pre_norm_mha.0.*"),
        ("attention.qkv.*", "pre_norm_mha.1.qkv_proj.*"),
        ("attention.out.*", "pre_norm_mha.1.out_proj.*"),
        ("norm_2.*", "pre_norm_ffn.0.*"),
        ("mlp.up.*", "pre_norm_ffn.1.*"),
        ("mlp.down.*", "pre_norm_ffn.4.*"),
        ("norm.*", "token_mixer.norm.rbr_skip.*"),
        ("skip.*", "token_mixer.mixer.rbr_skip.*"),
        ("conv.weight", "token_mixer.mixer.rbr_conv.0.conv.weight", _OVER_WORDS),
        ("conv_norm.*", "token_mixer.mixer.rbr_conv.0.bn.*"),
        ("mix_scale", "token_mixer.layer_scale", _COLUMN),
        ("mlp_conv.weight", "convffn.conv.conv.weight", _OVER_WORDS),
        ("mlp_norm.*", "convffn.conv.bn.*"),
        ("channels.up.weight", "convffn.fc1.weight", _POINTWISE),
        ("channels.up.bias", "convffn.fc1.bias"),
        ("channels.down.weight", "convffn.fc2.weight", _POINTWISE),
        ("channels.down.bias", "convffn.fc2.bias"),
        ("mlp_scale", "layer_scale", _COLUMN),
    ),
)


def table(names: Collection[str]) -> Table:
    """The rules for a checkpoint with these names."""
    image = _VIT_RULES if _VIT in names else _FASTVIT_RULES
    # timm's classifier has a bias, and theirs none.
    bias = {"image.projection.bias": torch.zeros(_EMBED_DIM)}
    scale = Rule("logit_scale", "logit_scale", SCALAR)
    return Table(rules=(scale, *image, *_TEXT_RULES), absent=bias)


_EMBED_DIM = 512
"""Of all that Apple published so."""


def read_config(source: WeightSource, state: State) -> tuple[ClipConfig, dict[str, Any]]:
    """The published model of this trunk. Raises CheckpointError for a trunk of other depths or
    widths than theirs."""
    return MODELS[name_of(state)], {"config": "shapes, of the published models"}


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """The image tower's, as `read_config`."""
    return MODELS[name_of(state)].image, {}


def inputs(folder: Path, tower: TowerConfig) -> Inputs | None:
    """Those of the published model with this tower."""
    known = (config for config in MODELS.values() if tower in (config.image, config.text))
    return next((Inputs(config.preprocess, config.tokenizer) for config in known), None)


def name_of(state: State) -> str:
    """Which published model it is, by the trunk's stem and the depth of its third stage. Raises
    CheckpointError for others."""
    shapes = state.shapes
    if "image.trunk.cls_token" in shapes:
        return "MobileCLIP-B"
    stem = shapes.get("image.trunk.stem.0.conv_kxk.0.conv.weight")
    if stem is None:  # merged
        stem = shapes.get("image.trunk.stem.0.reparam_conv.weight")
    depth = count_numbers(shapes, "image.trunk.stages.2.blocks.")
    width = 0 if stem is None else len(stem)
    for name, known in APPLE.items():
        if known == (width, depth):
            return name
    raise CheckpointError(
        f"no published MobileCLIP has a stem of {width} channels and {depth} blocks in its third "
        "stage"
    )


def export_file(path: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """The state dict alone, as `torch.save` writes it: what Apple's `create_model_and_transforms`
    takes. Raises CheckpointError for a model that it wouldn't make of it."""
    image, text = config.image, config.text
    known = [model for name, model in MODELS.items() if name in (*APPLE, "MobileCLIP-B")]
    if not isinstance(text, MobileTextConfig | TextConfig) or not any(
        isinstance(image, TimmConfig)
        and (model.image, model.text, model.embed_dim) == (image, text, config.embed_dim)
        for model in known
    ):
        raise CheckpointError("Apple's code builds MobileCLIP-S0, S1, S2 and B, and this is none")
    bias = state["image.projection.bias"]
    if bias.any():
        raise CheckpointError(
            "Apple's code has no bias behind the image tower, and this model's is not zero; "
            "--to open-clip keeps it"
        )
    names = {_VIT} if "image.trunk.cls_token" in state else set[str]()
    kept = {name: tensor for name, tensor in state.items() if name != "image.projection.bias"}
    save_torch(path, table(names).to_foreign(kept))


MOBILECLIP = Layout(
    name="mobileclip",
    image=(*_STEM, _VIT),
    text=(_WORDS,),
    scale=("logit_scale",),
    table=table,
    config=read_config,
    tower_config=tower_config,
    inputs=inputs,
    weight_files=(),
    exports=(Export(name="mobileclip", write=export_file, place="file"),),
)
