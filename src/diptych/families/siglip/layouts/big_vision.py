"""SigLIP as its authors publish it: flax's names and kernels, in NumPy's archives. It is only read.

https://github.com/google-research/big_vision, models/proj/image_text/two_towers.py, models/vit.py
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diptych.config import (
    ClipConfig,
    ImageTowerConfig,
    PreprocessConfig,
    TokenizerConfig,
    TowerConfig,
)
from diptych.config.model import SIGLIP_BIAS
from diptych.errors import CheckpointError
from diptych.families.siglip import pretrained_naflex
from diptych.families.siglip.config import (
    NaflexImageConfig,
    PooledImageConfig,
    SiglipImageConfig,
    SiglipTextConfig,
)
from diptych.families.siglip.pretrained import MODELS, PREPROCESS
from diptych.weights.kernels import READ_KERNEL
from diptych.weights.layout import GIVE_CONFIG, Inputs, Layout, WeightSource
from diptych.weights.mapping import BATCHED, TOKEN, TRANSPOSED, Change, Row, Rule, Table, rows
from diptych.weights.mapping import count_numbers as count
from diptych.weights.state import State

_KERNEL, _QUERY = "img.embedding.kernel", "MultiHeadDotProductAttention_0.query.kernel"
_BLOCKS, _WORDS = "img.Transformer.encoderblock_", "txt.Encoder_0.encoderblock_"


def _convolution(parts: list[Tensor]) -> Tensor:
    """[rows, columns, channels, width] as [width, channels, rows, columns]. NaFlex's patches are
    vectors: [rows columns channels, width]."""
    [kernel] = parts
    if kernel.ndim == 2:
        return READ_KERNEL.to_ours([kernel.T])
    return kernel.permute(3, 2, 0, 1).contiguous()


def _table_of_positions(parts: list[Tensor]) -> Tensor:
    """[1, patches, width], or of NaFlex [rows, columns, width], as [patches, width]."""
    return parts[0].flatten(0, 1)


def _unwritten(ours: Tensor) -> list[Tensor]:
    raise CheckpointError("nothing is written in big_vision's layout")


# Queries, keys and values have a dimension for the heads, which a layer's rows run through here.
_QKV = Change(lambda parts: torch.cat([part.flatten(1).T for part in parts]), _unwritten)
_QKV_BIAS = Change(lambda parts: torch.cat([part.flatten() for part in parts]), _unwritten)
_OUT = Change(lambda parts: parts[0].flatten(0, 1).T.contiguous(), _unwritten)
_PATCHES = Change(_convolution, _unwritten)
_POSITIONS = Change(_table_of_positions, _unwritten)


def _norm(ours: str, theirs: str) -> tuple[Row, ...]:
    return (f"{ours}.weight", f"{theirs}.scale"), (f"{ours}.bias", f"{theirs}.bias")


def _linear(ours: str, theirs: str) -> tuple[Row, ...]:
    return (f"{ours}.weight", f"{theirs}.kernel", TRANSPOSED), (f"{ours}.bias", f"{theirs}.bias")


def _attention(ours: str) -> tuple[Row, ...]:
    theirs = "MultiHeadDotProductAttention_0."
    parts = [theirs + name for name in ("query", "key", "value")]
    return (
        (f"{ours}qkv.weight", tuple(f"{part}.kernel" for part in parts), _QKV),
        (f"{ours}qkv.bias", tuple(f"{part}.bias" for part in parts), _QKV_BIAS),
        (f"{ours}out.weight", f"{theirs}out.kernel", _OUT),
        (f"{ours}out.bias", f"{theirs}out.bias"),
    )


_MLP = (*_linear("mlp.up", "MlpBlock_0.Dense_0"), *_linear("mlp.down", "MlpBlock_0.Dense_1"))
_BLOCK = (
    *_norm("norm_1", "LayerNorm_0"),
    *_attention("attention."),
    *_norm("norm_2", "LayerNorm_1"),
    *_MLP,
)
TABLE = Table(
    rules=(
        Rule("logit_scale", "t"),
        Rule("logit_bias", "b"),
        *rows(
            "image.",
            "img.",
            ("patch.weight", "embedding.kernel", _PATCHES),
            ("patch.bias", "embedding.bias"),
            ("positions", "pos_embedding", _POSITIONS),
            *_norm("norm_post", "Transformer.encoder_norm"),
        ),
        *rows("image.blocks.#.", f"{_BLOCKS}#.", *_BLOCK),
        *rows(
            "image.pool.",
            "img.MAPHead_0.",
            ("query", "probe", TOKEN),
            *_attention(""),
            *_norm("norm", "LayerNorm_0"),
            *_MLP,
        ),
        *rows(
            "text.",
            "txt.",
            ("tokens.weight", "Embed_0.embedding"),
            ("positions", "pos_embedding", BATCHED),
            *_norm("norm_post", "Encoder_0.encoder_norm"),
            *_linear("projection", "head"),
        ),
        *rows("text.blocks.#.", f"{_WORDS}#.", *_BLOCK),
    )
)


def table(names: Collection[str]) -> Table:
    """The same for every file."""
    return TABLE


def read_config(source: WeightSource, state: State) -> tuple[ClipConfig, dict[str, Any]]:
    """From the shapes, which tell the heads, too; the tokenizer by the size of the vocabulary.
    Raises CheckpointError for a vocabulary that no published model has."""
    shapes = source.weights.tensors.shapes
    image, text = _image(shapes), _text(shapes)
    config = ClipConfig(
        image=image,
        text=text,
        embed_dim=image.width,
        logit_scale=math.log(10),
        logit_bias=SIGLIP_BIAS,
        preprocess=_preprocess(image),
        tokenizer=_tokenizer(text.vocab_size),
    )
    return config, {"config": "shapes"}


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """The image tower's, as `read_config`."""
    return _image(source.weights.tensors.shapes), {"config": "shapes"}


