"""open_clip's names and options of a timm image tower with a projection behind it."""

from collections.abc import Collection
from typing import Any, Literal

from diptych.config import Activation
from diptych.config.serialize import read_as
from diptych.errors import CheckpointError
from diptych.families.clip.layouts.timm import ARGUMENTS, PREFIX
from diptych.families.clip.layouts.towers import OpenClipTower, take_norm_eps
from diptych.families.timm.config import NaflexVitConfig, TimmConfig
from diptych.families.timm.model import fixed_size, is_naflex, kept_norm, trunk_width
from diptych.families.timm.pretrained import VITAMIN
from diptych.weights.mapping import Rule

_OF_OTHER_TOWERS = ("width", "layers", "head_width", "patch_size", "mlp_ratio", "no_ln_pre")

_TRUNK = Rule("image.trunk.*", f"{PREFIX}*")
_LINEAR = (Rule("image.projection.weight", "visual.head.proj.weight"), _TRUNK)
_MLP = (
    Rule("image.projection.up.*", "visual.head.mlp.fc1.*"),
    Rule("image.projection.down.*", "visual.head.mlp.fc2.*"),
    _TRUNK,
)
CLASSIFIERS = ("head.fc", "head", "fc", "classifier")
"""What timm calls classifiers; in this order, for a head may have more parts than one."""
_MARKS = ("visual.head.proj.weight", "visual.head.mlp.fc1.weight")
_STEMS = ("patch_embed.proj", "embeds.proj", "stem.0", "stem.conv", "conv1", "conv1.0", "conv_stem")
"""What timm calls the first layer of vision transformers, ConvNeXts, ResNets, MobileNets: it tells
a trunk that nothing projects."""

_PROJECTIONS: dict[str | None, Literal["linear", "classifier", "mlp", "none"]] = {
    "linear": "linear",
    "mlp": "mlp",
    "none": "none",
    None: "classifier",
    "": "classifier",
}
"""By `timm_proj`."""
_VITAMIN = frozenset(model.architecture for model in VITAMIN)
"""Of the trunks with a projection of its own, those that open_clip's JSON has in a
`CustomTextCLIP`; ConvNeXts aren't."""
_NAFLEX, _HEAD = f"{PREFIX}embeds.proj.weight", f"{PREFIX}head.weight"
_POOLS_OF_OPEN_CLIP = ("abs_attn", "rot_attn")


def _classifier(name: str) -> tuple[Rule, ...]:
    return Rule("image.projection.*", f"{PREFIX}{name}.*"), _TRUNK


def _rules(names: Collection[str]) -> tuple[Rule, ...]:
    """What lies behind the trunk tells: if there is nothing, the trunk's classifier projects, if it
    has one."""
    if "visual.head.mlp.fc1.weight" in names:
        return _MLP
    if "visual.head.proj.weight" in names:
        return _LINEAR
    found = next((name for name in CLASSIFIERS if f"{PREFIX}{name}.weight" in names), None)
    return _classifier(found) if found else (_TRUNK,)


def _export_rules(image: TimmConfig) -> tuple[Rule, ...]:
    match image.projection:
        case "linear":
            return _LINEAR
        case "mlp":
            return _MLP
        case "classifier":
            return _classifier(classifier_of(image.name))
        case "none":
            return (_TRUNK,)


def classifier_of(architecture: str) -> str:
    """What timm calls the classifier of this architecture. Raises CheckpointError for none, or one
    of several parts."""
    import timm

    published = timm.get_pretrained_cfg(architecture)
    name = None if published is None else published.classifier
    if name not in CLASSIFIERS:
        raise CheckpointError(
            f"the classifier of timm's {architecture} has no name ({name}) that could be written"
        )
    return str(name)


def read_vision(cfg: dict[str, Any], activation: Activation) -> TimmConfig | None:
    """The tower that open_clip's `vision_cfg` means; see `OpenClipTower.read`. The activation is
    the text tower's alone.

    Where timm builds a model for pictures of one size, it is that: open_clip doesn't ask for
    another, whatever `image_size` says.
    """
    fields = _take_fields(cfg)
    if fields is None:
        return None
    size = cfg.pop("image_size", 224)
    return TimmConfig(**fields, image_size=fixed_size(fields["name"]) or size)


