"""CLIP's vision transformer as a NaFlexVit of timm's with the same weights, for pictures of their
own aspect (NaFlex; SigLIP 2, arXiv:2502.14786, §2.4.2), as open_clip's main branch makes it.

https://github.com/mlfoundations/open_clip, src/open_clip/naflex_convert.py
"""

from dataclasses import replace
from typing import Any

from diptych.config import ClipConfig, ImageTowerConfig
from diptych.errors import ConfigError
from diptych.families.clip.config import VitConfig
from diptych.families.clip.layouts.towers import mlp_ratio
from diptych.families.timm.config import NaflexVitConfig
from diptych.models import Clip, build_tower
from diptych.weights.mapping import Table, rows
from diptych.weights.state import State

_SAME = rows(
    "",
    "trunk.",
    ("norm_pre.*", "norm_pre.*"),
    ("norm_post.*", "norm.*"),
    ("blocks.#.norm_1.*", "blocks.#.norm1.*"),
    ("blocks.#.attention.qkv.*", "blocks.#.attn.qkv.*"),
    ("blocks.#.attention.out.*", "blocks.#.attn.proj.*"),
    ("blocks.#.norm_2.*", "blocks.#.norm2.*"),
    ("blocks.#.mlp.up.*", "blocks.#.mlp.fc1.*"),
    ("blocks.#.mlp.down.*", "blocks.#.mlp.fc2.*"),
    ("blocks.#.scale_#", "blocks.#.ls#.gamma"),
)
"""What is the same numbers there."""
_EMBEDDING = ("class_token", "positions", "patch.weight")


def as_naflex(model: Clip) -> Clip:
    """The model over pictures of their own aspect, with the same vectors of squares; the text tower
    is the same. Positions are resampled to each picture's grid. Raises ConfigError for an image
    tower that timm's can't be.

    >>> from diptych import models, pretrained
    >>> from diptych.families.timm.as_naflex import as_naflex
    >>> made = as_naflex(models.build(pretrained.get("vit-b-32"), device="meta"))
    >>> made.config.preprocess.resize, made.config.preprocess.patches
    ('native', 49)
    """
    config = naflex_of(model.config)
    dtype = next(model.image.parameters()).dtype
    tower = build_tower(config.image, config.embed_dim, next(model.image.parameters()).device)
    tower.load_state_dict(_state(model.image.state_dict()))
    tower = tower.to(dtype).train(model.image.training)
    found = Clip(config, tower, model.text, model.decoder)
    found.logit_scale, found.logit_bias = model.logit_scale, model.logit_bias
    return found.train(model.training)


def naflex_of(config: ClipConfig) -> ClipConfig:
    """The configuration of `as_naflex`."""
    image = config.image
    if not isinstance(image, VitConfig) or not _is_plain(image):
        raise ConfigError(_refusal(image))
    options: dict[str, Any] = {
        "use_naflex": True,
        "embed_dim": image.width,
        "depth": image.layers,
        "num_heads": image.heads,
        "mlp_ratio": mlp_ratio(image.width, image.mlp_width),
        "class_token": True,
        "reg_tokens": 0,
        "global_pool": "token",
        "pos_embed": "learned",
        "pos_embed_grid_size": [image.side, image.side],
        "pre_norm": True,
        "final_norm": True,
        "fc_norm": False,
    }
    options |= {"act_layer": "quick_gelu"} if image.activation == "quick_gelu" else {}
    options |= {} if image.layer_scale is None else {"init_values": image.layer_scale}
    how = replace(
        config.preprocess, resize="native", patches=image.side**2, patch_size=image.patch_size
    )
    made = NaflexVitConfig(
        name="vit_base_patch16_clip_224", patch_size=image.patch_size, options=options
    )
    return replace(config, image=made, preprocess=how)


def _is_plain(image: VitConfig) -> bool:
    known = image.activation in ("gelu", "quick_gelu") and image.norm_eps == 1e-5
    return known and image.pre_norm and image.pool == "cls" and not image.stem_widths


def _refusal(image: ImageTowerConfig) -> str:
    return (
        f"a {type(image).__name__} like this can't become a tower for pictures of their own "
        "aspect: only CLIP's plain vision transformers do, which are read at their class token"
    )


def _state(state: dict[str, Any]) -> dict[str, Any]:
    """timm's names and forms of a vision transformer's weights."""
    apart = {name: tensor for name, tensor in state.items() if name not in _EMBEDDING}
    head = apart.pop("projection.weight")
    token, positions, kernel = (state[name] for name in _EMBEDDING)
    side = round((len(positions) - 1) ** 0.5)
    return dict(Table(rules=_SAME).to_foreign(State.of(apart))) | {
        "projection.weight": head,
        # Their class token has a place of its own no more: it is added.
        "trunk.embeds.cls_token": (token + positions[0])[None, None],
        "trunk.embeds.pos_embed": positions[1:].unflatten(0, (side, side))[None],
        "trunk.embeds.proj.weight": kernel.permute(0, 2, 3, 1).flatten(1),
    }
