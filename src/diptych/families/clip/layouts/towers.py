"""How open_clip has a kind of tower: its weights' names, and its part of the configuration.

https://github.com/mlfoundations/open_clip
"""

import functools
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from diptych.config import Activation, TokenizerConfig, TowerConfig
from diptych.config.serialize import read_as
from diptych.errors import CheckpointError
from diptych.families import families
from diptych.families.clip.config import (
    ResNetConfig,
    TextConfig,
    TransformerTextConfig,
    VitConfig,
)
from diptych.families.clip.layouts import openai
from diptych.nn.block import TransformerSizes
from diptych.weights.mapping import Rule

_SCALE = "ls_init_value"
"""What branches of blocks are scaled by at first."""


@dataclass(frozen=True, kw_only=True)
class OpenClipTower:
    """One kind of tower, or of decoder, in open_clip's layout; a family has one for each
    (`Family.open_clip`)."""

    kind: type[TowerConfig]
    """The configuration that it is here."""
    marks: tuple[str, ...]
    """Names of which one tells such a tower in a file."""
    fits: Callable[[Collection[str]], bool]
    """Whether a model with these names has such a tower."""
    rules: Callable[[Collection[str]], tuple[Rule, ...]]
    """The tower of a checkpoint with these names."""
    export_rules: Callable[[Any], tuple[Rule, ...]]
    """The tower of this configuration."""
    read: Callable[[dict[str, Any], Activation], TowerConfig | None]
    """The tower that a `vision_cfg`, `text_cfg` or `multimodal_cfg` means, whose options are taken
    out of it; None: another kind of tower. Raises CheckpointError for one that ours isn't."""
    write: Callable[[Any], dict[str, Any]]
    """Its `vision_cfg`, `text_cfg` or `multimodal_cfg`. Raises CheckpointError for what open_clip
    can't build."""
    activation: Callable[[Any], Activation | None] = lambda config: None
    """Its activation, where open_clip lets one choose; both towers must have the same."""
    ignored: tuple[str, ...] = ()
    """Names in files that carry nothing."""
    pictures: Callable[[Any], dict[str, Any]] = lambda config: {}
    """Fields of a `PreprocessConfig` that every tower of this kind has, whatever is said."""
    inferable: bool = True
    """Whether its configuration can be inferred from the shapes of its weights."""
    tokenizers: Mapping[str, TokenizerConfig] = field(default_factory=dict)
    """Tokenizers of open_clip's own for such a text tower, by the `hf_tokenizer_name` and
    `tokenizer_mode` that ask for them."""
    custom_text: Callable[[Any], bool] = lambda config: False
    """Whether open_clip builds a model with such a tower as its `CustomTextCLIP`, with `text.`
    before the text tower's names."""
    token_width: Callable[[Any], int] = lambda config: config.width
    """How wide an image tower's tokens are, which captions read."""
    one_section: bool = False
    """Whether text tower and decoder are one in open_clip: its `multimodal_cfg` without a
    `text_cfg` is both's. `read` and `write` find in it, and put there, the `vision_cfg`'s options
    that matter to them; its `width` is then that of the image tower's tokens."""
    modern: Callable[[dict[str, Any]], dict[str, Any]] = lambda model: model
    """A `model_cfg` of an older program in today's words; others as they are. Raises
    CheckpointError for one that ours isn't."""


def take_norm_eps(cfg: dict[str, Any]) -> float:
    """The layer norms' epsilon, taken out of `cfg`. Raises CheckpointError for other options."""
    norm = dict(cfg.pop("norm_kwargs", None) or {})
    eps = norm.pop("eps", 1e-5)
    for name, value in norm.items():
        if value:
            raise CheckpointError(f"norm_kwargs.{name} = {value!r} has no place in a Diptych model")
    return eps


def norm_json(eps: float) -> dict[str, Any]:
    """`norm_kwargs` where they aren't the default."""
    return {} if eps == 1e-5 else {"norm_kwargs": {"eps": eps}}


def take_activation(cfg: dict[str, Any], activation: Activation) -> Activation:
    """The tower's, by the options of GELU, which are taken out of `cfg`, too: else the model's
    `activation`. Raises CheckpointError for other options."""
    options = dict(cfg.pop("act_kwargs", None) or {})
    approximate = options.pop("approximate", "none")
    if options or approximate not in ("none", "tanh"):
        raise CheckpointError(
            f"act_kwargs {options or approximate} have no place in a Diptych model"
        )
    if approximate == "tanh" and activation == "quick_gelu":
        raise CheckpointError("quick_gelu has no approximation by tanh")
    return "gelu_tanh" if approximate == "tanh" else activation


