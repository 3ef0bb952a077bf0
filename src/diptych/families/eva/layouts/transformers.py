"""The folders of EVA-CLIP-8B and 18B for transformers, and ours in their layout, for every EVA
model.

https://huggingface.co/BAAI/EVA-CLIP-8B, configuration_evaclip.py and modeling_evaclip.py

Theirs has no place for the rest of the family. Ours has, under further names: biases of norms, of
queries and values and of `visual_projection`; `logit_scale`; a gated MLP as `fc1` (the gate), `fc2`
and `fc3`, and the norms `self_attn.inner_attn_ln` and `mlp.ffn_ln`, as in MindOne
(github.com/mindspore-lab/mindone); `gamma_1` and `gamma_2` of each layer. And by further fields of
`vision_config`, see `_vision_json`.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.config import ClipConfig
from diptych.errors import CheckpointError
from diptych.families.clip.config import TextConfig
from diptych.families.clip.layouts import transformers, transformers_names
from diptych.families.clip.layouts import transformers_sections as sections
from diptych.families.eva.config import EvaConfig
from diptych.families.eva.layouts.eva import inferred, tower_config
from diptych.weights.layout import Export, Layout, WeightSource
from diptych.weights.mapping import FUSED, PAIRED, SCALAR, Rule, Table, rows
from diptych.weights.read import read_json
from diptych.weights.state import State

ARCHITECTURES = ("EvaClipModel", "EvaCLIPModel")
"""Ours, and that of the published folders."""
MODEL_TYPE = "eva_clip"
REMOTE_CODE = "modeling_eva_clip"
"""The module that an exported folder has beside its weights."""
_REMOTE_SOURCE = '''\
"""EVA-CLIP for transformers: AutoModel.from_pretrained(FOLDER, trust_remote_code=True).

The model is Diptych's, which must be installed: pip install diptych."""

from diptych.compat.transformers import EvaClipConfig, EvaClipModel

