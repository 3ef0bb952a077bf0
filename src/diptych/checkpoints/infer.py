"""A model's configuration told from the shapes of its weights."""

import math
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from diptych import zoo
from diptych.checkpoints.rename import count_numbers
from diptych.config import (
    Activation,
    ClipConfig,
    EvaConfig,
    ImageTowerConfig,
    ResNetConfig,
    TextConfig,
    UniRepLKNetConfig,
    VitConfig,
)
from diptych.config.unireplknet import published_kernels
from diptych.errors import CheckpointError

HEAD_WIDTH = 64
"""Of every published CLIP of this family; the number of heads can't be seen in the weights."""
SIGLIP_BIAS = -10.0


def infer(state: Mapping[str, Tensor], activation: Activation) -> ClipConfig:
    """The configuration behind weights under our names: sizes from shapes, heads of 64 channels,
    CLIP's preprocessing; for an EVA tower see `infer_image`.

    The activation leaves no trace in weights, so the caller says it. Raises CheckpointError for
    towers whose configuration can't be told (a timm or Hugging Face one)."""
    if "text.tokens.weight" not in state or "text.projection.weight" not in state:
        raise CheckpointError(
            "the text tower's configuration can't be told from its weights; give config="
        )
    vocab_size, width = state["text.tokens.weight"].shape
    text = TextConfig(
        context_length=len(state["text.positions"]),
        vocab_size=vocab_size,
        width=width,
        layers=count_numbers(state, "text.blocks."),
        heads=max(1, width // HEAD_WIDTH),
        mlp_width=_mlp_width(state, "text"),
        activation=activation,
        projection_bias="text.projection.bias" in state,
    )
    return ClipConfig(
        image=infer_image(state, activation),
        text=text,
        embed_dim=len(state["text.projection.weight"]),
        token_dim=len(state["image_tokens.weight"]) if "image_tokens.weight" in state else None,
        logit_bias=SIGLIP_BIAS if "logit_bias" in state else None,
    )


def infer_image(state: Mapping[str, Tensor], activation: Activation) -> ImageTowerConfig:
    """The image tower's, from names that begin with `image.`.

    An EVA tower is taken to be the published one of its width, depth, MLP and norms: where its
    norms stand, its heads and rotary positions leave no trace. Raises CheckpointError if there is
    none, and for towers of other libraries."""
    if {
        "image.class_token",
        "image.positions",
        "image.patch.weight",
        "image.patch.bias",
    } <= state.keys():
        return _eva(state)
    if "image.class_token" in state and "image.patch.weight" in state:
        width, _, patch_size, _ = state["image.patch.weight"].shape
        return VitConfig(
            image_size=patch_size * _side(state["image.positions"]),
            patch_size=patch_size,
            width=width,
            layers=count_numbers(state, "image.blocks."),
            heads=max(1, width // HEAD_WIDTH),
            mlp_width=_mlp_width(state, "image"),
            activation=activation,
            pre_norm="image.norm_pre.weight" in state,
        )
    if "image.stages.0.0.conv_1.weight" in state and "image.pool.positions" in state:
        width = len(state["image.stages.0.0.conv_1.weight"])
        first, second, third, fourth = (
            count_numbers(state, f"image.stages.{i}.") for i in range(4)
        )
        return ResNetConfig(
            image_size=32 * _side(state["image.pool.positions"]),
            layers=(first, second, third, fourth),
            width=width,
            heads=max(1, 32 * width // HEAD_WIDTH),
            head="linear" if "image.projection.weight" in state else "attention",
        )
    if "image.stages.0.down.conv_1.weight" in state:
        return _unireplknet(state)
    raise CheckpointError(
        "the image tower's configuration can't be told from its weights; give config="
    )


def _unireplknet(state: Mapping[str, Tensor]) -> UniRepLKNetConfig:
    depths = [count_numbers(state, f"image.stages.{i}.blocks.") for i in range(4)]
    first, second, third, fourth = depths
    try:
        a, b, c, d = (len(state[f"image.stages.{i}.blocks.0.down.weight"]) for i in range(4))
    except KeyError as error:
        raise CheckpointError(f"{error.args[0]} is missing") from error
    kernels = tuple(
        tuple(_kernel(state, f"image.stages.{i}.blocks.{j}.mix.") for j in range(depths[i]))
        for i in range(4)
    )
    return UniRepLKNetConfig(
        depths=(first, second, third, fourth),
        widths=(a, b, c, d),
        kernel_sizes=()
        if kernels == published_kernels((first, second, third, fourth))
        else kernels,
        layer_scale=1e-6 if "image.stages.0.blocks.0.scale" in state else None,
        projection_bias="image.projection.bias" in state,
        deploy="image.stages.0.blocks.0.down.bias" in state,
    )


def _kernel(state: Mapping[str, Tensor], mix: str) -> int:
    """The side of a block's convolution; 0: it has none."""
    weight = state.get(f"{mix}dense.weight", state.get(f"{mix}weight"))
    return 0 if weight is None else weight.shape[-1]


def _eva(state: Mapping[str, Tensor]) -> EvaConfig:
    gated, biased = "image.blocks.0.mlp.gate_up.weight" in state, "image.norm_post.bias" in state
    width, layers = len(state["image.class_token"]), count_numbers(state, "image.blocks.")
    kind = (width, layers, "swiglu" if gated else "gelu", "layer" if biased else "rms")
    towers = [tower for name in zoo.names() if isinstance(tower := zoo.tower(name), EvaConfig)]
    known = next(
        (tower for tower in towers if (tower.width, tower.layers, tower.mlp, tower.norm) == kind),
        None,
    )
    if known is None:
        raise CheckpointError(
            f"no published EVA tower has {layers} blocks of width {width} with {kind[2]} MLPs and {kind[3]} norms, and "
            "other ones can't be told from their weights; give config="
        )
    patch_size = state["image.patch.weight"].shape[-1]
    return replace(
        known,
        image_size=patch_size * _side(state["image.positions"]),
        patch_size=patch_size,
        attention_norm="image.blocks.0.attention.norm.weight" in state,
        stochastic_depth=0.0,  # a matter of training
    )


def _mlp_width(state: Mapping[str, Tensor], tower: str) -> int:
    first = state.get(f"{tower}.blocks.0.mlp.up.weight")
    if first is None:
        raise CheckpointError(f"the {tower} tower has no blocks")
    return len(first)


def _side(positions: Tensor) -> int:
    """Patches along one side, from a position table with a class token."""
    side = math.isqrt(len(positions) - 1)
    if side * side + 1 != len(positions):
        raise CheckpointError(
            f"{len(positions)} positions are not a class token and a square of patches"
        )
    return side
