"""The folder of transformers' `CLIPModel`: config.json, model.safetensors, preprocessor_config.json, tokenizer files.

https://huggingface.co/docs/transformers/model_doc/clip
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from diptych.checkpoints.formats.base import Format, Source, State
from diptych.checkpoints.infer import infer
from diptych.checkpoints.read import read_json
from diptych.checkpoints.rename import FUSED, SCALAR, Rule, Table, rows
from diptych.config import Activation, ClipConfig, PreprocessConfig, TextConfig, TokenizerConfig, VitConfig
from diptych.errors import CheckpointError, ConfigError
from diptych.inputs import write_transformers_files

CONFIG, WEIGHTS, PREPROCESSOR, PROCESSOR = (
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "processor_config.json",
)
CLIP_VOCABULARY = 49408
_RESAMPLE = {"bilinear": 2, "bicubic": 3}
"""Pillow's numbers."""

_BLOCK = (
    ("norm_1.*", "layer_norm1.*"),
    ("attention.qkv.*", ("self_attn.q_proj.*", "self_attn.k_proj.*", "self_attn.v_proj.*"), FUSED),
    ("attention.out.*", "self_attn.out_proj.*"),
    ("norm_2.*", "layer_norm2.*"),
    ("mlp.up.*", "mlp.fc1.*"),
    ("mlp.down.*", "mlp.fc2.*"),
)

TABLE = Table(
    rules=(
        Rule("logit_scale", "logit_scale", SCALAR),
        Rule("image.projection.weight", "visual_projection.weight"),
        Rule("text.projection.weight", "text_projection.weight"),
        *rows(
            "image.",
            "vision_model.",
            ("patch.weight", "embeddings.patch_embedding.weight"),
            ("class_token", "embeddings.class_embedding"),
            ("positions", "embeddings.position_embedding.weight"),
            ("norm_pre.*", "pre_layrnorm.*"),  # spelt so there
            ("norm_post.*", "post_layernorm.*"),
        ),
        *rows(
            "text.",
            "text_model.",
            ("tokens.weight", "embeddings.token_embedding.weight"),
            ("positions", "embeddings.position_embedding.weight"),
            ("norm_post.*", "final_layer_norm.*"),
        ),
        *rows("image.blocks.#.", "vision_model.encoder.layers.#.", *_BLOCK),
        *rows("text.blocks.#.", "text_model.encoder.layers.#.", *_BLOCK),
    ),
    ignored=("vision_model.embeddings.position_ids", "text_model.embeddings.position_ids"),
)


def table(names: Collection[str]) -> Table:
    """The one table of this layout."""
    return TABLE


def read_config(source: Source, state: State) -> tuple[ClipConfig, dict[str, Any]]:
    """From config.json and preprocessor_config.json; without them from the shapes, with transformers' default
    activation."""
    if not (source.file.parent / CONFIG).is_file():
        return infer(state.shapes, "quick_gelu"), {"config": "shapes; assumed: quick_gelu, heads of 64 channels"}
    content = read_json(source.file.parent / CONFIG)
    if content.get("model_type") != "clip":
        raise CheckpointError(f"config.json describes a {content.get('model_type')!r} model, not a 'clip' one")
    try:
        image, text = _image(_section(content, "vision_config")), _text(_section(content, "text_config"))
        config = ClipConfig(
            image=image,
            text=text,
            embed_dim=content.get("projection_dim", 512),
            preprocess=_preprocess(source.file.parent, image.image_size),
            tokenizer=_tokenizer(source.file.parent, text),
        )
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"config.json doesn't describe a CLIP model: {error}") from error
    return config, {"config": CONFIG}


def _section(content: dict[str, Any], name: str) -> dict[str, Any]:
    """transformers writes only what differs from its defaults, and once wrote the section under a second name."""
    return (content.get(name) or {}) | (content.get(f"{name}_dict") or {})


def _image(cfg: dict[str, Any]) -> VitConfig:
    return VitConfig(
        image_size=cfg.get("image_size", 224),
        patch_size=cfg.get("patch_size", 32),
        width=cfg.get("hidden_size", 768),
        layers=cfg.get("num_hidden_layers", 12),
        heads=cfg.get("num_attention_heads", 12),
        mlp_width=cfg.get("intermediate_size", 3072),
        activation=_activation(cfg),
        norm_eps=cfg.get("layer_norm_eps", 1e-5),
    )


def _text(cfg: dict[str, Any]) -> TextConfig:
    vocab_size, end = cfg.get("vocab_size", CLIP_VOCABULARY), cfg.get("eos_token_id", 49407)
    # transformers reads the text at this token; an id of 2 is its old way to say "the highest", which is ours.
    if end != 2 and end < vocab_size - 1:
        raise CheckpointError(f"text is read at token {end}, which is not the highest of {vocab_size}")
    return TextConfig(
        context_length=cfg.get("max_position_embeddings", 77),
        vocab_size=vocab_size,
        width=cfg.get("hidden_size", 512),
        layers=cfg.get("num_hidden_layers", 12),
        heads=cfg.get("num_attention_heads", 8),
        mlp_width=cfg.get("intermediate_size", 2048),
        activation=_activation(cfg),
        norm_eps=cfg.get("layer_norm_eps", 1e-5),
    )


