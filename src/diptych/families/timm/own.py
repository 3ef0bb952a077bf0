"""timm's models alone that are towers of our own here, such as SigLIP's, PE's and EVA-02's: so heat
maps, speed and training options are theirs. Equal to timm's within rounding.

Which kinds these are, and by which names, the families say that read such trunks in open_clip's
files (`Family.open_clip`).
"""

import functools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.config import ClipConfig, ImageTowerConfig, TowerConfig
from diptych.config.serialize import difference, to_dict
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip.layouts import timm_description as description
from diptych.families.clip.layouts.timm import PREFIX, bare
from diptych.families.clip.layouts.towers import OpenClipTower, mlp_ratio, open_clip_towers
from diptych.families.timm.config import TimmConfig
from diptych.models import build_tower
from diptych.weights.layout import Export, Inputs, Layout, WeightSource, refuse
from diptych.weights.mapping import Rule, Table, check_fit, count_numbers
from diptych.weights.read import read_json
from diptych.weights.state import State
from diptych.weights.tower import tower_weights

_FIELDS = {
    "depth": "layers",
    "embed_dim": "width",
    "num_heads": "heads",
    "patch_size": "patch_size",
    "img_size": "image_size",
}
"""Of timm's arguments, and what they are called here."""
_RATIO = "mlp_ratio"
GIVE_NAME = (
    "give timm's name of it as config= (--config), such as vit_base_patch16_clip_224.openai, or "
    "lay its config.json beside it"
)
"""What to do where a file of timm's doesn't say what it is."""
_POOLS = ("map", "token")
"""How timm's towers of our kinds read out their tokens."""


def kinds() -> Iterator[OpenClipTower]:
    """Those that are a trunk of timm's and nothing else."""
    for tower in open_clip_towers():
        if issubclass(tower.kind, ImageTowerConfig) and not issubclass(tower.kind, TimmConfig):
            yield tower


def kind_of(names: Collection[str]) -> OpenClipTower | None:
    """The one to which all of a file's names belong."""
    for tower in kinds():
        rules = tower.rules([PREFIX + name for name in names])
        if _is_trunk(rules) and not Table(rules=bare(rules)).unknown(names):
            return tower
    return None


def table(names: Collection[str]) -> Table:
    """Of names that belong to no such tower it knows none."""
    kind = kind_of(names)
    rules = () if kind is None else kind.rules([PREFIX + name for name in names])
    return Table(rules=bare(rules))


def published(architecture: str) -> ImageTowerConfig | None:
    """The tower of our own that timm's architecture is; None: it is none."""
    for tower in kinds():
        for pool in _POOLS:
            cfg = {"timm_model_name": architecture, "timm_pool": pool, "timm_proj": None}
            found = tower.read(cfg, "gelu")
            # Who knows an architecture takes it out; other towers take no notice of it.
            if isinstance(found, ImageTowerConfig) and "timm_model_name" not in cfg:
                return found
    return None


def described(content: Mapping[str, Any]) -> ImageTowerConfig | None:
    """The tower of our own that timm's config.json means; None: it means another."""
    architecture = description.architecture(content)
    base = published(architecture) if architecture else None
    if base is None:
        return None
    try:
        arguments, size = description.arguments(content), description.input_size(content)
        changes = {"image_size": size} if size else {}
        for name in arguments.keys() - {_RATIO}:
            changes[_FIELDS[name]] = arguments[name]
        sizes = to_dict(base)
        ratio = arguments.get(_RATIO, sizes["mlp_width"] / sizes["width"])
        width = int(changes.get("width", sizes["width"]) * ratio)
        return replace(base, **changes, mlp_width=width)
    except (ConfigError, KeyError, TypeError, ValueError, ArithmeticError):
        # Other arguments of timm's, or what no arguments are: who reads timm's own towers says it.
        return None


def is_described(source: WeightSource) -> bool:
    """Whether config.json beside the weights says that they are such a tower, and they fit it."""
    tower, names = _told(source), source.weights.tensors
    return tower is not None and fits(names, table(names), tower)


def fits(names: State, table: Table, tower: ImageTowerConfig) -> bool:
    """Whether weights of these foreign names and shapes are such a tower's, with a projection or
    without."""
    try:
        own = table.to_ours(names).part("image.").shapes
        expected = build_tower(tower, tower_weights(tower).embed_dim(own), "meta").state_dict()
        check_fit(own, expected)
    except (CheckpointError, ConfigError):
        return False
    return True


