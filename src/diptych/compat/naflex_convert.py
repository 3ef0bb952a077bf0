"""Towers of squares made such of pictures of their own aspect, in open_clip's words and names.

https://github.com/mlfoundations/open_clip, src/open_clip/naflex_convert.py
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from torch import Tensor

from diptych.compat.faces.names import VISUAL
from diptych.compat.model_traits import has_naflex_vit
from diptych.families.clip.config import VitConfig
from diptych.families.clip.layouts.open_clip_config import from_json
from diptych.families.clip.layouts.towers import layout_of
from diptych.families.timm.as_naflex import naflex_vision, trunk_state, vit_state
from diptych.weights.mapping import Table
from diptych.weights.state import State


def apply_naflex_vision_config(model_cfg: dict[str, Any]) -> None:
    """Make the `vision_cfg` one of timm's `NaFlexVit`, in place: of a plain ViT, or of timm's ViT
    and EVA. One that is such a tower stays it; all take patches of other sizes, too. Raises
    NotNaflexError, a RuntimeError, for other towers.

    >>> from diptych import compat
    >>> from diptych.compat.naflex_convert import apply_naflex_vision_config
    >>> said = compat.get_model_config("ViT-B-32")
    >>> apply_naflex_vision_config(said)
    >>> said["vision_cfg"]["timm_model_name"], said["vision_cfg"]["timm_pool"]
    ('vit_base_patch16_clip_224', 'token')
    """
    config = from_json({"model_cfg": deepcopy(model_cfg)})
    vision: dict[str, Any] = dict(model_cfg["vision_cfg"])
    arguments: dict[str, Any] = dict(vision.get("timm_model_kwargs") or {})
    if not config.image.native:
        vision = naflex_vision(config.image) | {"timm_model_pretrained": False}
        arguments = vision["timm_model_kwargs"]
        if "pos_embed_grid_size" in arguments:
            arguments["pos_embed_grid_size"] = tuple(arguments["pos_embed_grid_size"])
    arguments["enable_patch_interpolator"] = True
    model_cfg["vision_cfg"] = vision | {"timm_model_kwargs": arguments}


def convert_naflex_state_dict(model: Any, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of such a tower of squares by the names of `model`'s, which reads pictures of
    their own aspect; those of other models, and other tensors, as they are."""
    if not has_naflex_vit(model):
        return dict(state_dict)
    if "visual.conv1.weight" not in state_dict:
        return trunk_state(model.visual.trunk, state_dict)
    image = {name: each for name, each in state_dict.items() if name.startswith(VISUAL)}
    ours = Table(rules=layout_of(VitConfig).rules(image)).to_ours(image)
    state = State.of(ours).part("image.")
    made = vit_state({name: state[name] for name in state})
    head = {"visual.head.proj.weight": made.pop("projection.weight")}
    others = {name: each for name, each in state_dict.items() if name not in image}
    return others | head | {f"{VISUAL}{name}": each for name, each in made.items()}
