"""MobileCLIP's text towers in open_clip: CLIP's, without the causal mask. Its image towers are
timm's (`families/timm/layouts.py`).

https://github.com/mlfoundations/open_clip, model_configs/MobileCLIP-S1.json
"""

from typing import Any

from diptych.config import Activation
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import openai
from diptych.families.clip.layouts.towers import OpenClipTower, take_text, write_text
from diptych.families.mobileclip.config import MobileTextConfig

_TEXT = openai.text("text.")


def _read(cfg: dict[str, Any], activation: Activation) -> MobileTextConfig | None:
    at_end = cfg.get("pool_type", "argmax") == "argmax"
    if not cfg.get("no_causal_mask") or not at_end or cfg.get("hf_model_name"):
        return None
    del cfg["no_causal_mask"]
    return MobileTextConfig(**take_text(cfg, activation))


def _write(text: MobileTextConfig) -> dict[str, Any]:
    if text.mixer_kernel:
        raise CheckpointError(
            "open_clip's text towers have no convolutional blocks, as MobileCLIP-S0's has them; "
            "--to mobileclip writes it as Apple publishes it"
        )
    return write_text(text) | {"no_causal_mask": True}


OPEN_CLIP = (
    OpenClipTower(
        kind=MobileTextConfig,
        marks=("text.token_embedding.weight",),
        # Its names are those of CLIP's text tower, there and here: that one's rules read it.
        fits=lambda names: False,
        rules=lambda names: _TEXT,
        export_rules=lambda config: _TEXT,
        read=_read,
        write=_write,
        activation=lambda config: config.activation,
        custom_text=lambda config: True,
    ),
)
