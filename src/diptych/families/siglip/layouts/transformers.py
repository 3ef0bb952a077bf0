"""The folder of transformers' `SiglipModel`, which holds SigLIP 2 for pictures of one size, too.

https://huggingface.co/docs/transformers/model_doc/siglip
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from diptych.config import ClipConfig, ImageTowerConfig, TokenizerConfig
from diptych.config.model import SIGLIP_BIAS
from diptych.config.serialize import from_dict, to_dict
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip.layouts import transformers
from diptych.families.clip.layouts import transformers_inputs as inputs
from diptych.families.siglip.config import SiglipImageConfig, SiglipTextConfig
from diptych.weights.layout import Export, Layout, WeightSource
from diptych.weights.mapping import TOKEN, Rule, Table, rows
from diptych.weights.read import read_json
from diptych.weights.state import State

MODEL_TYPE = "siglip"
_NAFLEX = "siglip2"
_ACTIVATION = "gelu_pytorch_tanh"
"""Where a section says none."""
_GEMMA = 256000
"""Entries in the vocabulary of SigLIP 2."""


def _vision(prefix: str) -> tuple[Rule, ...]:
    return (
        *rows(
            "image.",
            prefix,
            ("patch.*", "embeddings.patch_embedding.*"),
            ("positions", "embeddings.position_embedding.weight"),
            ("norm_post.*", "post_layernorm.*"),
            ("pool.query", "head.probe", TOKEN),
            ("pool.qkv.weight", "head.attention.in_proj_weight"),
            ("pool.qkv.bias", "head.attention.in_proj_bias"),
            ("pool.out.*", "head.attention.out_proj.*"),
            ("pool.norm.*", "head.layernorm.*"),
            ("pool.mlp.up.*", "head.mlp.fc1.*"),
            ("pool.mlp.down.*", "head.mlp.fc2.*"),
        ),
        *rows("image.blocks.#.", f"{prefix}encoder.layers.#.", *transformers.BLOCK),
    )


TABLE = Table(
    rules=(
        Rule("logit_scale", "logit_scale"),
        Rule("logit_bias", "logit_bias"),
        *_vision("vision_model."),
        *rows(
            "text.",
            "text_model.",
            ("tokens.weight", "embeddings.token_embedding.weight"),
            ("positions", "embeddings.position_embedding.weight"),
            ("norm_post.*", "final_layer_norm.*"),
            ("projection.*", "head.*"),
        ),
        *rows("text.blocks.#.", "text_model.encoder.layers.#.", *transformers.BLOCK),
    ),
    ignored=transformers.IGNORED,
)
_ALONE = Table(rules=_vision(""), ignored=("embeddings.position_ids",))
"""`SiglipVisionModel` as transformers 5 writes it."""


def table(names: Collection[str]) -> Table:
    """The rules for a checkpoint with these names."""
    return _ALONE if "head.probe" in names else TABLE


def read_config(source: WeightSource, state: State) -> tuple[ClipConfig, dict[str, Any]]:
    """From config.json and what lies beside it. Raises CheckpointError without it: the tokenizer
    can't be told."""
    file = source.file.parent / transformers.CONFIG
    if not file.is_file():
        raise CheckpointError(f"{file.name} isn't beside the weights: it says how SigLIP is built")
    return read_file(file), {"config": file.name}


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """The image tower's, as `read_config`."""
    file = source.file.parent / transformers.CONFIG
    found = describe_image(read_json(file), file) if file.is_file() else None
    if found is None:
        raise CheckpointError(f"no {file.name} of SigLIP is beside the weights")
    return found, {"config": file.name}


def describe(content: dict[str, Any], path: Path) -> ClipConfig | None:
    """A config.json of `SiglipModel`."""
    return read_file(path) if content.get("model_type") == MODEL_TYPE else None


def describe_image(content: dict[str, Any], path: Path) -> ImageTowerConfig | None:
    """The image tower that a config.json of `SiglipVisionModel` or `SiglipModel` describes."""
    if content.get("model_type") == "siglip_vision_model":
        return _image(content)
    return read_file(path).image if content.get("model_type") == MODEL_TYPE else None


