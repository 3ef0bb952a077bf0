"""open_clip's JSON, and EVA-CLIP's, which is a dialect of it, <-> ClipConfig.

An option that our towers don't have is refused, never dropped.
"""

from typing import Any

from diptych.checkpoints.formats import eva_config, eva_timm, unireplknet_timm
from diptych.config import (
    ClipConfig,
    EvaConfig,
    HuggingFaceTextConfig,
    ImageTowerConfig,
    PreprocessConfig,
    ResNetConfig,
    TextConfig,
    TextTowerConfig,
    TimmConfig,
    TokenizerConfig,
    UniRepLKNetConfig,
    VitConfig,
)
from diptych.config.serialize import from_dict, to_dict
from diptych.errors import CheckpointError, first_line

_HARMLESS = {
    # Training, loading and output options; what they ask for doesn't change the features.
    *(
        "output_tokens",
        "pos_embed_type",
        "attn_pooler_queries",
        "attn_pooler_heads",
        "eos_id",
        "pad_id",
    ),
    *(
        "timm_model_pretrained",
        "timm_drop",
        "timm_drop_path",
        "hf_model_pretrained",
        "tokenizer_mode",
    ),
    *("init_logit_scale", "nonscalar_logit_scale", "custom_text", "output_dict"),
    *("fusedLN", "xattn"),  # kernels
}
_ONLY = {
    "pool_type": ("tok", "argmax"),
    "proj_type": ("linear",),
    "timm_proj": ("linear",),
    "block_type": ("default",),
}
"""Options of which our towers have one value; every other option must be off."""


def from_json(content: dict[str, Any]) -> ClipConfig:
    """The configuration that `model_cfg` and `preprocess_cfg` say.

    Raises CheckpointError for what is missing and for options that Diptych doesn't know, naming the
    first."""
    model = dict(content.get("model_cfg") or {})
    try:
        embed_dim, vision, text = (
            model.pop("embed_dim"),
            dict(model.pop("vision_cfg")),
            dict(model.pop("text_cfg")),
        )
        quick = "quick_gelu" if model.pop("quick_gelu", False) else "gelu"
        bias = model.pop("init_logit_bias", None)
        _refuse_rest(model, "model_cfg")
        config = ClipConfig(
            image=_image(vision, quick),
            text=_text(text, quick),
            embed_dim=embed_dim,
            logit_bias=bias,
            preprocess=_preprocess(content.get("preprocess_cfg") or {}),
            tokenizer=_tokenizer(text),
        )
        return from_dict(ClipConfig, to_dict(config))  # which says what isn't of the right kind
    except KeyError as error:
        raise CheckpointError(f"the configuration has no {error}") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"the configuration doesn't describe a model: {error}") from error


def _image(cfg: dict[str, Any], quick: Any) -> ImageTowerConfig:
    if tower := eva_config.read_vision(cfg) if cfg.get("eva_model_name") else _timm_tower(cfg):
        _refuse_rest(cfg, "vision_cfg")
        return tower
    image_size, width = cfg.pop("image_size", 224), cfg.pop("width", 768)
    layers, head_width = cfg.pop("layers", 12), cfg.pop("head_width", 64)
    patch_size, mlp_ratio = cfg.pop("patch_size", 16), cfg.pop("mlp_ratio", 4.0)
    pre_norm, dropout = not cfg.pop("no_ln_pre", False), cfg.pop("patch_dropout", 0.0)
    eps, name, pool = _eps(cfg), cfg.pop("timm_model_name", None), cfg.pop("timm_pool", "avg")
    _refuse_rest(cfg, "vision_cfg")
    if name:
        return TimmConfig(
            name=name, image_size=image_size, options={"global_pool": pool} if pool else {}
        )
    if isinstance(layers, list):
        first, second, third, fourth = layers
        return ResNetConfig(
            image_size=image_size,
            layers=(first, second, third, fourth),
            width=width,
            heads=width * 32 // head_width,
        )
    return VitConfig(
        image_size=image_size,
        patch_size=patch_size,
        width=width,
        layers=layers,
        heads=width // head_width,
        mlp_width=int(width * mlp_ratio),
        activation=quick,
        pre_norm=pre_norm,
        norm_eps=eps,
        patch_dropout=dropout,
    )