def _take_fields(cfg: dict[str, Any]) -> dict[str, Any] | None:
    """What every tower of timm's has, taken out of a `vision_cfg`; None: it is none."""
    name = cfg.pop("timm_model_name", None)
    if not name:
        return None
    for option in _OF_OTHER_TOWERS:
        cfg.pop(option, None)
    take_norm_eps(cfg)
    pool, projection = cfg.pop("timm_pool", "avg"), cfg.pop("timm_proj", "linear")
    if pool in _POOLS_OF_OPEN_CLIP or projection not in _PROJECTIONS:
        raise CheckpointError(
            f"a tower of timm's with the pool {pool!r} and the projection {projection!r} has no "
            "place in a Diptych model"
        )
    kind = _PROJECTIONS[projection]
    return {"name": name, "options": _pooling(name, pool, kind), "projection": kind}


def _pooling(name: str, pool: str, projection: str) -> dict[str, Any]:
    """What timm is told of the pool. open_clip changes it of the trunk when that is built, unless
    its classifier projects: a ViT's norm then stays where timm has it for the trunk's own pool."""
    if not pool:
        return {}
    changed = projection in ("linear", "mlp")
    return {"global_pool": pool} | (kept_norm(name, pool) if changed else {})


def _read_naflex(cfg: dict[str, Any], activation: Activation) -> NaflexVitConfig | None:
    """`image_size` is of the squares that open_clip makes of pictures where nothing else is asked
    for: it is no property of the tower."""
    name, given = cfg.get("timm_model_name"), cfg.get(ARGUMENTS) or {}
    if not name or not (is_naflex(name) or given.get("use_naflex")):
        return None
    fields = _take_fields(cfg)
    assert fields is not None
    cfg.pop("image_size", None)
    said = read_as(dict[str, Any], cfg.pop(ARGUMENTS, None) or {}, ARGUMENTS)
    fields["options"] |= {name: value for name, value in said.items() if name != "patch_size"}
    return NaflexVitConfig(**fields, patch_size=said.get("patch_size", 16))


def _write_naflex(image: NaflexVitConfig) -> dict[str, Any]:
    if not image.reads_out:
        raise CheckpointError("open_clip has no tower whose patches nothing reads (reads_out)")
    options = dict(image.options)
    cfg = _written(image, options.pop("global_pool", ""))
    options |= {} if image.patch_size == 16 else {"patch_size": image.patch_size}
    return cfg | ({ARGUMENTS: options} if options else {})


def write_vision(image: TimmConfig) -> dict[str, Any]:
    """open_clip's `vision_cfg`. Raises CheckpointError for options that it doesn't pass on."""
    options, pool = dict(image.options), image.options.get("global_pool", "")
    for told, value in _pooling(image.name, pool, image.projection).items():
        if options.pop(told, None) != value:
            raise CheckpointError(
                f"open_clip builds timm's {image.name} with {told} = {value} where {pool!r} pools; "
                "say so in the options"
            )
    if options:
        raise CheckpointError(f"open_clip can't pass {', '.join(options)} on to timm")
    if image.deploy:
        raise CheckpointError(
            "open_clip builds timm's towers with their branches, and this one's are merged; "
            "convert the weights from before that"
        )
    if (side := fixed_size(image.name)) not in (None, image.image_size):
        raise CheckpointError(
            f"open_clip builds timm's {image.name} for pictures of {side} pixels, and this tower "
            f"takes {image.image_size}"
        )
    return _written(image, pool)


def _written(image: TimmConfig, pool: str) -> dict[str, Any]:
    projections = {ours: theirs for theirs, ours in _PROJECTIONS.items() if theirs != ""}
    return {
        "timm_model_name": image.name,
        "timm_pool": pool,
        "timm_proj": projections[image.projection],
        "image_size": image.image_size,
    }


OPEN_CLIP = (
    OpenClipTower(
        kind=NaflexVitConfig,
        marks=_MARKS,
        fits=lambda names: _NAFLEX in names and any(name in names for name in (*_MARKS, _HEAD)),
        rules=_rules,
        export_rules=_export_rules,
        read=_read_naflex,
        write=_write_naflex,
        pictures=lambda image: {"resize": "native", "patch_size": image.patch_size},
        token_width=trunk_width,
        # As its JSON has naflex_ViT-B-16, and not naflex_ViT-B-32.
        custom_text=lambda image: image.patch_size != 32,
    ),
    OpenClipTower(
        kind=TimmConfig,
        marks=(*_MARKS, *(f"{PREFIX}{name}.weight" for name in (*CLASSIFIERS, *_STEMS))),
        fits=lambda names: any(name.startswith(PREFIX) for name in names),
        rules=_rules,
        export_rules=_export_rules,
        read=read_vision,
        write=write_vision,
        token_width=trunk_width,
        custom_text=lambda image: image.projection == "classifier" or image.name in _VITAMIN,
    ),
)
