"""MaMMUT in open_clip's layout, and in that of LAION's fork, on which the published models were
trained: https://github.com/mlfoundations/open_clip, src/open_clip/mammut_model.py;
https://github.com/LAION-AI/open_clip_mammut.

In both, text tower and decoder are one: `multimodal_cfg` without a `text_cfg`, or in the fork a
`text_cfg` with `does_full_decoding`. What maps to the vocabulary is `text.lm_head` in the one and
`text.text_projection` in the other, whose texts have no projection.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from diptych.config import Activation, ClipConfig
from diptych.errors import CheckpointError
from diptych.families.clip.config import VitConfig
from diptych.families.clip.layouts import openai
from diptych.families.clip.layouts.open_clip_config import model_json
from diptych.families.clip.layouts.open_clip_options import take_untied
from diptych.families.clip.layouts.towers import OpenClipTower, take_text, write_text
from diptych.families.mammut.config import MammutDecoderConfig, MammutTextConfig
from diptych.weights.mapping import TRANSPOSED, Rule, rows

PICTURES, WORDS = "map_viz2txt_kv", "text.lm_head"
"""What tells a MaMMUT, and what tells open_clip's own layout from the fork's."""
_FORK_WORDS = "text.text_projection"
_FORK = "does_full_decoding"
_LEGACY = {"pool_type": "avg_all", "use_pad_mask": False, "proj_type": "none"}
"""What the fork's models are, in open_clip's words."""

_TEXT = (
    *rows(
        "text.",
        "text.",
        ("tokens.weight", "token_embedding.weight"),
        ("positions", "positional_embedding"),
        ("norm_post.*", "ln_final.*"),
    ),
    *rows("text.blocks.#.", "text.resblocks.#.", *openai.BLOCK),
)
_PROJECTION = Rule("text.projection.weight", "text.text_projection", TRANSPOSED)
_DECODER = (
    Rule("decoder.pictures.weight", PICTURES, TRANSPOSED),
    *rows(
        "decoder.readers.#.",
        "text.cross_attn.#.",
        ("norm_1.*", "ln_1.*"),
        ("norm_keys.*", "ln_1_kv.*"),
        ("qkv.*", "attn.in_proj_*"),
        ("out.*", "attn.out_proj.*"),
        ("norm_2.*", "ln_2.*"),
        ("mlp.up.*", "mlp.c_fc.*"),
        ("mlp.down.*", "mlp.c_proj.*"),
    ),
)
_PASSED_OVER = (
    *("bos_id", "eos_id", "variable_text"),
    *("output_tokens", "dim_head", "n_queries", "attn_pooler_heads", "tie_lm_head"),
)
"""The tokenizer's and the loader's; and what is for CoCa's decoder."""


def is_fork(names: Collection[str]) -> bool:
    """Whether these are names of a model of the fork."""
    return PICTURES in names and _FORK_WORDS in names and WORDS not in names


def text_rules(fork: bool) -> tuple[Rule, ...]:
    """The text tower's names."""
    return _TEXT if fork else (*_TEXT, _PROJECTION)


def decoder_rules(fork: bool) -> tuple[Rule, ...]:
    """The decoder's names."""
    words = Rule("decoder.projection.weight", _FORK_WORDS if fork else WORDS, TRANSPOSED)
    return (*_DECODER, words)


def modern(model: dict[str, Any]) -> dict[str, Any]:
    """The fork's `model_cfg` in open_clip's words; others as they are. Raises CheckpointError for
    one of the pull request that came before the fork."""
    text = model.get("text_cfg")
    if not isinstance(text, dict):
        return model
    said: dict[str, Any] = dict(text)
    if said.pop("is_multimodal_decoder", False):
        raise CheckpointError(
            "text_cfg.is_multimodal_decoder is of MaMMUT's first draft for open_clip, of which no "
            "weights are known; LAION's fork says does_full_decoding"
        )
    if not said.pop(_FORK, False):
        return model
    said.pop("output_tokens", None)
    rest = {name: value for name, value in model.items() if name not in ("text_cfg", "custom_text")}
    return rest | {"multimodal_cfg": _LEGACY | said}