def read_file(file: Path) -> ClipConfig:
    """From the config.json `file` and what lies beside it. Raises CheckpointError for what has no
    place in a Diptych model."""
    content = read_json(file)
    if (kind := content.get("model_type")) != MODEL_TYPE:
        raise CheckpointError(
            f"{file.name} describes a {kind!r} model, not a {MODEL_TYPE!r} one"
            + (": pictures of their own aspect (NaFlex) aren't read yet" if kind == _NAFLEX else "")
        )
    try:
        image = _image(content.get("vision_config") or {})
        text = _text(content.get("text_config") or {})
        config = ClipConfig(
            image=image,
            text=text,
            embed_dim=image.width,
            logit_bias=SIGLIP_BIAS,
            preprocess=inputs.read_preprocess(file.parent, image.image_size),
            tokenizer=TokenizerConfig(
                kind="huggingface", name=str(file.parent), clean=_cleaning(text)
            ),
        )
        return from_dict(ClipConfig, to_dict(config))  # which says what isn't of the right kind
    except (ConfigError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"{file.name} doesn't describe a SigLIP model: {error}") from error


def _cleaning(text: SiglipTextConfig) -> Literal["lower", "canonical"]:
    """SigLIP's texts lose case and punctuation, those of SigLIP 2 their case."""
    return "lower" if text.vocab_size == _GEMMA else "canonical"


def _image(cfg: dict[str, Any]) -> SiglipImageConfig:
    if not cfg.get("vision_use_head", True) or cfg.get("num_channels", 3) != 3:
        raise CheckpointError("an image tower of SigLIP's has an attention pool and three channels")
    return SiglipImageConfig(
        image_size=cfg.get("image_size", 224),
        patch_size=cfg.get("patch_size", 16),
        activation=transformers.activation(cfg, _ACTIVATION),
        **transformers.read_sizes(cfg, SiglipImageConfig()),
    )


def _text(cfg: dict[str, Any]) -> SiglipTextConfig:
    return SiglipTextConfig(
        context_length=cfg.get("max_position_embeddings", 64),
        vocab_size=cfg.get("vocab_size", 32000),
        activation=transformers.activation(cfg, _ACTIVATION),
        **transformers.read_sizes(cfg, SiglipTextConfig()),
    )


def export(folder: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """All files, for `SiglipModel.from_pretrained`.

    Raises CheckpointError for what `SiglipModel` can't hold.
    """
    image, text = config.image, config.text
    if not isinstance(image, SiglipImageConfig) or not isinstance(text, SiglipTextConfig):
        raise CheckpointError(
            f"transformers' SiglipModel has no place for a {type(image).__name__} "
            f"and a {type(text).__name__}"
        )
    if not text.projection or config.logit_bias is None:
        raise CheckpointError("transformers' SiglipModel has a text projection and a logit bias")
    vision = {"image_size": image.image_size, "patch_size": image.patch_size}
    words = {"vocab_size": text.vocab_size, "max_position_embeddings": text.context_length}
    written = {
        "architectures": ["SiglipModel"],
        "model_type": MODEL_TYPE,
        "vision_config": {"model_type": "siglip_vision_model", **vision}
        | {"hidden_act": transformers.ACTIVATIONS[image.activation]}
        | transformers.sizes(image, config.embed_dim),
        "text_config": {"model_type": "siglip_text_model", **words}
        | {
            "hidden_act": transformers.ACTIVATIONS[text.activation],
            "projection_size": config.embed_dim,
        }
        | transformers.sizes(text, config.embed_dim),
    }
    transformers.write(folder, config, written, TABLE.to_foreign(state))


SIGLIP_TRANSFORMERS = Layout(
    name="siglip-transformers",
    image=("vision_model.head.probe", "head.probe"),
    text=("text_model.embeddings.token_embedding.weight",),
    scale=("logit_scale",),
    table=table,
    config=read_config,
    config_file=transformers.CONFIG,
    tower_config=tower_config,
    describe=describe,
    describe_image=describe_image,
    weight_files=transformers.WEIGHT_FILES,
    exports=(
        Export(
            name="transformers",
            write=export,
            holds=lambda image: isinstance(image, SiglipImageConfig),
        ),
    ),
    priority=1,  # its folders have EVA's names, and more
)
