"""open_clip's names and options of a Hugging Face text tower with a projection behind it.

https://github.com/mlfoundations/open_clip, src/open_clip/hf_model.py
"""

from dataclasses import replace
from typing import Any

from diptych.config import Activation
from diptych.errors import CheckpointError, first_line
from diptych.families.clip.layouts.towers import OpenClipTower, take_norm_eps
from diptych.families.huggingface.config import HuggingFaceTextConfig
from diptych.families.huggingface.known import KNOWN, changes, known, name_of
from diptych.families.huggingface.options import architecture, has_pooling_layer
from diptych.inputs.strangers import check_repository
from diptych.weights.mapping import Rule

_RULES = (
    Rule("text.trunk.*", "text.transformer.*"),
    Rule("text.projection.*", "text.proj.*"),
)
_MARKS = (
    "text.proj.weight",
    "text.proj.0.weight",
    "text.transformer.embeddings.word_embeddings.weight",
    "text.transformer.embed_tokens.weight",
)
_COMPUTED = ("text.*.position_ids", "text.transformer.embed_positions.weights")
"""Tables that older versions of transformers stored."""
_FIRST, _LAST_STATE = "cls_pooler", "cls_last_hidden_state_pooler"
_POOLS: dict[str, Any] = {"mean_pooler": "mean", "max_pooler": "max", _LAST_STATE: "cls"}
_POOLED_FIRST = ("bert", "m2m_100")
"""Model types whose first token open_clip takes where no pooler is named; of others the mean."""
_PROJECTIONS: dict[str | None, Any] = {"linear": "linear", "mlp": "mlp", None: "none"}
_OF_OTHER_TOWERS = ("width", "layers", "heads", "vocab_size", "mlp_ratio")


def read_text(cfg: dict[str, Any], activation: Activation) -> HuggingFaceTextConfig | None:
    """The tower that open_clip's `text_cfg` means; see `OpenClipTower.read`. The activation is that
    of CLIP's towers alone. How the trunk is built stands in `known`, or in the hub's cache."""
    name = cfg.pop("hf_model_name", None)
    # EVA-CLIP writes the two without `hf_`.
    pooler = cfg.pop("hf_pooler_type", cfg.pop("pooler_type", "mean_pooler"))
    proj = cfg.pop("hf_proj_type", cfg.pop("proj", "mlp"))
    if not name:
        return None
    for option in _OF_OTHER_TOWERS:
        cfg.pop(option, None)
    take_norm_eps(cfg)
    trunk = known(str(name)) or cached(name)
    changed = cfg.pop("hf_model_config", None) or {}
    if not isinstance(changed, dict):
        raise CheckpointError(f"text_cfg.hf_model_config is {changed!r}; it must be an object")
    return replace(
        with_head(trunk, pooler, proj),
        options=trunk.options | changed,
        context_length=cfg.pop("context_length", 77),
        variable_text=bool(cfg.pop("variable_text", False)),
    )


def with_head(
    trunk: HuggingFaceTextConfig, pooler: str | None, proj: str | None
) -> HuggingFaceTextConfig:
    """The trunk with open_clip's pooler (None: the one it takes of such a trunk) and projection.
    Raises CheckpointError for others than Diptych has."""
    if pooler is None:
        pooler = _LAST_STATE if trunk.model_type in _POOLED_FIRST else "mean_pooler"
    if proj not in _PROJECTIONS or pooler not in (*_POOLS, _FIRST):
        raise CheckpointError(
            f"a text tower with {pooler!r} and a {proj!r} projection "
            "has no place in a Diptych model"
        )
    pool = _POOLS.get(pooler) or _first(trunk.model_type)
    return replace(trunk, pool=pool, projection=_PROJECTIONS[proj])


def _first(model_type: str) -> Any:
    """What `cls_pooler` is: the pooling layer that open_clip asks transformers for, unless the
    model has none, as those of which only the encoder is left, and ModernBERT."""
    return "head" if has_pooling_layer(model_type) else "cls"


def cached(name: object) -> HuggingFaceTextConfig:
    """The trunk of this name in the hub's cache. Nothing is fetched because a file names it: raises
    CheckpointError where it isn't there."""
    name = check_repository(str(name), "configuration of the text tower")
    try:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except ImportError as error:
        raise CheckpointError(
            "Hugging Face text towers need transformers: `pip install diptych[bridges]`"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"the configuration of the text tower {name} isn't in the hub's cache "
            f"({first_line(error)}); fetch it first: hf download {name} config.json"
        ) from error
    return trunk_of(config)


def trunk_of(config: Any) -> HuggingFaceTextConfig:
    """The trunk that a configuration of transformers' describes. Raises ConfigError where that is
    none of a text model."""
    fields = architecture(config.model_type)
    return HuggingFaceTextConfig(
        model_type=config.model_type,
        options={key: value for key, value in config.to_diff_dict().items() if key in fields},
        pad_id=config.pad_token_id or 0,
    )


def write_text(text: HuggingFaceTextConfig) -> dict[str, Any]:
    """See `OpenClipTower.write`. Raises CheckpointError for a trunk whose name on the hub isn't
    known, by which open_clip builds it, and for what it hasn't behind one."""
    if text.token_width is not None:
        raise CheckpointError(
            "open_clip has no norm and matrix between a text model and its pool "
            f"(token_width {text.token_width})"
        )
    name = name_of(text)
    if not name:
        raise CheckpointError(
            "open_clip can't read a Hugging Face text tower without its name on the hub, and this "
            f"{text.model_type} is built as none that is known"
        )
    poolers = {pool: pooler for pooler, pool in _POOLS.items()}
    poolers[_first(text.model_type)] = _FIRST
    if text.pool not in poolers:
        raise CheckpointError(f"open_clip doesn't pool texts by {text.pool!r}")
    kinds = {ours: theirs for theirs, ours in _PROJECTIONS.items()}
    changed = changes(text, KNOWN[name])
    said = {} if text.context_length == 77 else {"context_length": text.context_length}
    said |= {"variable_text": True} if text.variable_text else {}
    said |= {"hf_model_config": changed} if changed else {}
    return {
        "hf_model_name": name,
        "hf_pooler_type": poolers[text.pool],
        "hf_proj_type": kinds[text.projection],
    } | said


OPEN_CLIP = (
    OpenClipTower(
        kind=HuggingFaceTextConfig,
        marks=_MARKS,
        fits=lambda names: any(mark in names for mark in _MARKS),
        rules=lambda names: _RULES,
        export_rules=lambda config: _RULES,
        read=read_text,
        write=write_text,
        ignored=_COMPUTED,
    ),
)
