"""GenLIP's image towers in open_clip, whose `vision_cfg` then has a section of their own.

https://github.com/mlfoundations/open_clip, src/open_clip/naflex_genlip_model.py
"""

from collections.abc import Collection
from dataclasses import fields
from typing import Any, Literal

from diptych.config import Activation
from diptych.config.serialize import read_as
from diptych.errors import CheckpointError
from diptych.families.clip.layouts.open_clip_options import refuse_rest
from diptych.families.clip.layouts.towers import OpenClipTower
from diptych.families.genlip.config import GenlipImageConfig, GenlipNaflexConfig, GenlipSizes
from diptych.weights.kernels import FROM_MATRIX, READ_KERNEL
from diptych.weights.mapping import SAME, Change, Rule, rows

SECTION, OF_PATCHES = "genlip_cfg", "genlip_naflex"
MARK = "trunk.layers.0.self_attn.k_proj.weight"
_VISUAL = "visual."
_NORMS: dict[str, Literal["layer", "rms"]] = {"layernorm": "layer", "rmsnorm": "rms"}
_WORDS: dict[str, tuple[str, Any]] = {  # ours: open_clip's, and its default
    "width": ("width", 1152),
    "layers": ("depth", 27),
    "heads": ("num_heads", 16),
    "mlp_width": ("intermediate_size", 3072),
    "activation": ("hidden_act", "silu"),
    "gated_mlp": ("use_swiglu_ffn", True),
    "gated_attention": ("gated_attention", True),
    "qk_norm": ("qk_norm", False),
    "rotary_sections": ("mrope_section", (12, 12, 12)),
    "rotary_theta": ("rope_theta", 10000.0),
    "norm_eps": ("layer_norm_eps", 1e-6),
    "attention_bias": ("attention_bias", False),
    "mlp_bias": ("mlp_bias", False),
}
_LEAST_SCALE = 1e-6
"""A factor on branches of no more than this is none, in open_clip."""
_UNREAD = (
    "text_embed_dim",
    "drop_path_rate",
    "max_position_embeddings",
    "pack_prefix",
    "mrope_interleaved",
)
"""Of the section: what concerns texts, or training. The last one is checked before."""
_OF_VISION = {"patch_bias": ("proj_bias", True), "pre_norm": ("pre_norm", False)}


def tower_rules(prefix: str, change: Change = READ_KERNEL) -> tuple[Rule, ...]:
    """The tower whose names begin with `prefix`; `change`: of the patches' kernel."""
    return (
        *rows(
            "image.",
            prefix,
            ("patch.weight", "patch_embed.proj.weight", change),
            ("patch.bias", "patch_embed.proj.bias"),
            ("norm_input.*", "patch_embed.norm_input.*"),
            ("norm_pre.*", "patch_embed.norm_pre.*"),
            ("norm_post.*", "trunk.ln_post.*"),
            ("projection.*", "proj.*"),
        ),
        Rule("image.blocks.#.*", f"{prefix}trunk.layers.#.*"),
    )


def _fits(names: Collection[str]) -> bool:
    return f"{_VISUAL}{MARK}" in names


def _read(kind: type[GenlipSizes], cfg: dict[str, Any]) -> GenlipSizes | None:
    """The tower of a `vision_cfg`, if it is of this kind."""
    if SECTION not in cfg or cfg.get(OF_PATCHES, True) != kind.native:
        return None
    pool = cfg.pop("pool_type", "avg")
    if pool != "avg" or cfg.pop("in_chans", 3) != 3:
        raise CheckpointError(
            f"vision_cfg: a GenLIP tower's pool_type is 'avg', its in_chans 3; here is {pool!r}"
        )
    cfg.pop(OF_PATCHES, None)
    section = dict(read_as(dict[str, Any], cfg.pop(SECTION), f"vision_cfg.{SECTION}"))
    return read_tower(kind, cfg, section)


def read_tower(
    kind: type[GenlipSizes], vision: dict[str, Any], section: dict[str, Any]
) -> GenlipSizes:
    """The tower of a `vision_cfg` and a `genlip_cfg`, whose options are taken out of them. Raises
    CheckpointError for one that ours isn't."""
    if not section.get("mrope_interleaved", True):
        raise CheckpointError(
            f"{SECTION}.mrope_interleaved = False has no place in a Diptych model: its patches "
            "would have no positions"
        )
    said = {ours: section.pop(word, default) for ours, (word, default) in _WORDS.items()}
    said |= {ours: vision.pop(word, default) for ours, (word, default) in _OF_VISION.items()}
    norm, scale = section.pop("norm_type", "layernorm"), section.pop("ls_init_value", 0.1)
    if norm not in _NORMS:
        raise CheckpointError(f"{SECTION}.norm_type = {norm!r} has no place in a Diptych model")
    said["rotary_sections"] = tuple(said["rotary_sections"])
    if kind.native:
        said["input_norm"] = vision.pop("input_norm", False)
    refuse_rest({word: v for word, v in section.items() if word not in _UNREAD}, SECTION)
    return kind(
        image_size=vision.pop("image_size", 256 if kind.native else 224),
        patch_size=vision.pop("patch_size", 16),
        norm=_NORMS[norm],
        layer_scale=scale if scale and scale > _LEAST_SCALE else None,
        **said,
    )


def write_tower(image: GenlipSizes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its `vision_cfg` and its `genlip_cfg`.

    >>> from diptych.families.genlip import GenlipImageConfig
    >>> from diptych.families.genlip.layouts.open_clip import write_tower
    >>> write_tower(GenlipImageConfig())[1]["depth"]
    27
    """
    values = {field.name: getattr(image, field.name) for field in fields(image)}
    section = {word: values[ours] for ours, (word, _) in _WORDS.items()}
    section |= {
        "mrope_section": list(image.rotary_sections),
        "norm_type": next(theirs for theirs, ours in _NORMS.items() if ours == image.norm),
        "ls_init_value": image.layer_scale,
    }
    vision = {"image_size": image.image_size, "patch_size": image.patch_size}
    vision |= {word: values[ours] for ours, (word, _) in _OF_VISION.items()}
    return vision | ({"input_norm": True} if values.get("input_norm") else {}), section


def _write(image: GenlipSizes) -> dict[str, Any]:
    vision, section = write_tower(image)
    kind = {} if image.native else {OF_PATCHES: False}
    return vision | {"pool_type": "avg"} | kind | {SECTION: section}


def _pictures(image: GenlipSizes) -> dict[str, Any]:
    return {"resize": "native", "patch_size": image.patch_size} if image.native else {}


def _tower(kind: type[GenlipSizes], change: Change) -> OpenClipTower:
    def read(cfg: dict[str, Any], activation: Activation) -> GenlipSizes | None:
        return _read(kind, cfg)

    written = tower_rules(_VISUAL, change)
    return OpenClipTower(
        kind=kind,
        marks=(f"{_VISUAL}{MARK}",),
        fits=_fits,
        rules=lambda names: tower_rules(_VISUAL),
        export_rules=lambda image: written,
        read=read,
        write=_write,
        pictures=_pictures,
        custom_text=lambda image: True,
    )


TOWERS = (_tower(GenlipNaflexConfig, FROM_MATRIX), _tower(GenlipImageConfig, SAME))
