"""open_clip's classes of models, to build them, and to ask of one which it is.

https://github.com/mlfoundations/open_clip, src/open_clip/model.py
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from diptych.compat.faces.face import OpenClipModel
from diptych.compat.faces.state import convert_to_custom_text_state_dict
from diptych.compat.faces.tracing import trace_model
from diptych.compat.hf_model import HFTextEncoder
from diptych.compat.loading.model_settings import (
    get_model_preprocess_cfg,
    get_model_tokenize_cfg,
    set_model_preprocess_cfg,
)
from diptych.compat.loading.openai_state import clip_of
from diptych.compat.loading.own_folders import name_text_folders
from diptych.compat.loading.positions import resize_pos_embed, resize_text_pos_embed
from diptych.compat.loading.precision import (
    convert_weights_to_fp16,
    convert_weights_to_lp,
    get_cast_dtype,
    get_input_dtype,
)
from diptych.compat.loading.settings import drop_patches, settle
from diptych.compat.modified_resnet import ModifiedResNet
from diptych.compat.parts.attention import Attention
from diptych.compat.parts.layers import LayerNorm, LayerNormFp32, QuickGELU
from diptych.compat.parts.text import TextTransformer
from diptych.compat.parts.text_parts import lock_text_tower, text_global_pool
from diptych.compat.parts.vision import VisionTransformer
from diptych.compat.timm_model import TimmModel
from diptych.compat.utils import to_2tuple
from diptych.config import ClipConfig
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip.layouts.open_clip_config import from_json
from diptych.families.modern.words import is_modern
from diptych.models import Clip, build

__all__ = [
    "Attention",
    "CLIP",
    "CLIPTextCfg",
    "CLIPVisionCfg",
    "CustomTextCLIP",
    "HFTextEncoder",
    "LayerNorm",
    "LayerNormFp32",
    "ModifiedResNet",
    "OpenClipModel",
    "QuickGELU",
    "TextTransformer",
    "TimmModel",
    "VisionTransformer",
    "build_clip",
    "build_model_from_openai_state_dict",
    "convert_to_custom_text_state_dict",
    "convert_weights_to_fp16",
    "convert_weights_to_lp",
    "get_cast_dtype",
    "get_input_dtype",
    "get_model_preprocess_cfg",
    "get_model_tokenize_cfg",
    "lock_text_tower",
    "resize_pos_embed",
    "resize_text_pos_embed",
    "section",
    "set_model_preprocess_cfg",
    "text_global_pool",
    "to_2tuple",
    "trace_model",
]


@dataclass
class CLIPVisionCfg:
    """A `vision_cfg`; the fields and defaults are open_clip's; from `timm_model_kwargs` on they are
    its main branch's."""

    layers: Any = 12
    width: int = 768
    head_width: int = 64
    mlp_ratio: float = 4.0
    patch_size: int = 16
    image_size: Any = 224
    ls_init_value: float | None = None
    patch_dropout: float = 0.0
    attentional_pool: Any = False
    attn_pooler_queries: int = 256
    attn_pooler_heads: int = 8
    no_ln_pre: bool = False
    pos_embed_type: str = "learnable"
    final_ln_after_pool: bool = False
    pool_type: str = "tok"
    output_tokens: bool = False
    act_kwargs: dict[str, Any] | None = None
    norm_kwargs: dict[str, Any] | None = None
    block_type: str | None = None
    qk_norm: bool = False
    scaled_cosine_attn: bool = False
    scale_heads: bool = False
    scale_attn_inner: bool = False
    scale_attn: bool = False
    scale_fc: bool = False
    timm_model_name: str | None = None
    timm_model_pretrained: bool = False
    timm_pool: str = "avg"
    timm_proj: str | None = "linear"
    timm_proj_bias: bool = False
    timm_drop: float = 0.0
    timm_drop_path: float | None = None
    timm_model_kwargs: dict[str, Any] | None = None
    image_seq_len: int | None = None
    in_chans: int = 3
    proj_bias: bool = True
    input_norm: bool = False
    pre_norm: bool = False
    genlip_cfg: dict[str, Any] | None = None
    genlip_naflex: bool = True


