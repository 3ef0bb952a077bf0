"""CLIP's vision transformer, or one of timm's, as a NaFlexVit of timm's with the same weights, for
pictures of their own aspect (NaFlex; SigLIP 2, arXiv:2502.14786, §2.4.2), as open_clip's main
branch makes it.

https://github.com/mlfoundations/open_clip, src/open_clip/naflex_convert.py
"""

# timm says no types of its own.
# pyright: reportMissingTypeStubs=false

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from diptych.config import ClipConfig, ImageTowerConfig
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip.config import VitConfig
from diptych.families.clip.layouts.open_clip_config import read_image, tower_of
from diptych.families.clip.layouts.timm import ARGUMENTS, PREFIX
from diptych.families.clip.layouts.towers import layout_of, mlp_ratio
from diptych.families.timm.config import NaflexVitConfig, TimmConfig
from diptych.families.timm.model import build_trunk
from diptych.models import Clip, Tower, build_tower
from diptych.models.shapes import shapes_only
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


_MODULES = ("vision_transformer", "eva")
"""timm's, whose models it also builds for pictures of their own aspect."""


class NotNaflexError(ConfigError, RuntimeError):
    """A tower that can't read pictures of their own aspect; open_clip raises RuntimeError."""


def as_naflex(model: Clip) -> Clip:
    """The model over pictures of their own aspect, with the same vectors of squares; the text tower
    is the same. Positions are resampled to each picture's grid. Raises NotNaflexError for an image
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
    state = model.image.state_dict()
    if isinstance(model.config.image, VitConfig):
        state = vit_state(state)
    elif isinstance(config.image, NaflexVitConfig):
        state = _timm_state(model.config.image, tower, state)
    tower.load_state_dict(state)  # another tower of ours has the same names
    tower = tower.to(dtype).train(model.image.training)
    found = Clip(config, tower, model.text, model.decoder)
    found.logit_scale, found.logit_bias = model.logit_scale, model.logit_bias
    return found.train(model.training)


def naflex_of(config: ClipConfig) -> ClipConfig:
    """The configuration of `as_naflex`, which raises as this does."""
    said, made = _made(config.image)
    size = said[ARGUMENTS]["patch_size"]
    patches = (config.image.image_size // size) ** 2
    how = replace(config.preprocess, resize="native", patches=patches, patch_size=size)
    return replace(config, image=made, preprocess=how)


def naflex_vision(image: ImageTowerConfig) -> dict[str, Any]:
    """open_clip's `vision_cfg` of the tower that `as_naflex` makes of this one. Raises
    NotNaflexError as it does."""
    return _made(image)[0]


def _made(image: ImageTowerConfig) -> tuple[dict[str, Any], ImageTowerConfig]:
    """open_clip's words for it, and what they mean here."""
    try:
        said = _of_vit(image) if isinstance(image, VitConfig) else _of_timm(image)
        return said, read_image(said)
    except CheckpointError as error:
        raise NotNaflexError(f"{_refusal(image)} ({error})") from error


def _of_vit(image: VitConfig) -> dict[str, Any]:
    if not _is_plain(image):
        raise NotNaflexError(_refusal(image))
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
    made = NaflexVitConfig(
        name="vit_base_patch16_clip_224", patch_size=image.patch_size, options=options
    )
    said = tower_of(made).write(made)
    return said | {ARGUMENTS: {**said[ARGUMENTS], "patch_size": made.patch_size}}


def _of_timm(image: ImageTowerConfig) -> dict[str, Any]:
    """Of a tower that open_clip has of timm."""
    said = tower_of(image).write(image)
    name = said.get("timm_model_name")
    if name is None or image.native or not _in_modules(name, _MODULES):
        raise NotNaflexError(_refusal(image))
    arguments = {"use_naflex": True, "img_size": said["image_size"]}
    arguments["patch_size"] = _patch_size(name)
    if said["timm_pool"] == "map" and _in_modules(name, ("eva",)):
        arguments["pool_include_prefix"] = True  # its query attends to the class token, too
    return said | {ARGUMENTS: arguments}


def _in_modules(name: str, modules: tuple[str, ...]) -> bool:
    from timm.models import is_model_in_modules

    return bool(is_model_in_modules(name, modules))


def _patch_size(name: str) -> int:
    with shapes_only():
        return int(build_trunk(TimmConfig(name=name)).patch_embed.patch_size[0])


def _is_plain(image: VitConfig) -> bool:
    known = image.activation in ("gelu", "quick_gelu") and image.norm_eps == 1e-5
    return known and image.pre_norm and image.pool == "cls" and not image.stem_widths


def _refusal(image: ImageTowerConfig) -> str:
    return (
        f"its image tower ({type(image).__name__}) can't become one for pictures of their own "
        "aspect: only standard native OpenCLIP/OpenAI ViT towers do, which are read at their class "
        "token, and timm's ViT and EVA"
    )


def vit_state(state: dict[str, Any]) -> dict[str, Any]:
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


def _timm_state(image: ImageTowerConfig, tower: Tower[Any], state: dict[str, Any]) -> Any:
    """The tower's names of such a trunk's weights."""
    rules = tower_of(image).export_rules(image)
    foreign = Table(rules=rules).to_foreign(
        {f"image.{name}": tensor for name, tensor in state.items()}
    )
    trunk: Any = tower.get_submodule("trunk")
    ours = Table(rules=layout_of(NaflexVitConfig).export_rules(tower.config)).to_ours(
        trunk_state(trunk, foreign)
    )
    return {name.removeprefix("image."): tensor for name, tensor in ours.items()}


def trunk_state(trunk: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of open_clip's whose trunk of timm's has become this NaFlexVit."""
    from timm.models.naflexvit import checkpoint_filter_fn

    # timm adds to tokens in place.
    given = {
        name.removeprefix(PREFIX): tensor.clone() if name.endswith("_token") else tensor
        for name, tensor in state.items()
        if name.startswith(PREFIX)
    }
    made: dict[str, Tensor] = checkpoint_filter_fn(given, trunk)
    others = {name: tensor for name, tensor in state.items() if not name.startswith(PREFIX)}
    return others | {f"{PREFIX}{name}": tensor for name, tensor in made.items()}
