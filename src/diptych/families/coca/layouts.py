"""CoCa in open_clip's layout.

https://github.com/mlfoundations/open_clip, src/open_clip/coca_model.py
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from diptych.config import Activation, TowerConfig
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import openai
from diptych.families.clip.layouts.open_clip_options import take_untied
from diptych.families.clip.layouts.towers import (
    OpenClipTower,
    layout_of,
    read_vit_fields,
    take_text,
    write_text,
    write_vit_fields,
)
from diptych.families.coca.config import (
    Coca2ImageConfig,
    CocaDecoderConfig,
    CocaImageConfig,
    CocaNaflexConfig,
    CocaTextConfig,
    PooledVitConfig,
)
from diptych.families.timm import NaflexVitConfig
from diptych.weights.mapping import TRANSPOSED, Rule, rows

_QUERY, _CONTRAST, _CLASS, _WORDS = (
    "visual.attn_pool.query",
    "visual.attn_pool_contrastive.query",
    "text.cls_emb",
    "text_decoder.text_projection",
)
_CONTRAST_BESIDE, _TIMM = "attn_pool_contrastive.query", "timm_model_name"
_POOL = (
    ("query", "query"),
    ("norm_query.*", "ln_q.*"),
    ("norm_keys.*", "ln_k.*"),
    ("attention.*", "attn.*"),
)
_IMAGE = (*openai.VIT, *rows("image.pool.", "visual.attn_pool.", *_POOL))
_IMAGE_2 = (
    *openai.VIT,
    *rows("image.pools.captions.", "visual.attn_pool.", *_POOL),
    *rows("image.pools.contrast.", "visual.attn_pool_contrastive.", *_POOL),
)
_IMAGE_NAFLEX = (
    Rule("image.trunk.trunk.*", "visual.trunk.*"),
    Rule("image.norm_post.*", "pool_norm.*"),
    *rows("image.pools.captions.", "attn_pool.", *_POOL),
    *rows("image.pools.contrast.", "attn_pool_contrastive.", *_POOL),
)
"""Of timm's trunk the pools stand beside it, in the model."""
_TEXT = (Rule("text.class_token", _CLASS), *openai.text("text."))
_DECODER = (
    *rows(
        "decoder.",
        "text_decoder.",
        ("norm_post.*", "ln_final.*"),
        ("projection.weight", "text_projection", TRANSPOSED),
    ),
    *rows("decoder.blocks.#.", "text_decoder.resblocks.#.", *openai.BLOCK),
    *rows(
        "decoder.readers.#.",
        "text_decoder.cross_attn.#.",
        ("norm_1.*", "ln_1.*"),
        ("norm_keys.*", "ln_1_kv.*"),
        ("qkv.*", "attn.in_proj_*"),
        ("out.*", "attn.out_proj.*"),
        ("norm_2.*", "ln_2.*"),
        ("mlp.up.*", "mlp.c_fc.*"),
        ("mlp.down.*", "mlp.c_proj.*"),
    ),
)


def _take_pools(cfg: dict[str, Any], activation: Activation) -> dict[str, Any]:
    """What both kinds of image towers have, taken out of a `vision_cfg`."""
    del cfg["attentional_pool"]
    return read_vit_fields(cfg, activation) | {
        "queries": cfg.pop("attn_pooler_queries", 256),
        "pool_heads": cfg.pop("attn_pooler_heads", 8),
    }


def _read_image(cfg: dict[str, Any], activation: Activation) -> CocaImageConfig | None:
    if cfg.get("attentional_pool") is not True or cfg.get(_TIMM):
        return None
    return CocaImageConfig(**_take_pools(cfg, activation))


def _read_image_2(cfg: dict[str, Any], activation: Activation) -> Coca2ImageConfig | None:
    pools = cfg.get("attentional_pool")
    if pools not in ("cascade", "parallel") or cfg.get(_TIMM):
        return None
    return Coca2ImageConfig(**_take_pools(cfg, activation), pools=pools)


def _read_naflex(cfg: dict[str, Any], activation: Activation) -> CocaNaflexConfig | None:
    """As timm's, with pools."""
    pools = cfg.get("attentional_pool")
    if not pools or not cfg.get(_TIMM):
        return None
    name = cfg[_TIMM]
    queries, heads = cfg.pop("attn_pooler_queries", 256), cfg.pop("attn_pooler_heads", 8)
    del cfg["attentional_pool"]
    trunk = layout_of(NaflexVitConfig).read(cfg, activation)
    if not isinstance(trunk, NaflexVitConfig) or pools not in ("cascade", "parallel"):
        raise CheckpointError(
            f"timm's {name} with attentional_pool {pools!r} has no place in a Diptych model: of "
            "timm's towers CoCa's pools, 'cascade' or 'parallel', read those for pictures of their "
            "own aspect"
        )
    return CocaNaflexConfig(
        trunk=replace(trunk, reads_out=False), queries=queries, pool_heads=heads, pools=pools
    )