@dataclass
class CLIPTextCfg:
    """A `text_cfg`; the fields and defaults are open_clip's; `correct_cls_mask`, `bos_id`, and from
    `text_arch` on those of tokenizers and of "modern" texts, its main branch's."""

    context_length: int = 77
    vocab_size: int = 49408
    hf_tokenizer_name: str | None = None
    tokenizer_mode: str | None = None
    tokenizer_kwargs: dict[str, Any] | None = None
    width: int = 512
    heads: int = 8
    layers: int = 12
    mlp_ratio: float = 4.0
    ls_init_value: float | None = None
    embed_cls: bool = False
    correct_cls_mask: bool = False
    pad_id: int | None = 0
    bos_id: int | None = None
    eos_id: int | None = None
    no_causal_mask: bool = False
    final_ln_after_pool: bool = False
    pool_type: str = "argmax"
    proj_bias: bool = False
    proj_type: str = "linear"
    output_tokens: bool = False
    act_kwargs: dict[str, Any] | None = None
    norm_kwargs: dict[str, Any] | None = None
    block_type: str | None = None
    qk_norm: bool = False
    scaled_cosine_attn: bool = False
    scale_heads: bool = False
    scale_attn_inner: bool = False
    scale_attn: bool = False
    scale_fc: bool = False
    hf_model_name: str | None = None
    hf_model_pretrained: bool = True
    hf_proj_type: str | None = "mlp"
    hf_pooler_type: str | None = "mean_pooler"
    hf_model_config: dict[str, Any] | None = None
    text_arch: str = "clip"
    variable_text: bool = False
    tokenizer_type: str = ""
    tiktoken_name: str = "cl100k_base"
    attention_mode: str = "causal"
    freeze_pad_embed: bool | None = None
    pos_embed: str = "rope"
    rope_temperature: float = 10000.0
    mlp_type: str = "swiglu"
    norm_type: str | None = None
    norm_eps: float = 1e-6
    attn_gated: bool = False
    pre_norm: bool = False
    norm_placement: str = "pre"
    zero_init_residual: bool = False
    reg_tokens: int = 0
    value_residual: bool = False
    attention_bias: bool | None = None
    mlp_bias: bool | None = None
    gate_bias: bool | None = None


_LEAST_VISION = CLIPVisionCfg(layers=1, width=64, image_size=16)
"""Built where a text tower alone is asked for."""


class _TwoTowers(OpenClipModel):
    """Two towers with random weights; of `vision_cfg` None, which open_clip takes where programs
    have patched it, the text tower alone: `visual` is None.

    `init_logit_scale`, `init_logit_bias`: where they start (None: no bias); `nonscalar_logit_scale`
    gives both the shape [1]. `cast_dtype` has no meaning: norms work in any precision. Raises
    CheckpointError for an option that Diptych's towers don't have.
    """

    custom_text = False

    def __init__(
        self,
        embed_dim: int,
        vision_cfg: CLIPVisionCfg | dict[str, Any] | None,
        text_cfg: CLIPTextCfg | dict[str, Any],
        quick_gelu: bool = False,
        init_logit_scale: float = math.log(1 / 0.07),
        init_logit_bias: float | None = None,
        nonscalar_logit_scale: bool = False,
        cast_dtype: torch.dtype | None = None,
        output_dict: bool = False,
    ):
        vision = section(_LEAST_VISION if vision_cfg is None else vision_cfg, CLIPVisionCfg)
        text = section(text_cfg, CLIPTextCfg)
        if is_modern(text) and not self.custom_text:
            raise ConfigError(
                "text_arch 'modern' requires CustomTextCLIP, whose text tower is text"
            )
        clip = build_clip(
            {
                "embed_dim": embed_dim,
                "vision_cfg": vision,
                "text_cfg": text,
                "quick_gelu": quick_gelu,
                "init_logit_bias": init_logit_bias,
            },
            init_logit_scale,
        )
        super().__init__(clip, output_dict, self.custom_text)
        settle(self, {"vision_cfg": vision, "text_cfg": text})
        if vision_cfg is None:
            self.visual = None
        if nonscalar_logit_scale:
            self.reshape_scale(1)


