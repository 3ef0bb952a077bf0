"""open_clip's names and options of a Hugging Face text tower with a linear projection behind it."""

from typing import Any

from diptych.config import Activation
from diptych.errors import CheckpointError, first_line
from diptych.families.clip.layouts.towers import OpenClipTower, take_norm_eps
from diptych.families.huggingface.config import HuggingFaceTextConfig
from diptych.families.huggingface.options import architecture
from diptych.inputs.strangers import check_repository
from diptych.weights.mapping import Rule

_RULES = (
    Rule("text.trunk.*", "text.transformer.*"),
    Rule("text.projection.weight", "text.proj.weight"),
)
_POOLS: dict[str, Any] = {"mean_pooler": "mean", "cls_last_hidden_state_pooler": "cls"}
_OF_OTHER_TOWERS = ("width", "layers", "heads", "vocab_size", "mlp_ratio")


def read_text(cfg: dict[str, Any], activation: Activation) -> HuggingFaceTextConfig | None:
    """The tower that open_clip's `text_cfg` means; see `OpenClipTower.read`. The activation is that
    of CLIP's towers alone. The tower's own configuration is taken from the hub's cache."""
    name = cfg.pop("hf_model_name", None)
    # EVA-CLIP writes the two without `hf_`.
    pooler = cfg.pop("hf_pooler_type", cfg.pop("pooler_type", "mean_pooler"))
    proj = cfg.pop("hf_proj_type", cfg.pop("proj", "mlp"))
    if not name:
        return None
    for option in _OF_OTHER_TOWERS:
        cfg.pop(option, None)
    take_norm_eps(cfg)
    if proj != "linear" or pooler not in _POOLS:
        raise CheckpointError(
            f"a text tower with {pooler!r} and a {proj!r} projection "
            "has no place in a Diptych model"
        )
    config = _cached(name)
    known = architecture(config.model_type)
    return HuggingFaceTextConfig(
        model_type=config.model_type,
        options={key: value for key, value in config.to_diff_dict().items() if key in known},
        context_length=cfg.pop("context_length", 77),
        pool=_POOLS[pooler],
        pad_id=config.pad_token_id or 0,
    )


def _cached(name: object) -> Any:
    """Nothing is fetched because a file names it."""
    name = check_repository(str(name), "configuration of the text tower")
    try:
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except ImportError as error:
        raise CheckpointError(
            "Hugging Face text towers need transformers: `pip install diptych[bridges]`"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"the configuration of the text tower {name} isn't in the hub's cache "
            f"({first_line(error)}); fetch it first: hf download {name} config.json"
        ) from error


def write_text(text: HuggingFaceTextConfig) -> dict[str, Any]:
    """Raises CheckpointError: the configuration doesn't keep the model's name."""
    raise CheckpointError(
        "open_clip can't read a Hugging Face text tower without its name on the hub"
    )


OPEN_CLIP = (
    OpenClipTower(
        kind=HuggingFaceTextConfig,
        marks=("text.proj.weight",),
        fits=lambda names: "text.proj.weight" in names,
        rules=lambda names: _RULES,
        export_rules=lambda config: _RULES,
        read=read_text,
        write=write_text,
    ),
)