def activation_json(activation: Activation) -> dict[str, Any]:
    """`act_kwargs` where they aren't the default."""
    return {"act_kwargs": {"approximate": "tanh"}} if activation == "gelu_tanh" else {}


def mlp_ratio(width: int, mlp_width: int) -> float:
    """The quotient from which `int(width * ratio)` makes the hidden width again."""
    ratio = mlp_width / width
    return ratio if int(width * ratio) == mlp_width else math.nextafter(ratio, math.inf)


_MEANS: dict[str, Literal["patches", "all"]] = {"avg": "patches", "avg_all": "all"}
"""Of `pool_type`, and what `VitConfig.pool` calls them."""


def _take_pool(cfg: dict[str, Any]) -> Literal["cls", "patches", "all"]:
    """Of a `vision_cfg`. Raises CheckpointError for others than ours."""
    pool, normed = cfg.pop("pool_type", "tok"), cfg.pop("final_ln_after_pool", False)
    if pool == "tok":  # one token's norm is the same before and behind
        return "cls"
    if pool not in _MEANS or not normed:
        raise CheckpointError(
            f"vision_cfg.pool_type {pool!r} has no place in a Diptych model"
            + (" unless final_ln_after_pool is true" if pool in _MEANS else "")
        )
    return _MEANS[pool]


def read_vit_fields(cfg: dict[str, Any], activation: Activation) -> dict[str, Any]:
    """What every vision transformer of open_clip's own has, taken out of a `vision_cfg`."""
    width = cfg.pop("width", 768)
    return {
        "image_size": cfg.pop("image_size", 224),
        "patch_size": cfg.pop("patch_size", 16),
        "width": width,
        "layers": cfg.pop("layers", 12),
        "heads": width // cfg.pop("head_width", 64),
        "mlp_width": int(width * cfg.pop("mlp_ratio", 4.0)),
        "activation": take_activation(cfg, activation),
        "pre_norm": not cfg.pop("no_ln_pre", False),
        "norm_eps": take_norm_eps(cfg),
    }


def _read_vit(cfg: dict[str, Any], activation: Activation) -> VitConfig:
    pool = _take_pool(cfg)
    scale = cfg.pop(_SCALE, None)
    return VitConfig(**read_vit_fields(cfg, activation), pool=pool, layer_scale=scale)


@runtime_checkable
class VitSizes(TransformerSizes, Protocol):
    """What configurations of vision transformers have in common."""

    @property
    def image_size(self) -> int: ...
    @property
    def patch_size(self) -> int: ...
    @property
    def pre_norm(self) -> bool: ...


def write_vit_fields(image: VitSizes) -> dict[str, Any]:
    """What a `vision_cfg` has of every vision transformer."""
    cfg = {
        "image_size": image.image_size,
        "layers": image.layers,
        "width": image.width,
        "head_width": image.width // image.heads,
        "patch_size": image.patch_size,
        "mlp_ratio": mlp_ratio(image.width, image.mlp_width),
    }
    cfg |= {} if image.pre_norm else {"no_ln_pre": True}
    return cfg | norm_json(image.norm_eps) | activation_json(image.activation)


def _write_vit(image: VitConfig) -> dict[str, Any]:
    if image.pool == "mean" or image.stem_widths:
        raise CheckpointError(
            "open_clip's vision transformer has neither a convolutional stem nor our mean pooling"
        )
    means = {ours: theirs for theirs, ours in _MEANS.items()}
    pool = means.get(image.pool)
    read = {} if pool is None else {"pool_type": pool, "final_ln_after_pool": True}
    return write_vit_fields(image) | read | _scale_json(image.layer_scale)


def _read_resnet(cfg: dict[str, Any], activation: Activation) -> ResNetConfig | None:
    if not isinstance(cfg.get("layers"), list):
        return None
    layers = read_as(tuple[int, int, int, int], cfg.pop("layers"), "vision_cfg.layers")
    width = cfg.pop("width", 768)
    for name in ("patch_size", "mlp_ratio", "no_ln_pre"):
        cfg.pop(name, None)
    take_norm_eps(cfg)
    return ResNetConfig(
        image_size=cfg.pop("image_size", 224),
        layers=layers,
        width=width,
        heads=width * 32 // cfg.pop("head_width", 64),
    )


