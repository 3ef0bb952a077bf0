"""What a configuration may be given as: itself, a name, or somebody's JSON."""

from pathlib import Path
from typing import Any

from diptych import pretrained
from diptych.checkpoints.kinds import check_kind
from diptych.config import ClipConfig, ImageTowerConfig
from diptych.config.serialize import from_dict
from diptych.errors import CheckpointError, ConfigError, UnknownNameError
from diptych.families import layouts
from diptych.weights.read import read_json


def read_config(config: ClipConfig | str | Path | None) -> ClipConfig | None:
    """A configuration itself, that of a published model's name, or of a JSON file: of open_clip's
    schema or EVA-CLIP's (with or without `model_cfg` around it), a model.json of ours, a
    config.json of transformers.

    Raises UnknownNameError with near misses, and CheckpointError, naming the file, for one that
    doesn't describe a model.

    >>> from diptych.checkpoints.describe import read_config
    >>> read_config("EVA02-B-16").embed_dim
    512
    """
    if config is None or isinstance(config, ClipConfig):
        return config
    path = Path(config)
    if not _is_file(path):
        return pretrained.get(str(config))
    content = read_json(path)
    try:
        return _described(content, path)
    except (ConfigError, CheckpointError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def read_any_config(config: str | Path) -> ClipConfig | ImageTowerConfig:
    """The model, or the image tower alone, that a name or a JSON file means. Raises as
    `read_config`."""
    file = Path(config)
    if not _is_file(file):
        return _named(str(config))
    content = read_json(file)
    for layout in layouts():
        if layout.describe_image and (tower := layout.describe_image(content, file)):
            return tower
    found = read_config(file)
    assert found is not None
    return found


def _named(name: str) -> ClipConfig | ImageTowerConfig:
    """Of a published model, or of another library's."""
    try:
        return pretrained.entry(name).config
    except UnknownNameError:
        found = (layout.describe_name(name) for layout in layouts())
        if config := next(filter(None, found), None):
            return config
        raise


def _is_file(path: Path) -> bool:
    return path.suffix == ".json" or path.is_file()


def _described(content: dict[str, Any], path: Path) -> ClipConfig:
    if content.get("format") == "diptych":
        if "config" not in content:
            raise CheckpointError("it is a description by Diptych, but has no config")
        return from_dict(ClipConfig, content["config"])
    check_kind(content, path.name)
    for layout in layouts():
        if layout.describe and (config := layout.describe(content, path)):
            return config
    raise CheckpointError("it describes no model that Diptych knows")