__all__ = ["EvaClipConfig", "EvaClipModel"]
'''
THETA = 10000.0
FIXED_SCALE = math.log(100)

_GELU = (("mlp.up.*", "mlp.fc1.*"), ("mlp.down.*", "mlp.fc2.*"))
_GATED = (("mlp.gate_up.*", ("mlp.fc1.*", "mlp.fc2.*"), PAIRED), ("mlp.down.*", "mlp.fc3.*"))
_QKV = tuple(f"self_attn.{name}_proj.weight" for name in "qkv")


def table(names: Collection[str]) -> Table:
    """The rules for a checkpoint with these names."""
    return _table(gated="vision_model.encoder.layers.0.mlp.fc3.weight" in names)


def _table(gated: bool) -> Table:
    return Table(
        rules=(
            Rule("logit_scale", "logit_scale", SCALAR),
            Rule("image.projection.*", "visual_projection.*"),
            *rows(
                "image.",
                "vision_model.",
                ("class_token", "embeddings.class_embedding"),
                ("positions", "embeddings.position_embedding.weight"),
                ("patch.*", "embeddings.patch_embedding.*"),
                ("norm_post.*", "post_layernorm.*"),
            ),
            *rows(
                "image.blocks.#.",
                "vision_model.encoder.layers.#.",
                ("norm_1.*", "layer_norm1.*"),
                ("attention.qkv.weight", _QKV, FUSED),
                ("attention.q_bias", "self_attn.q_proj.bias"),
                ("attention.v_bias", "self_attn.v_proj.bias"),
                ("attention.norm.*", "self_attn.inner_attn_ln.*"),
                ("attention.out.*", "self_attn.out_proj.*"),
                ("scale_1", "gamma_1"),
                ("norm_2.*", "layer_norm2.*"),
                *(_GATED if gated else _GELU),
                ("mlp.norm.*", "mlp.ffn_ln.*"),
                ("scale_2", "gamma_2"),
            ),
            *transformers_names.TEXT,
        ),
        ignored=transformers_names.IGNORED,
        absent={"logit_scale": torch.tensor([FIXED_SCALE])},
    )


def read_config(source: WeightSource, state: State) -> tuple[ClipConfig, dict[str, Any]]:
    """From config.json and what lies beside it; without it from the shapes and the published
    models."""
    notes = {}
    if "logit_scale" not in source.weights.tensors:
        notes = {"logit_scale": "not in the file; ln 100, to which it was fixed in training"}
    file = source.file.parent / transformers.CONFIG
    if file.is_file():
        return read_file(file), {"config": file.name} | notes
    config, told = inferred(state)
    return config, told | notes


def describe(content: dict[str, Any], path: Path) -> ClipConfig | None:
    """The config.json of an EVA model."""
    architectures = content.get("architectures") or ()
    ours = content.get("model_type") == MODEL_TYPE or bool(set(ARCHITECTURES) & set(architectures))
    return read_file(path) if ours else None


def read_file(file: Path) -> ClipConfig:
    """From the config.json `file` of an EVA model and what lies beside it. Raises CheckpointError
    for another one."""
    content = read_json(file)
    if content.get("model_type") not in (MODEL_TYPE, "clip"):  # the published ones say no more
        raise CheckpointError(
            f"{file.name} describes a {content.get('model_type')!r} model, not one of EVA's"
        )
    config = transformers.model_config(file, content, _image, _text)
    return replace(config, logit_scale=content.get("logit_scale_init_value", config.logit_scale))


def _image(cfg: dict[str, Any]) -> EvaConfig:
    qkv_bias, sub_norms = cfg.get("q_bias", True), cfg.get("use_sub_ln", False)
    _refuse_others(
        cfg, "vision_config", hidden_act="gelu", rope_theta=THETA, num_channels=3, v_bias=qkv_bias
    )
    return EvaConfig(
        image_size=cfg.get("image_size", 224),
        patch_size=cfg.get("patch_size", 32),
        width=cfg.get("hidden_size", 768),
        layers=cfg.get("num_hidden_layers", 12),
        heads=cfg.get("num_attention_heads", 12),
        mlp_width=cfg.get("intermediate_size", 3072),
        mlp="swiglu" if cfg.get("use_swiglu_mlp") else "gelu",
        norm="rms" if cfg.get("use_rms_norm", True) else "layer",
        norm_eps=cfg.get("layer_norm_eps", 1e-6),
        norm_place="post" if cfg.get("post_layernorm") else "pre",
        attention_norm=cfg.get("use_inner_attn_ln", sub_norms),
        mlp_norm=cfg.get("use_ffn_ln", sub_norms),
        qkv_bias=qkv_bias,
        projection_bias=cfg.get("projection_bias", False),
        rotary_grid=cfg.get("pretrained_seq_len", 16) if cfg.get("use_rope") else None,
        layer_scale=cfg.get("layer_scale_init_value"),
        pool=cfg.get("pool", "cls"),
    )


def _text(cfg: dict[str, Any]) -> TextConfig:
    biases = {"q_bias": True, "k_bias": True, "v_bias": True}
    _refuse_others(cfg, "text_config", use_rms_norm=False, post_layernorm=False, **biases)
    return transformers.text_config({"hidden_act": "gelu"} | cfg)


def _refuse_others(cfg: dict[str, Any], section: str, **only: Any) -> None:
    for name, value in only.items():
        if cfg.get(name, value) != value:
            raise CheckpointError(
                f"{section}.{name} = {cfg[name]!r} has no place in a Diptych model"
            )


def export(folder: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """All files, for `AutoModel.from_pretrained(folder, trust_remote_code=True)` and
    `CLIPProcessor.from_pretrained`.

    transformers finds the classes of a type that it doesn't know by `auto_map`, in a module that
    lies beside the weights; ours only imports them from Diptych. Raises CheckpointError for a model
    without EVA's image tower and CLIP's text tower.
    """
    image, text = config.image, config.text
    if (
        not isinstance(image, EvaConfig)
        or not isinstance(text, TextConfig)
        or config.logit_bias is not None
    ):
        raise CheckpointError(
            "EVA's layout for transformers has an EVA tower, CLIP's text tower and no logit bias"
        )
    written = {
        "architectures": [ARCHITECTURES[0]],
        "model_type": MODEL_TYPE,
        "auto_map": {
            "AutoConfig": f"{REMOTE_CODE}.EvaClipConfig",
            "AutoModel": f"{REMOTE_CODE}.EvaClipModel",
        },
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": config.logit_scale,
        "vision_config": _vision_json(image) | sections.sizes(image, config.embed_dim),
        "text_config": {"model_type": f"{MODEL_TYPE}_text_model"}
        | transformers.text_json(text, config.embed_dim),
    }
    transformers.write(folder, config, written, _table(image.mlp == "swiglu").to_foreign(state))
    (folder / f"{REMOTE_CODE}.py").write_text(_REMOTE_SOURCE)


def _vision_json(image: EvaConfig) -> dict[str, Any]:
    """What `vision_config` has beside the sizes: the published fields, MindOne's, and ours."""
    published = {
        "model_type": f"{MODEL_TYPE}_vision_model",
        "image_size": image.image_size,
        "patch_size": image.patch_size,
        "hidden_act": "gelu",
        "use_rms_norm": image.norm == "rms",
        "post_layernorm": image.norm_place == "post",
        "q_bias": image.qkv_bias,
        "k_bias": False,
        "v_bias": image.qkv_bias,
    }
    extended = {
        "use_rope": image.rotary_grid is not None,
        "rope_theta": THETA,
        "pretrained_seq_len": image.rotary_grid or 16,
        "use_sub_ln": image.attention_norm and image.mlp_norm,
        "use_swiglu_mlp": image.mlp == "swiglu",
    }
    ours = {
        "use_inner_attn_ln": image.attention_norm,
        "use_ffn_ln": image.mlp_norm,
        "projection_bias": image.projection_bias,
        "layer_scale_init_value": image.layer_scale,
        "pool": image.pool,
    }
    return published | extended | ours


EVA_TRANSFORMERS = Layout(
    name="eva-transformers",
    image=("vision_model.embeddings.patch_embedding.bias",),
    text=("text_model.embeddings.token_embedding.weight",),
    scale=(),
    table=table,
    config=read_config,
    config_file=transformers.CONFIG,
    model_types=(MODEL_TYPE,),
    describe=describe,
    tower_config=tower_config,
    weight_files=transformers.WEIGHT_FILES,
    exports=(
        Export(
            name="transformers",
            write=export,
            holds=lambda image: isinstance(image, EvaConfig),
        ),
    ),
)
