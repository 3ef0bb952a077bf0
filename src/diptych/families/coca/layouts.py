"""CoCa in open_clip's layout.

https://github.com/mlfoundations/open_clip, src/open_clip/coca_model.py
"""

from dataclasses import replace
from typing import Any

from diptych.config import Activation
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import openai
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


TOWERS = (
    OpenClipTower(
        kind=CocaImageConfig,
        marks=(_QUERY,),
        fits=lambda names: _QUERY in names and _CONTRAST not in names,
        rules=lambda names: _IMAGE,
        export_rules=lambda config: _IMAGE,
        read=_read_image,
        write=lambda config: _write_pools(config, True),
        activation=lambda config: config.activation,
        custom_text=lambda config: True,
    ),
    OpenClipTower(
        kind=Coca2ImageConfig,
        marks=(_CONTRAST,),
        fits=lambda names: _CONTRAST in names,
        rules=lambda names: _IMAGE_2,
        export_rules=lambda config: _IMAGE_2,
        read=_read_image_2,
        write=lambda config: _write_pools(config, config.pools),
        activation=lambda config: config.activation,
        custom_text=lambda config: True,
    ),
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
    OpenClipTower(
        kind=CocaTextConfig,
        marks=(_CLASS,),
        fits=lambda names: _CLASS in names,
        rules=lambda names: _TEXT,
        export_rules=lambda config: _TEXT,
        read=_read_text,
        write=_write_text,
        activation=lambda config: config.activation,
        custom_text=lambda config: True,
    ),
    OpenClipTower(
        kind=CocaDecoderConfig,
        marks=(_WORDS,),
        fits=lambda names: _WORDS in names,
        rules=lambda names: _DECODER,
        export_rules=lambda config: _DECODER,
        read=_read_decoder,
        write=_write_decoder,
        activation=lambda config: config.activation,
        custom_text=lambda config: True,
    ),
)
