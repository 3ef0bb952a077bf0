"""Options of open_clip's JSON that no tower reads."""

import warnings
from typing import Any

from diptych.errors import AssumptionWarning, CheckpointError

_HARMLESS = {
    "output_tokens",
    "attn_pooler_queries",
    "attn_pooler_heads",
    "eos_id",
    "pad_id",
    "timm_model_pretrained",
    "timm_drop",
    "timm_drop_path",
    "patch_dropout",
    "hf_model_pretrained",
    "init_logit_scale",
    "nonscalar_logit_scale",
    "custom_text",
    "output_dict",
    "fusedLN",
    "xattn",
}
"""Training, loading and output options, and kernels: they don't change the features."""
_ONLY = {
    "pool_type": ("tok", "argmax"),
    "proj_type": ("linear",),
    "timm_proj": ("linear",),
    "pos_embed_type": ("learnable", "sin_cos_2d"),
    "block_type": ("default",),
}
"""Options of which our towers have one value; every other option must be off."""


def refuse_rest(cfg: dict[str, Any], section: str) -> None:
    """Raises CheckpointError for an option of what is left of a `section` that would change the
    vectors."""
    for name, value in cfg.items():
        if value and name not in _HARMLESS and value not in _ONLY.get(name, ()):
            raise CheckpointError(f"{section}.{name} = {value!r} has no place in a Diptych model")


def take_untied(cfg: dict[str, Any]) -> None:
    """Take `tie_lm_head` out of the `multimodal_cfg` of a model of which open_clip doesn't read it,
    with an AssumptionWarning where it is set: `lm_head` and the words' table are two matrices."""
    if cfg.pop("tie_lm_head", False):
        warnings.warn(
            "multimodal_cfg.tie_lm_head counts in a MaMMUT of modern texts alone, in open_clip, "
            "too: here lm_head and the words' table are two matrices",
            AssumptionWarning,
            stacklevel=2,
        )
