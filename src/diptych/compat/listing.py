"""open_clip's list of models and of their published weights, and what can be added to it.

Names, tags and addresses are facts of open_clip 3.3.0, of NaFlex its main branch's
(`open_clip.json`); only what Diptych loads by name is listed.
"""

import functools
import json
import re
import tempfile
import warnings
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from diptych import pretrained as published
from diptych.checkpoints.describe import read_config
from diptych.compat.constants import HF_CONFIG_NAME
from diptych.compat.loading import genlip_configs
from diptych.compat.loading.description import description
from diptych.compat.loading.own_folders import name_text_folders
from diptych.config import ClipConfig
from diptych.config.model import OPENAI_MEAN, OPENAI_STD
from diptych.errors import (
    CheckpointError,
    DiptychWarning,
    MissingError,
    UnknownNameError,
)
from diptych.families.clip.layouts.open_clip_config import modern, to_json
from diptych.weights.read import read_json

_SECTIONS = ("embed_dim", "vision_cfg")
_TEXTS = ("text_cfg", "multimodal_cfg")
"""By which, and one of which, open_clip tells the configuration of a model from other JSON."""
_COMMON = {
    "url": "",
    "hf_hub": "",
    "mean": OPENAI_MEAN,
    "std": OPENAI_STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
"""What `open_clip.json` leaves out."""
_added: dict[str, Path] = {}
"""`add_model_config`'s, by name."""


def list_models() -> list[str]:
    """Names of models that can be created: open_clip's in its spelling, those that only Diptych
    has, and what `add_model_config` added.

    >>> from diptych.compat import list_models
    >>> {"ViT-B-32", "EVA02-L-14-336", "eva-clip-18b"} <= set(list_models())
    True
    """
    listed = {name: _entry(name) for name in _open_clips()["models"]}
    known = [name for name, entry in listed.items() if entry]
    covered = {entry.name for entry in listed.values() if entry}
    own = [name for name in published.names() if name not in covered and _is_model(name)]
    known += genlip_configs.names()
    return [*known, *own, *(name for name in _added if name not in known)]


def list_pretrained(as_str: bool = False) -> list[Any]:
    """(model, tag) of open_clip's published weights; `as_str`: as `model:tag`.

    >>> from diptych.compat import list_pretrained
    >>> ("ViT-B-32", "laion2b_s34b_b79k") in list_pretrained()
    True
    """
    pairs = [
        (model, tag) for model in _pretrained() for tag in list_pretrained_tags_by_model(model)
    ]
    return [":".join(pair) for pair in pairs] if as_str else pairs


def list_pretrained_models_by_tag(tag: str) -> list[str]:
    """Models of which weights with this tag are known."""
    return [model for model in _pretrained() if is_pretrained_cfg(model, tag)]


def list_pretrained_tags_by_model(model: str) -> list[str]:
    """Tags of the weights that are known of a model.

    >>> from diptych.compat import list_pretrained_tags_by_model
    >>> list_pretrained_tags_by_model("ViT-L-14-336")
    ['openai']
    """
    known = published.tagged(model) if model in _pretrained() else []
    return [tag for tag in _pretrained().get(model, ()) if f"{model}/{tag}" in known]


def list_openai_models() -> list[str]:
    """Models of which OpenAI's weights are known.

    >>> from diptych.compat import list_openai_models
    >>> list_openai_models()[0]
    'RN50'
    """
    return list_pretrained_models_by_tag("openai")


def is_pretrained_cfg(model: str, tag: str) -> bool:
    """Whether weights of the model are known by this tag."""
    return _clean(tag) in list_pretrained_tags_by_model(model)


def get_pretrained_cfg(model: str, tag: str) -> dict[str, Any]:
    """Where weights lie and which pixels they expect; empty for unknown ones.

    >>> from diptych.compat import get_pretrained_cfg
    >>> get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k")["hf_hub"]
    'laion/CLIP-ViT-B-32-laion2B-s34B-b79K/'
    """
    if not is_pretrained_cfg(model, tag):
        return {}
    found = _COMMON | _pretrained()[model][_clean(tag)]
    return found | {"mean": tuple(found["mean"]), "std": tuple(found["std"])}


def get_pretrained_url(model: str, tag: str) -> str:
    """The address of weights that lie outside of the hub, too; empty for others."""
    return get_pretrained_cfg(model, tag).get("url", "")


def openai_url(model: str) -> str:
    """The address of OpenAI's own file of a model of theirs."""
    return _pretrained()[model]["openai"]["url"]


def get_model_config(model_name: str) -> dict[str, Any] | None:
    """What open_clip's JSON says of a model: of a name, `local-dir:FOLDER` or `hf-hub:org/name`;
    None for an unknown name. Raises CheckpointError for a model that open_clip can't express.

    >>> from diptych.compat import get_model_config
    >>> get_model_config("ViT-B-32")["vision_cfg"]["patch_size"]
    32
    """
    from diptych.compat.loading import places

    if (captioner := genlip_configs.known(model_name)) is not None:
        return captioner
    if model_name in _added:
        return modern(_of_model(read_json(_added[model_name])))
    if places.is_place(model_name):
        if (file := description(model_name)) is None:
            path, _ = places.find(model_name, None)
            assert path is not None
            file = (path if path.is_dir() else path.parent) / HF_CONFIG_NAME
        if not file.is_file():
            raise CheckpointError(f"{model_name} has no open_clip_config.json")
        return modern(_of_model(read_json(file)))
    try:
        config = read_config(model_name)
    except UnknownNameError:
        return None
    assert config is not None
    said = to_json(config)["model_cfg"]
    said["vision_cfg"] |= _in_training(model_name)
    return said


def add_model_config(path: str | Path) -> None:
    """Make the model of a JSON file known by the file's name, or those of all files in a folder;
    open_clip's and EVA-CLIP's schema. Other JSON in a folder is passed over.

    Raises CheckpointError for a path of nothing, or a file that describes no model.
    """
    path = Path(path)
    if not path.exists():
        raise MissingError(f"there is no file or folder {path}")
    found = sorted(path.glob("*.json")) if path.is_dir() else [path]
    models = {file.stem: file for file in found if _describes_model(file)}
    if not models:
        raise _no_model(path)
    for name, file in models.items():
        _add(name, file)


def add_config(name: str, config: Mapping[str, Any]) -> None:
    """Make a configuration known by a name. Raises CheckpointError for what describes no model, and
    for what is no JSON."""
    try:
        said = json.dumps(dict(config))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the configuration {name!r} is no JSON: {error}") from error
    stem = re.sub(r"[^\w.-]", "_", name)  # which stands in messages
    file = Path(tempfile.mkdtemp(dir=_written().name)) / f"{stem}.json"
    file.write_text(said, "utf-8")
    if not _describes_model(file):
        raise _no_model(f"the configuration {name!r}")
    _add(name, file)


def _add(name: str, file: Path) -> None:
    if not _of_fork_alone(file):
        name_text_folders(_of_model(read_json(file)))
        _added[name] = file


def forget_config(name: str) -> None:
    """Undo `add_config` or `add_model_config`. Raises KeyError for another name."""
    del _added[name]


def added() -> tuple[str, ...]:
    """The names of `add_config`'s and `add_model_config`'s models."""
    return tuple(_added)


def configurations() -> tuple[str, ...]:
    """The names of open_clip's own models that are known."""
    own = tuple(name for name in _open_clips()["models"] if _entry(name))
    return own + genlip_configs.names()


def configured(
    model_name: str | Path, without_weights: bool = False, cache_dir: str | Path | None = None
) -> str | Path:
    """What a name means that `add_model_config` added: its JSON file; else the name itself.
    `without_weights`: of `local-dir:FOLDER` and `hf-hub:org/name`, too, where there is one."""
    if without_weights and (file := description(str(model_name), cache_dir)):
        return file
    return _added.get(str(model_name), model_name)


def said_of(model_name: str | Path, weights: Path | None) -> dict[str, Any]:
    """The `model_cfg` of a model as it was written: in a JSON file, by its path or as it was added,
    or beside its `weights`. Of open_clip's own models, what Diptych's configurations don't say."""
    file = Path(configured(model_name))
    if weights is not None and file.suffix != ".json":
        file = (weights if weights.is_dir() else weights.parent) / HF_CONFIG_NAME
    if file.suffix == ".json" and file.is_file():
        return _of_model(read_json(file))
    return {"vision_cfg": _in_training(str(model_name))}


def _in_training(model: str) -> dict[str, Any]:
    """What open_clip's configuration of a tower of timm's says of training alone."""
    rate = _open_clips()["timm_drop_path"].get(model)
    return {} if rate is None else {"timm_drop_path": rate}


def _no_model(said: Path | str) -> CheckpointError:
    needed = f"{', '.join(_SECTIONS)} and {' or '.join(_TEXTS)}"
    return CheckpointError(f"{said} describes no model: it needs {needed}")


def _describes_model(file: Path) -> bool:
    said = _of_model(read_json(file))
    return all(section in said for section in _SECTIONS) and any(text in said for text in _TEXTS)


def _of_fork_alone(file: Path) -> bool:
    """Whether open_clip leaves it out with a warning: a MaMMUT without perceptrons, which only
    LAION's fork builds, and Diptych by the file's path."""
    said = modern(_of_model(read_json(file))).get("multimodal_cfg") or {}
    left = not said.get("has_mlp", True)
    if left:
        warnings.warn(
            f"{file} is left out: open_clip has no multimodal_cfg.has_mlp = False; "
            f"create_model({str(file)!r}) builds it",
            DiptychWarning,
            stacklevel=3,
        )
    return left


def _of_model(content: dict[str, Any]) -> dict[str, Any]:
    return content.get("model_cfg", content)


def _entry(model: str) -> published.Entry | None:
    try:
        return published.entry(model)
    except UnknownNameError:
        return None


def _is_model(name: str) -> bool:
    """Whether it has two towers."""
    return isinstance(published.entry(name).config, ClipConfig)


def _clean(tag: str) -> str:
    return tag.lower().replace("-", "_")


@functools.cache
def _written() -> tempfile.TemporaryDirectory[str]:
    """The folder of `add_config`'s files, as long as the process lives."""
    return tempfile.TemporaryDirectory(prefix="diptych-configs-")


@functools.cache
def _open_clips() -> dict[str, Any]:
    return json.loads(files("diptych.compat").joinpath("open_clip.json").read_text("utf-8"))


def _pretrained() -> dict[str, dict[str, Any]]:
    return _open_clips()["pretrained"]
