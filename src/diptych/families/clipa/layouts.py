"""open_clip's options of CLIPA's text tower, whose weights have the names of CLIP's.

https://github.com/mlfoundations/open_clip, model_configs/ViT-L-14-CLIPA.json
"""

from typing import Any

from diptych.config import Activation
from diptych.families.clip.layouts import openai
from diptych.families.clip.layouts.towers import OpenClipTower, take_text, write_text
from diptych.families.clipa.config import ClipaTextConfig

_OPTIONS = {"no_causal_mask": True, "pool_type": "last"}


def _read(cfg: dict[str, Any], activation: Activation) -> ClipaTextConfig | None:
    """None for a projection with a bias, or none: that is SigLIP's."""
    plain = cfg.get("proj_type", "linear") == "linear" and not cfg.get("proj_bias")
    if not plain or any(cfg.get(name) != value for name, value in _OPTIONS.items()):
        return None
    for name in _OPTIONS:
        del cfg[name]
    return ClipaTextConfig(**take_text(cfg, activation))


OPEN_CLIP = (
    OpenClipTower(
        kind=ClipaTextConfig,
        marks=(),
        fits=lambda names: False,  # no name tells it from CLIP's, and they mean the same
        rules=lambda names: (),
        export_rules=lambda config: openai.text(""),
        read=_read,
        write=lambda text: write_text(text) | _OPTIONS,
        activation=lambda config: config.activation,
    ),
)