def _write_resnet(image: ResNetConfig) -> dict[str, Any]:
    sizes = {"image_size": image.image_size, "layers": list(image.layers), "width": image.width}
    return sizes | {"head_width": image.width * 32 // image.heads, "patch_size": None}


def take_text(cfg: dict[str, Any], activation: Activation) -> dict[str, Any]:
    """What every text transformer has, taken out of a `text_cfg`: fields of a
    `TransformerTextConfig`."""
    width = cfg.pop("width", 512)
    return {
        "context_length": cfg.pop("context_length", 77),
        "vocab_size": cfg.pop("vocab_size", 49408),
        "width": width,
        "layers": cfg.pop("layers", 12),
        "heads": cfg.pop("heads", 8),
        "mlp_width": int(width * cfg.pop("mlp_ratio", 4.0)),
        "activation": take_activation(cfg, activation),
        "norm_eps": take_norm_eps(cfg),
    }


def _read_text(cfg: dict[str, Any], activation: Activation) -> TextConfig:
    end = None
    if cfg.get("pool_type") == "eos":
        del cfg["pool_type"]
        end = cfg.pop("eos_id", 2)
    scale = cfg.pop(_SCALE, None)
    return TextConfig(**take_text(cfg, activation), end_id=end, layer_scale=scale)


def _write_text(text: TextConfig) -> dict[str, Any]:
    end = {} if text.end_id is None else {"pool_type": "eos", "eos_id": text.end_id}
    return write_text(text) | end | _scale_json(text.layer_scale)


def _scale_json(layer_scale: float | None) -> dict[str, Any]:
    return {} if layer_scale is None else {_SCALE: layer_scale}


def write_text(text: TransformerTextConfig) -> dict[str, Any]:
    """What a `text_cfg` has of every text transformer."""
    sizes = {
        "context_length": text.context_length,
        "vocab_size": text.vocab_size,
        "width": text.width,
        "heads": text.heads,
        "layers": text.layers,
        "mlp_ratio": mlp_ratio(text.width, text.mlp_width),
    }
    return sizes | norm_json(text.norm_eps) | activation_json(text.activation)


def _text_rules(names: Collection[str]) -> tuple[Rule, ...]:
    return openai.text("text." if "text.token_embedding.weight" in names else "")


RESNET = OpenClipTower(
    kind=ResNetConfig,
    marks=("visual.conv1.weight",),
    fits=lambda names: "visual.layer1.0.conv1.weight" in names,
    rules=lambda names: openai.RESNET,
    export_rules=lambda config: openai.RESNET,
    read=_read_resnet,
    write=_write_resnet,
)
VIT = OpenClipTower(
    kind=VitConfig,
    marks=("visual.conv1.weight",),
    fits=lambda names: True,
    rules=lambda names: openai.VIT,
    export_rules=lambda config: openai.VIT,
    read=_read_vit,
    write=_write_vit,
    activation=lambda config: config.activation,
)
TEXT = OpenClipTower(
    kind=TextConfig,
    marks=("token_embedding.weight", "text.token_embedding.weight"),
    fits=lambda names: bool({"token_embedding.weight", "text.token_embedding.weight"} & set(names)),
    rules=_text_rules,
    export_rules=lambda config: openai.text(""),
    read=_read_text,
    write=_write_text,
    activation=lambda config: config.activation,
)
TOWERS = (RESNET, VIT, TEXT)
"""CLIP's own; the vision transformer is what an image tower is that no other kind fits."""


@functools.cache
def open_clip_towers() -> tuple[OpenClipTower, ...]:
    """All families' kinds of towers: what has a mark of the whole model comes first, and CLIP's own
    last, for they are what is left."""
    found: list[OpenClipTower] = []
    for family in families():
        found += family.part(family.open_clip)
    return tuple(sorted(found, key=lambda tower: (tower in TOWERS, not tower.one_section)))


def layout_of(kind: type[TowerConfig]) -> OpenClipTower:
    """Of just this kind of tower, which another one is made of."""
    return next(tower for tower in open_clip_towers() if tower.kind is kind)