def _timm_tower(cfg: dict[str, Any]) -> ImageTowerConfig | None:
    """A tower of ours that open_clip has from timm."""
    return eva_timm.read_vision(cfg) or unireplknet_timm.read_vision(cfg)


def _text(cfg: dict[str, Any], quick: Any) -> TextTowerConfig:
    cfg = dict(cfg)
    cfg.pop("hf_tokenizer_name", None)
    if not cfg.pop("attn_mask", True):
        raise CheckpointError(
            "text_cfg.attn_mask = False has no place in a Diptych model: its text towers are causal"
        )
    context, vocab_size = cfg.pop("context_length", 77), cfg.pop("vocab_size", 49408)
    width, layers, heads = cfg.pop("width", 512), cfg.pop("layers", 12), cfg.pop("heads", 8)
    mlp_ratio, eps, name = cfg.pop("mlp_ratio", 4.0), _eps(cfg), cfg.pop("hf_model_name", None)
    # EVA-CLIP writes the two without `hf_`.
    pooler = cfg.pop("hf_pooler_type", cfg.pop("pooler_type", "mean_pooler"))
    proj = cfg.pop("hf_proj_type", cfg.pop("proj", "mlp"))
    _refuse_rest(cfg, "text_cfg")
    if name:
        return _hugging_face(name, context, pooler, proj)
    return TextConfig(
        context_length=context,
        vocab_size=vocab_size,
        width=width,
        layers=layers,
        heads=heads,
        mlp_width=int(width * mlp_ratio),
        activation=quick,
        norm_eps=eps,
    )


def _hugging_face(name: str, context: int, pooler: str, proj: str) -> HuggingFaceTextConfig:
    pools: dict[str, Any] = {"mean_pooler": "mean", "cls_last_hidden_state_pooler": "cls"}
    if proj != "linear" or pooler not in pools:
        raise CheckpointError(
            f"a text tower with {pooler!r} and a {proj!r} projection has no place in a Diptych model"
        )
    try:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(name)
    except ImportError as error:
        raise CheckpointError(
            "Hugging Face text towers need transformers: `pip install diptych[bridges]`"
        ) from error
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise CheckpointError(
            f"the configuration of the text tower {name} can't be fetched ({reason})"
        ) from error
    options = {
        key: value
        for key, value in config.to_diff_dict().items()
        if key not in ("model_type", "architectures")
    }
    return HuggingFaceTextConfig(
        model_type=config.model_type,
        options=options,
        context_length=context,
        pool=pools[pooler],
        pad_id=config.pad_token_id or 0,
    )


def _eps(cfg: dict[str, Any]) -> float:
    norm = dict(cfg.pop("norm_kwargs", None) or {})
    eps = norm.pop("eps", 1e-5)
    _refuse_rest(norm, "norm_kwargs")
    return eps


def _tokenizer(cfg: dict[str, Any]) -> TokenizerConfig:
    name = cfg.get("hf_tokenizer_name")
    return TokenizerConfig(kind="huggingface", name=name) if name else TokenizerConfig()


def _preprocess(cfg: dict[str, Any]) -> PreprocessConfig:
    known = {
        "interpolation": "interpolation",
        "resize_mode": "resize",
        "fill_color": "fill",
        "mean": "mean",
        "std": "std",
    }
    values = {ours: cfg[theirs] for theirs, ours in known.items() if cfg.get(theirs) is not None}
    if (
        values.get("interpolation") == "random"
    ):  # In training only; open_clip then evaluates with bicubic.
        del values["interpolation"]
    for name in ("mean", "std"):
        if name in values:
            values[name] = tuple(values[name])
    return PreprocessConfig(**values)