def _take(cfg: dict[str, Any], activation: Activation) -> dict[str, Any]:
    """Everything that a `multimodal_cfg` says, taken out of it, in our words."""
    vision = cfg.pop("vision_cfg")
    for name in _PASSED_OVER:
        cfg.pop(name, None)
    pool, head = cfg.pop("pool_type", "avg"), cfg.pop("proj_type", "none")
    if pool not in ("avg", "avg_all") or head not in ("none", "linear"):
        raise CheckpointError(
            f"multimodal_cfg.pool_type {pool!r} with proj_type {head!r} has no place in a Diptych "
            "model: MaMMUT's texts are read by 'avg' or 'avg_all', with 'none' or 'linear'"
        )
    return {
        "sizes": take_text(cfg, activation),
        "pool": "real" if pool == "avg" else "all",
        "masked": cfg.pop("use_pad_mask", True),
        "projection": head == "linear",
        "pad_id": cfg.pop("pad_id", 0),
        "every": cfg.pop("cross_attn_ratio", 1),
        "lean": not cfg.pop("has_mlp", True),
        "picture_width": vision["width"],
        "pictures": "raw" if vision.get("final_ln_after_pool") else "normed",
    }


def _read_text(cfg: dict[str, Any], activation: Activation) -> MammutTextConfig:
    said = _take(cfg, activation)
    return MammutTextConfig(
        **said["sizes"],
        pad_id=said["pad_id"],
        pool=said["pool"],
        masked=said["masked"],
        projection=said["projection"],
        lean_every=said["every"] if said["lean"] else 0,
    )


def _read_decoder(cfg: dict[str, Any], activation: Activation) -> MammutDecoderConfig:
    take_untied(cfg)
    said = _take(cfg, activation)
    return MammutDecoderConfig(
        **said["sizes"],
        every=said["every"],
        picture_width=said["picture_width"],
        pictures=said["pictures"],
    )


def _write_text(text: MammutTextConfig) -> dict[str, Any]:
    cfg = write_text(text)
    cfg |= {} if text.pool == "real" else {"pool_type": "avg_all"}
    cfg |= {} if text.masked else {"use_pad_mask": False}
    cfg |= {"proj_type": "linear"} if text.projection else {}
    cfg |= {"pad_id": text.pad_id} if text.pad_id else {}
    return cfg | ({"has_mlp": False} if text.lean_every else {})


def _write_decoder(decoder: MammutDecoderConfig) -> dict[str, Any]:
    vision: dict[str, Any] = {"output_tokens": True}
    vision |= {"final_ln_after_pool": True} if decoder.pictures == "raw" else {}
    return {"cross_attn_ratio": decoder.every, "vision_cfg": vision}


def fork_json(config: ClipConfig) -> dict[str, Any]:
    """The fork's `model_cfg` of a model. Raises CheckpointError for what it can't build."""
    text, image = config.text, config.image
    if not isinstance(text, MammutTextConfig):
        raise CheckpointError(
            f"LAION's fork has MaMMUT's text tower, and this is a {type(text).__name__}"
        )
    plain = replace(text, vocab_size=49408, mlp_width=4 * text.width, norm_eps=1e-5, pad_id=0)
    legacy = replace(plain, pool="all", masked=False, projection=False)
    if text != legacy or not isinstance(image, VitConfig) or image.pool != "all":
        raise CheckpointError(
            "LAION's fork reads pictures and texts by the mean of all places, padding included, "
            "without a projection of texts, and has CLIP's vocabulary; --to open-clip keeps this "
            "model"
        )
    model = model_json(config)
    said = model.pop("multimodal_cfg")
    for name in (*_LEGACY, "mlp_ratio"):
        said.pop(name, None)
    said |= {"output_tokens": True, _FORK: True}
    return model | {"text_cfg": said, "custom_text": True}


TOWERS = (
    OpenClipTower(
        kind=MammutTextConfig,
        marks=("text.token_embedding.weight",),
        fits=lambda names: PICTURES in names,
        rules=lambda names: text_rules(is_fork(names)),
        export_rules=lambda config: text_rules(fork=False),
        read=_read_text,
        write=_write_text,
        activation=lambda config: config.activation,
        custom_text=lambda config: True,
        one_section=True,
        modern=modern,
    ),
    OpenClipTower(
        kind=MammutDecoderConfig,
        marks=(PICTURES,),
        fits=lambda names: PICTURES in names,
        rules=lambda names: decoder_rules(is_fork(names)),
        export_rules=lambda config: decoder_rules(fork=False),
        read=_read_decoder,
        write=_write_decoder,
        activation=lambda config: config.activation,
        custom_text=lambda config: True,
        one_section=True,
    ),
)