class CLIP(_TwoTowers):
    """A model whose text tower's parts stand beside `visual`; the arguments are `_TwoTowers`'s.

    >>> from diptych.compat import CLIP, CLIPTextCfg, CLIPVisionCfg
    >>> vision = CLIPVisionCfg(layers=1, width=64, patch_size=16, image_size=32)
    >>> model = CLIP(16, vision, CLIPTextCfg(layers=1, width=64, heads=1))
    >>> model.visual.grid_size, model.positional_embedding.shape
    ((2, 2), torch.Size([77, 64]))
    """


class CustomTextCLIP(_TwoTowers):
    """The same with the text tower as `text`. In open_clip none of the two is the other."""

    custom_text = True


def build_model_from_openai_state_dict(
    state_dict: Mapping[str, Tensor],
    quick_gelu: bool = True,
    cast_dtype: torch.dtype = torch.float16,
) -> CLIP:
    """The model of an OpenAI state dict, in evaluation mode; matrices are float16, as OpenAI's.
    `cast_dtype` has no meaning: norms work in any precision. Raises CheckpointError for a state
    dict of another kind."""
    model = CLIP.of(clip_of(state_dict, "quick_gelu" if quick_gelu else "gelu")).eval()
    convert_weights_to_fp16(model)
    return model


def build_clip(content: dict[str, Any], scale: float) -> Clip:
    """The model of a `model_cfg`, with random weights. Raises ConfigError, a ValueError, for what
    doesn't fit together, and CheckpointError for an option that Diptych's towers don't have."""
    name_text_folders(content)
    try:
        config: ClipConfig = from_json({"model_cfg": content})
    except CheckpointError as error:
        if isinstance(error.__cause__, ConfigError):
            raise ConfigError(str(error)) from error
        raise
    clip = build(replace(config, logit_scale=float(scale)))
    drop_patches(clip, content["vision_cfg"])
    return clip


def _build_vision_tower(  # pyright: ignore[reportUnusedFunction]: scripts import it
    embed_dim: int,
    vision_cfg: CLIPVisionCfg | dict[str, Any],
    quick_gelu: bool = False,
    cast_dtype: torch.dtype | None = None,
) -> Any:
    """`visual` of a model with this `vision_cfg`, with random weights; see `CLIP`."""
    beside = CLIPTextCfg(vocab_size=2, width=8, heads=1, layers=1)
    return CLIP(embed_dim, vision_cfg, beside, quick_gelu).visual


def _build_text_tower(  # pyright: ignore[reportUnusedFunction]: scripts import it
    embed_dim: int,
    text_cfg: CLIPTextCfg | dict[str, Any],
    quick_gelu: bool = False,
    cast_dtype: torch.dtype | None = None,
) -> Any:
    """`text` of a model with this `text_cfg`, with random weights; see `CustomTextCLIP`."""
    return CustomTextCLIP(embed_dim, None, text_cfg, quick_gelu).text


def section(cfg: Any, kind: type[Any]) -> dict[str, Any]:
    """What `cfg`, of this `kind` or its dictionary, says beside the defaults. Raises TypeError for
    a field that the kind doesn't have.

    >>> from diptych.compat.model import CLIPVisionCfg, section
    >>> section(CLIPVisionCfg(width=64, image_size=(32, 32)), CLIPVisionCfg)
    {'width': 64, 'image_size': 32}
    """
    given = kind(**cfg) if isinstance(cfg, dict) else cfg
    found: dict[str, Any] = {}
    for field in fields(kind):
        value = getattr(given, field.name)
        if value != field.default:
            found[field.name] = list(value) if isinstance(value, tuple) else value
    size = found.get("image_size")
    if isinstance(size, list) and len(set(size)) == 1:
        found["image_size"] = size[0]
    return found
