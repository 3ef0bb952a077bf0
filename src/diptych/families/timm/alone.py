"""timm's models alone, as timm saves them and the hub has them: the weights under timm's own names,
and a `config.json` that says of which architecture they are, or whoever reads them."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.config import ClipConfig, ImageTowerConfig, PreprocessConfig
from diptych.config.alone import alone
from diptych.config.serialize import read_as
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip.layouts import timm_description as description
from diptych.families.clip.layouts.timm_description import CONFIG, WEIGHTS
from diptych.families.timm.config import TimmConfig
from diptych.families.timm.layouts import CLASSIFIERS, classifier_of
from diptych.families.timm.model import fixed_size
from diptych.families.timm.own import GIVE_NAME, TIMM_OWN, described, fits
from diptych.models import build_tower
from diptych.weights.layout import Export, Layout, WeightSource, refuse
from diptych.weights.mapping import Rule, Table
from diptych.weights.read import read_json
from diptych.weights.state import State

_SIZE, _HUB = "img_size", "timm/"
_FIRST = ("patch_embed.proj", "conv1", "conv_stem", "stem.0", "stem.conv1.conv")
_BEGINNINGS = frozenset(f"{layer}.weight" for layer in _FIRST)
"""Of the first layers of vision transformers, ResNets, EfficientNets, ConvNeXts, RegNets."""


def table(names: Collection[str]) -> Table:
    """All is the trunk's but the classifier, which projects: a CLIP model's matrix to the shared
    space stands there. One of ImageNet's classes stays behind."""
    name = next((name for name in CLASSIFIERS if f"{name}.weight" in names), "")
    trunk = Rule("image.trunk.*", "*")
    if not name:
        return Table(rules=(trunk,))
    if isinstance(names, State) and _classes(len(names.shapes[f"{name}.weight"])):
        return Table(rules=(trunk,), ignored=(f"{name}.*",), noted=(f"{name}.*",))
    return Table(rules=(Rule("image.projection.*", f"{name}.*"), trunk))


def _classes(rows: int) -> bool:
    """Whether a classifier with so many rows is one of ImageNet's, of whatever subset."""
    from timm.data.imagenet_info import infer_imagenet_subset

    return infer_imagenet_subset({"num_classes": rows}) is not None


def is_described(source: WeightSource) -> bool:
    """Whether timm's config.json lies beside the weights, or whoever reads them said that they are
    timm's."""
    if isinstance(source.given, TimmConfig):
        names = source.weights.tensors
        return fits(names, table(names), source.given)
    file = source.file.parent / CONFIG
    return file.is_file() and description.architecture(read_json(file)) is not None


def tower_config(source: WeightSource, state: State) -> tuple[ImageTowerConfig, dict[str, Any]]:
    """From config.json. Raises CheckpointError for what it doesn't describe."""
    file = source.file.parent / CONFIG
    tower = _trunk(read_json(file), file)
    if tower is None:
        raise CheckpointError(f"{CONFIG} names no architecture of timm's")
    return tower, {"config": CONFIG}


def describe_image(content: dict[str, Any], path: Path) -> ImageTowerConfig | None:
    """The tower that timm's config.json describes, our own where it is one; None: it is of somebody
    else."""
    return described(content) or _trunk(content, path)


def hint(names: Collection[str]) -> str:
    """Of weights that begin as many of timm's do."""
    found = _BEGINNINGS & set(names)
    return f"{min(found)} is a name of timm's: {GIVE_NAME}" if found else ""


def describe_name(name: str) -> ClipConfig | None:
    """Of timm's name of an architecture, with the tag of its weights or without."""
    try:
        import timm
    except ModuleNotFoundError:
        return None
    name = name.removeprefix(_HUB)
    if not timm.is_model(name):
        return None
    said = timm.get_pretrained_cfg(name)
    content = {"architecture": name.partition(".")[0], **(said.to_dict() if said else {})}
    tower = describe_image(content, Path(name))
    assert tower is not None
    how = description.preprocess(content) or PreprocessConfig()
    width = build_tower(tower, None, "meta").feature_width
    return alone(tower, width, projected=False, preprocess=how)


def _trunk(content: dict[str, Any], path: Path) -> TimmConfig | None:
    name = description.architecture(content)
    if name is None:
        return None
    try:
        options = description.arguments(content)
        size = options.pop(_SIZE, None) or description.input_size(content) or fixed_size(name)
        side = read_as(int, size or TimmConfig.image_size, _SIZE)
        return TimmConfig(name=name, image_size=side, options=options, projection="classifier")
    except (ConfigError, TypeError, LookupError) as error:
        raise CheckpointError(f"{path.name} describes no model of timm's: {error}") from error


def export(folder: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
    """Both files, for `timm.create_model("local-dir:FOLDER", pretrained=True)`.

    Raises CheckpointError for another tower than timm's own, and for a projection that isn't its
    classifier.
    """
    image = config.image
    if not isinstance(image, TimmConfig) or image.deploy:
        raise CheckpointError("timm has image towers of its own alone, with all their branches")
    if config.projected and image.projection != "classifier":
        raise CheckpointError("of timm's models the classifier projects, and nothing behind it")
    classes = config.embed_dim if config.projected else 0
    rules = [Rule("image.trunk.*", "*")]
    if config.projected:
        rules.insert(0, Rule("image.projection.*", f"{classifier_of(image.name)}.*"))
    tower = {name: tensor for name, tensor in state.items() if name.startswith("image.")}
    weights = Table(rules=tuple(rules)).to_foreign(tower)
    fixed = fixed_size(image.name) is not None
    arguments = image.options | ({_SIZE: image.image_size} if fixed else {})
    content = description.content(config, image.name, classes, arguments, fixed)
    description.write(folder, weights, content)


TIMM = Layout(
    name="timm",
    image=(),
    text=(),
    scale=(),
    table=table,
    config=refuse,
    tower_config=tower_config,
    inputs=description.inputs,
    config_file=CONFIG,
    is_described=is_described,
    describe_image=describe_image,
    describe_name=describe_name,
    hint=hint,
    weight_files=(WEIGHTS, "pytorch_model.bin"),
    exports=(
        Export(
            name="timm",
            write=export,
            holds=lambda tower: isinstance(tower, TimmConfig),
            alone=True,
            cuts=True,
        ),
    ),
)


def layouts() -> tuple[Layout, ...]:
    """Of towers that are our own, and of all others."""
    return (TIMM_OWN, TIMM)
