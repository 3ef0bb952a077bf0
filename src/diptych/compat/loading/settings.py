"""What a `model_cfg` of open_clip's says beside what Diptych's configurations do: what is left out
in training, and what calls give."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from diptych.compat.faces.face import OpenClipModel
from diptych.compat.hf_model import HFTextEncoder
from diptych.compat.parts.text import TextTransformer
from diptych.compat.parts.vision import VisionTransformer
from diptych.compat.timm_model import TimmModel
from diptych.errors import ConfigError
from diptych.families.modern.words import is_modern
from diptych.models import Clip
from diptych.nn import PatchDropout

_OF_TOKENS = ("output_tokens", "final_ln_after_pool")
"""Whether there are any, and, where one of them is what is pooled, whether only that is normed."""
_IDS = ("pad_id", "eos_id")


def drop_patches(clip: Clip, vision_cfg: Mapping[str, Any]) -> None:
    """Leave `patch_dropout` of the patches out in training, where the tower can itself; else
    `settle` does it, or refuses."""
    share = vision_cfg.get("patch_dropout")
    if share and _drops(clip.image):
        clip.image.set_patch_dropout(share)


def _drops(tower: nn.Module) -> bool:
    return any(isinstance(module, PatchDropout) for module in tower.modules())


def asks_for_text(said: Mapping[str, Any]) -> bool | None:
    """Whether a `model_cfg` makes a `CustomTextCLIP`, or has a text tower that stands in no other
    class; None: it says nothing of texts."""
    if "text_cfg" not in said:
        return None
    text = said["text_cfg"]
    apart = text.get("hf_model_name") or text.get("embed_cls") or is_modern(text)
    return bool(said.get("custom_text") or apart)


def settle(model: OpenClipModel, said: Mapping[str, Any]) -> None:
    """Do what sections of a `model_cfg` say of the parts as they stand here: `output_tokens` (of
    open_clip's own towers and Hugging Face's), `final_ln_after_pool`, `pad_id`, `eos_id`, and
    of timm's towers `patch_dropout`, `timm_drop` and `timm_drop_path`. Raises ConfigError for the
    last three of a tower that can't."""
    vision, text = (said.get(name) or {} for name in ("vision_cfg", "text_cfg"))
    for name in _OF_TOKENS if isinstance(model.visual, VisionTransformer) else ():
        if vision.get(name):
            setattr(model.visual, name, True)
    visual, share = model.visual, vision.get("patch_dropout") or 0.0
    drop, drop_path = (vision.get(name) or 0.0 for name in ("timm_drop", "timm_drop_path"))
    if isinstance(visual, TimmModel):
        visual.set_dropout(drop, drop_path, share)
    elif vision.get("timm_model_name") and (drop or drop_path):
        raise ConfigError(
            f"timm_drop {drop} and timm_drop_path {drop_path} need timm's own modules, and this "
            "tower is Diptych's: install timm, or leave them out"
        )
    elif share and not _drops(visual):
        raise ConfigError(f"patch_dropout {share}: a {type(visual).__name__} drops no patches")
    ids = {name: text[name] for name in _IDS if text.get(name) is not None}
    if model.text_beside:
        model.text_eos_id = ids.get("eos_id", model.text_eos_id)
        return
    if isinstance(model.text, TextTransformer | HFTextEncoder) and text.get("output_tokens"):
        model.text.output_tokens = True
    for name, value in ids.items() if isinstance(model.text, TextTransformer) else ():
        setattr(model.text, name, value)