def _image(shapes: Mapping[str, Tensor]) -> PooledImageConfig:
    kernel, positions = shapes[_KERNEL].shape, shapes["img.pos_embedding"].shape
    width = kernel[-1]
    _, heads, _ = shapes[f"{_BLOCKS}0.{_QUERY}"].shape
    sizes: dict[str, Any] = {
        "width": width,
        "layers": count(_bare(shapes, _BLOCKS), ""),
        "heads": heads,
        "mlp_width": shapes["img.MAPHead_0.MlpBlock_0.Dense_0.kernel"].shape[1],
    }
    if len(kernel) == 2:
        patch_size = math.isqrt(kernel[0] // 3)
        side = positions[0] * patch_size
        return NaflexImageConfig(image_size=side, patch_size=patch_size, **sizes)
    size = _published_size(width, kernel[0], math.isqrt(positions[1]))
    return SiglipImageConfig(image_size=size, patch_size=kernel[0], **sizes)


def _published_size(width: int, patch_size: int, side: int) -> int:
    """Pixels: those of a published model of these shapes, which may be more than whole patches."""
    for model in MODELS:
        image = model.config().image
        assert isinstance(image, SiglipImageConfig)
        if (image.width, image.patch_size, image.side) == (width, patch_size, side):
            return image.image_size
    return patch_size * side


def _text(shapes: Mapping[str, Tensor]) -> SiglipTextConfig:
    vocab_size, width = shapes["txt.Embed_0.embedding"].shape
    _, heads, _ = shapes[f"{_WORDS}0.{_QUERY}"].shape
    return SiglipTextConfig(
        context_length=shapes["txt.pos_embedding"].shape[1],
        vocab_size=vocab_size,
        width=width,
        layers=count(_bare(shapes, _WORDS), ""),
        heads=heads,
        mlp_width=shapes[f"{_WORDS}0.MlpBlock_0.Dense_0.kernel"].shape[1],
        projection="txt.head.kernel" in shapes,
    )


def _preprocess(image: TowerConfig) -> PreprocessConfig:
    if not isinstance(image, NaflexImageConfig):
        return PREPROCESS
    return replace(pretrained_naflex.PREPROCESS, patch_size=image.patch_size)


def _bare(names: Collection[str], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def _tokenizer(vocabulary: int) -> TokenizerConfig:
    for model in MODELS:
        config = model.config()
        if isinstance(config.text, SiglipTextConfig) and config.text.vocab_size == vocabulary:
            return config.tokenizer
    raise CheckpointError(
        f"no published SigLIP has a vocabulary of {vocabulary}, so its tokenizer isn't known; "
        f"{GIVE_CONFIG}"
    )


BIG_VISION = Layout(
    name="big-vision",
    image=(_KERNEL,),
    text=("txt.Embed_0.embedding",),
    scale=("t",),
    table=table,
    config=read_config,
    tower_config=tower_config,
    inputs=lambda folder, tower: Inputs(preprocess=_preprocess(tower)),
    weight_files=(),
)