def _activation(cfg: dict[str, Any]) -> Activation:
    name = cfg.get("hidden_act", "quick_gelu")
    if name not in ("gelu", "quick_gelu"):
        raise CheckpointError(f"our towers have gelu and quick_gelu, not {name!r}")
    return name


def _preprocess(folder: Path, image_size: int) -> PreprocessConfig:
    if (folder / PREPROCESSOR).is_file():
        cfg = read_json(folder / PREPROCESSOR)
    elif (folder / PROCESSOR).is_file():
        cfg = read_json(folder / PROCESSOR).get("image_processor", {})
    else:
        return PreprocessConfig()
    size = cfg.get("size", image_size)
    shortest = size if isinstance(size, int) else size.get("shortest_edge")
    default = PreprocessConfig()
    if shortest not in (None, image_size):
        raise CheckpointError(
            f"pictures are resized to {shortest} before they are cropped to {image_size}: not supported"
        )
    resample = cfg.get("resample", 3)
    names = {number: name for name, number in _RESAMPLE.items()}
    if resample not in names:
        raise CheckpointError(
            f"pictures are resized by Pillow's filter {resample}; known are 2 (bilinear) and 3 (bicubic)"
        )
    return PreprocessConfig(
        resize="shortest" if shortest else "squash",
        interpolation="bicubic" if names[resample] == "bicubic" else "bilinear",
        mean=tuple(cfg.get("image_mean", default.mean)),
        std=tuple(cfg.get("image_std", default.std)),
    )


def _tokenizer(folder: Path, text: TextConfig) -> TokenizerConfig:
    if text.vocab_size != CLIP_VOCABULARY and (folder / "tokenizer_config.json").is_file():
        return TokenizerConfig(kind="huggingface", name=str(folder))
    return TokenizerConfig()


def export(folder: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """All files, for `CLIPModel.from_pretrained` and `CLIPProcessor.from_pretrained`.

    Raises CheckpointError for what `CLIPModel` can't hold.
    """
    written, processor = _config_json(config), _preprocess_json(config)
    foreign = TABLE.to_foreign(state)
    folder.mkdir()
    save_file(foreign, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(written, indent=2) + "\n")
    (folder / PREPROCESSOR).write_text(json.dumps(processor, indent=2) + "\n")
    if config.tokenizer.kind == "clip" and written["text_config"]["vocab_size"] == CLIP_VOCABULARY:
        write_transformers_files(folder, written["text_config"]["max_position_embeddings"])


def _config_json(config: ClipConfig) -> dict[str, Any]:
    image, text = config.image, config.text
    if not isinstance(image, VitConfig) or not isinstance(text, TextConfig):
        raise CheckpointError(
            f"transformers' CLIPModel has no place for a {type(image).__name__} and a {type(text).__name__}"
        )
    if image.pool != "cls" or image.stem_widths or not image.pre_norm or config.logit_bias is not None:
        raise CheckpointError(
            "transformers' CLIPModel has no place for mean pooling, a convolutional stem, a missing pre-norm or a bias"
        )
    towers: list[dict[str, Any]] = [
        {
            "hidden_size": tower.width,
            "intermediate_size": tower.mlp_width,
            "num_hidden_layers": tower.layers,
            "num_attention_heads": tower.heads,
            "hidden_act": tower.activation,
            "layer_norm_eps": tower.norm_eps,
            "projection_dim": config.embed_dim,
        }
        for tower in (image, text)
    ]
    vision = {"model_type": "clip_vision_model", "image_size": image.image_size, "patch_size": image.patch_size}
    ends = {"bos_token_id": text.vocab_size - 2, "eos_token_id": text.vocab_size - 1, "pad_token_id": 0}
    words = {"model_type": "clip_text_model", "vocab_size": text.vocab_size, **ends}
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": config.logit_scale,
        "vision_config": vision | towers[0],
        "text_config": words | {"max_position_embeddings": text.context_length} | towers[1],
    }


def _preprocess_json(config: ClipConfig) -> dict[str, Any]:
    assert isinstance(config.image, VitConfig)
    size, image = config.image.image_size, config.preprocess
    if image.resize == "longest":
        raise CheckpointError("transformers' CLIPImageProcessor can't pad; preprocess.resize must not be 'longest'")
    square = {"height": size, "width": size}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size} if image.resize == "shortest" else square,
        "resample": _RESAMPLE[image.interpolation],
        "do_center_crop": image.resize == "shortest",
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(image.mean),
        "image_std": list(image.std),
        "do_convert_rgb": True,
    }


TRANSFORMERS = Format(
    name="transformers",
    image=("vision_model.embeddings.class_embedding",),
    text=("text_model.embeddings.token_embedding.weight",),
    scale=("logit_scale",),
    table=table,
    config=read_config,
    weight_files=(WEIGHTS, "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
)