def _refuse_rest(cfg: dict[str, Any], section: str) -> None:
    for name, value in cfg.items():
        if value and name not in _HARMLESS and value not in _ONLY.get(name, ()):
            raise CheckpointError(f"{section}.{name} = {value!r} has no place in a Diptych model")


def to_json(config: ClipConfig) -> dict[str, Any]:
    """What open_clip reads. Raises CheckpointError for what it can't express."""
    if not isinstance(config.text, TextConfig):
        raise CheckpointError(
            "open_clip can't read a Hugging Face text tower without its name on the hub"
        )
    vision, text = _vision_json(config.image), text_json(config.text)
    if isinstance(config.image, VitConfig) and config.image.activation != config.text.activation:
        raise CheckpointError(
            "open_clip has one activation for both towers, and this model has two"
        )
    if config.tokenizer.kind == "huggingface":
        text["hf_tokenizer_name"] = config.tokenizer.name
    model = {"embed_dim": config.embed_dim, "vision_cfg": vision, "text_cfg": text}
    if config.text.activation == "quick_gelu":
        model["quick_gelu"] = True
    if config.logit_bias is not None:
        model["init_logit_bias"] = config.logit_bias
    if isinstance(config.image, EvaConfig):
        model["custom_text"] = True
    image = config.preprocess
    if image.crop_share != 1:
        raise CheckpointError(
            "open_clip crops all of the resized picture's shorter side; preprocess.crop_share must be 1"
        )
    preprocess = {
        "mean": list(image.mean),
        "std": list(image.std),
        "interpolation": image.interpolation,
        "resize_mode": image.resize,
        "fill_color": image.fill,
    }
    return {"model_cfg": model, "preprocess_cfg": preprocess}


def _vision_json(image: ImageTowerConfig) -> dict[str, Any]:
    match image:
        case VitConfig():
            return _vit_json(image)
        case ResNetConfig():
            head_width = _ratio(image.width * 32, image.heads, "the attention pool's heads")
            sizes = {
                "image_size": image.image_size,
                "layers": list(image.layers),
                "width": image.width,
            }
            return sizes | {"head_width": head_width, "patch_size": None}
        case TimmConfig():
            return _timm_json(image)
        case EvaConfig():
            return eva_timm.write_vision(image)
        case UniRepLKNetConfig():
            return unireplknet_timm.write_vision(image)


def _timm_json(image: TimmConfig) -> dict[str, Any]:
    options = dict(image.options)
    pool = options.pop("global_pool", "")
    if options:
        raise CheckpointError(f"open_clip can't pass {', '.join(options)} on to timm")
    return {
        "timm_model_name": image.name,
        "timm_pool": pool,
        "timm_proj": "linear",
        "image_size": image.image_size,
    }


def _vit_json(image: VitConfig) -> dict[str, Any]:
    if image.pool != "cls" or image.stem_widths:
        raise CheckpointError(
            "open_clip's vision transformer has neither a convolutional stem nor our mean pooling"
        )
    cfg = {
        "image_size": image.image_size,
        "layers": image.layers,
        "width": image.width,
        "head_width": image.width // image.heads,
        "patch_size": image.patch_size,
        "mlp_ratio": eva_config.mlp_ratio(image),
        "patch_dropout": image.patch_dropout,
    }
    return cfg | ({} if image.pre_norm else {"no_ln_pre": True}) | _norm_json(image.norm_eps)


def text_json(text: TextConfig) -> dict[str, Any]:
    """`text_cfg` of this tower."""
    return {
        "context_length": text.context_length,
        "vocab_size": text.vocab_size,
        "width": text.width,
        "heads": text.heads,
        "layers": text.layers,
        "mlp_ratio": eva_config.mlp_ratio(text),
    } | _norm_json(text.norm_eps)


def _norm_json(eps: float) -> dict[str, Any]:
    return {} if eps == 1e-5 else {"norm_kwargs": {"eps": eps}}


def _ratio(whole: int, part: int, what: str) -> int:
    if whole % part:
        raise CheckpointError(f"open_clip can't express {what}: {part} doesn't divide {whole}")
    return whole // part