def _told(source: WeightSource) -> ImageTowerConfig | None:
    file = source.file.parent / description.CONFIG
    return described(read_json(file)) if file.is_file() else None


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """From config.json; where there is none, by the shapes. Raises CheckpointError for a tower that
    they don't tell."""
    if (tower := _told(source)) is not None:
        return tower, {"config": description.CONFIG}
    names = source.weights.tensors
    own = state.part("image.").shapes
    found = [name for name, known in _of_size(own) if fits(names, table(names), known)]
    if len(found) != 1:
        several = f"it fits {' and '.join(found)}" if found else "no architecture is known to fit"
        raise CheckpointError(f"{several}; {GIVE_NAME}")
    said = f"timm's {found[0]}, which alone has these shapes"
    return _architectures()[found[0]], {"config": "shapes", "assumed": said}


def _of_size(shapes: Mapping[str, Tensor]) -> Iterator[tuple[str, ImageTowerConfig]]:
    """Those as wide and as deep."""
    size = shapes["positions"].shape[1], count_numbers(shapes, "blocks.")
    for name, known in _architectures().items():
        sizes = to_dict(known)
        if (sizes["width"], sizes["layers"]) == size:
            yield name, known


@functools.cache
def _architectures() -> dict[str, ImageTowerConfig]:
    """All of timm's that are ours."""
    import timm

    found = {name: published(name) for name in timm.list_models()}
    return {name: tower for name, tower in found.items() if tower is not None}


def nearest(image: ImageTowerConfig) -> tuple[str, dict[str, Any]]:
    """timm's architecture for a tower of ours, and the arguments by which it differs from it.
    Raises CheckpointError where it has none."""
    ours = {field: name for name, field in _FIELDS.items()} | {"mlp_width": _RATIO}
    best: tuple[str, dict[str, Any]] | None = None
    for name, known in _architectures().items():
        if type(known) is not type(image):
            continue
        changed = difference(known, image)
        if changed.keys() <= ours.keys() and (best is None or len(changed) < len(best[1])):
            best = name, changed
    if best is None:
        raise CheckpointError(f"timm has no {type(image).__name__} of this configuration")
    sizes = to_dict(image)
    arguments = {ours[field]: sizes[field] for field in best[1] if field != "mlp_width"}
    if {"mlp_width", "width"} & best[1].keys():
        arguments[_RATIO] = mlp_ratio(sizes["width"], sizes["mlp_width"])
    return best[0], arguments


def is_own(tower: TowerConfig) -> bool:
    """Whether it is of a kind that timm has."""
    return any(kind.kind is type(tower) and _is_trunk(kind.export_rules(tower)) for kind in kinds())


def _is_trunk(rules: Iterable[Rule]) -> bool:
    return all(name.startswith(PREFIX) for rule in rules for name in rule.sources)


def inputs(folder: Path, tower: TowerConfig) -> Inputs | None:
    """By config.json; where there is none, as timm's architecture has it."""
    import timm

    if found := description.inputs(folder, tower):
        return found
    names = [name for name, known in _architectures().items() if known == tower]
    said = timm.get_pretrained_cfg(names[0]) if names else None
    how = description.preprocess(said.to_dict()) if said else None
    return None if how is None else Inputs(preprocess=how)


def export(folder: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """Both files, for `timm.create_model("local-dir:FOLDER", pretrained=True)`. Raises
    CheckpointError for a tower that timm can't build."""
    name, arguments = nearest(config.image)
    kind = next(tower for tower in kinds() if tower.kind is type(config.image))
    rules = Table(rules=bare(kind.export_rules(config.image)))
    tower = {each: tensor for each, tensor in state.items() if each.startswith("image.")}
    weights = rules.to_foreign(tower)
    head = weights.get("head.weight", torch.empty(0))
    content = description.content(config, name, len(head), arguments, fixed=True)
    description.write(folder, weights, content)


TIMM_OWN = Layout(
    name="timm",
    image=("attn_pool.latent",),
    text=(),
    scale=(),
    table=table,
    config=refuse,
    tower_config=tower_config,
    inputs=inputs,
    config_file=description.CONFIG,
    is_described=is_described,
    weight_files=(),
    exports=(Export(name="timm", write=export, holds=is_own, alone=True, cuts=True),),
)