def _write_naflex(image: CocaNaflexConfig) -> dict[str, Any]:
    written = layout_of(NaflexVitConfig).write(replace(image.trunk, reads_out=True))
    pools = {"attn_pooler_queries": image.queries, "attn_pooler_heads": image.pool_heads}
    return written | {"attentional_pool": image.pools, "output_tokens": True} | pools


def _write_one_pool(image: CocaImageConfig) -> dict[str, Any]:
    return _write_pools(image, True)


def _write_two_pools(image: Coca2ImageConfig) -> dict[str, Any]:
    return _write_pools(image, image.pools)


def _write_pools(image: PooledVitConfig, pools: bool | str) -> dict[str, Any]:
    pool = {"attn_pooler_queries": image.queries, "attn_pooler_heads": image.pool_heads}
    return write_vit_fields(image) | {"attentional_pool": pools, "output_tokens": True} | pool


def _read_text(cfg: dict[str, Any], activation: Activation) -> CocaTextConfig | None:
    if not cfg.get("embed_cls"):
        return None
    del cfg["embed_cls"]
    exact = cfg.pop("correct_cls_mask", False)
    return CocaTextConfig(
        **take_text(cfg, activation), pad_id=cfg.pop("pad_id", 0), exact_padding=exact
    )


def _write_text(text: CocaTextConfig) -> dict[str, Any]:
    padding: dict[str, Any] = {"pad_id": text.pad_id} if text.pad_id else {}
    padding |= {"correct_cls_mask": True} if text.exact_padding else {}
    return write_text(text) | {"embed_cls": True, "output_tokens": True} | padding


def _read_decoder(cfg: dict[str, Any], activation: Activation) -> CocaDecoderConfig:
    # Options that its code doesn't read; the perceptrons are always four times as wide.
    for name in ("mlp_ratio", "dim_head", "n_queries", "attn_pooler_heads"):
        cfg.pop(name, None)
    take_untied(cfg)
    width = cfg.pop("width", 512)
    return CocaDecoderConfig(
        context_length=cfg.pop("context_length", 77),
        vocab_size=cfg.pop("vocab_size", 49408),
        width=width,
        layers=cfg.pop("layers", 12),
        heads=cfg.pop("heads", 8),
        mlp_width=4 * width,
        activation=activation,
    )


def _write_decoder(decoder: CocaDecoderConfig) -> dict[str, Any]:
    if decoder.mlp_width != 4 * decoder.width or decoder.norm_eps != 1e-5:
        raise CheckpointError(
            "open_clip's decoder has perceptrons four times as wide as its tokens, and norms with "
            f"an epsilon of 1e-5; this one {decoder.mlp_width} of {decoder.width}, and "
            f"{decoder.norm_eps}"
        )
    return {
        "context_length": decoder.context_length,
        "vocab_size": decoder.vocab_size,
        "width": decoder.width,
        "heads": decoder.heads,
        "layers": decoder.layers,
    }


def _has_one_pool(names: Collection[str]) -> bool:
    return _QUERY in names and _CONTRAST not in names


def _part(
    kind: type[TowerConfig],
    mark: str,
    rules: tuple[Rule, ...],
    read: Callable[[dict[str, Any], Activation], TowerConfig | None],
    write: Callable[[Any], dict[str, Any]],
) -> OpenClipTower:
    """A part of which one name, `mark`, tells, and which has the same rules whatever its sizes."""
    return OpenClipTower(
        kind=kind,
        marks=(mark,),
        fits=lambda names: mark in names,
        rules=lambda names: rules,
        export_rules=lambda config: rules,
        read=read,
        write=write,
        activation=lambda config: config.activation,
        custom_text=lambda config: True,
    )


TOWERS = (
    replace(
        _part(CocaImageConfig, _QUERY, _IMAGE, _read_image, _write_one_pool), fits=_has_one_pool
    ),
    _part(Coca2ImageConfig, _CONTRAST, _IMAGE_2, _read_image_2, _write_two_pools),
    OpenClipTower(
        kind=CocaNaflexConfig,
        marks=(_CONTRAST_BESIDE,),
        fits=lambda names: _CONTRAST_BESIDE in names,
        rules=lambda names: _IMAGE_NAFLEX,
        export_rules=lambda config: _IMAGE_NAFLEX,
        read=_read_naflex,
        write=_write_naflex,
        pictures=lambda image: {"resize": "native", "patch_size": image.trunk.patch_size},
        custom_text=lambda config: True,
    ),
    _part(CocaTextConfig, _CLASS, _TEXT, _read_text, _write_text),
    _part(CocaDecoderConfig, _WORDS, _DECODER, _read_decoder, _write_decoder),
)
