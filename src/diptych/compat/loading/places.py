"""What a model's name and `pretrained` mean in open_clip's spelling: a place of weights, a
configuration, or both."""

import os
import warnings
from pathlib import Path
from typing import NamedTuple

from diptych import pretrained as published
from diptych.checkpoints.content import read
from diptych.checkpoints.describe import read_config
from diptych.checkpoints.detect import match, native_folder, open_foreign
from diptych.checkpoints.locate import locate
from diptych.compat.constants import LOCAL
from diptych.config import ClipConfig
from diptych.config.serialize import difference
from diptych.errors import (
    AssumptionWarning,
    CheckpointError,
    MissingError,
    UnknownNameError,
)
from diptych.weights import native
from diptych.weights.hub import HUB, SUFFIXES
from diptych.weights.read import split_key


class Source(NamedTuple):
    """Where weights are, and how they are built."""

    path: Path | None
    """None: there are none, and the model is initialised."""
    config: ClipConfig | None
    """None: the weights have to say it themselves, by their shapes."""


def find(
    model_name: str | Path, pretrained: str | Path | None, cache_dir: str | Path | None = None
) -> Source:
    """What the two mean. A configuration that stands beside weights wins over the one that
    `model_name` means, and a warning says in what they differ.

    Raises UnknownModelError for a name that nothing has, and CheckpointError for weights that
    aren't there.
    """
    name, tag = str(model_name), str(pretrained or "")
    if is_place(name):
        if tag:
            _warn(f"pretrained={tag!r} is passed over: {name} says where the weights are")
        return _read(name, None, name, cache_dir)
    if not tag and (_is_json(name) or not _means_weights(name)):
        return Source(None, read_config(name))
    openai = f"{name}-openai" if tag == "openai" else name
    return _read(weights_named(name, tag), _known(openai), openai, cache_dir)


def openai_or_first(name: str) -> str | None:
    """`pretrained` for a model of which nobody said the weights: OpenAI's, else `first_known`."""
    return "openai" if f"{name}/openai" in published.tagged(name) else first_known(name)


def first_known(name: str) -> str | None:
    """`pretrained` for a model of which any weights will do; None: the name says them itself.
    Raises MissingError for one of which none are known."""
    if is_place(name) or (not _is_json(name) and _means_weights(name)):
        return None
    if _is_json(name):
        raise MissingError(f"{name} says no weights; give pretrained=, a file or a folder")
    if published.weights(name):
        return name
    tagged = ", ".join(published.tagged(name))
    raise MissingError(
        f"no weights are known for {name}; give pretrained=, a file, a folder"
        + (f" or a tag ({tagged})" if tagged else "")
    )


def is_place(name: str) -> bool:
    """Whether a model's name is a place with weights: on the hub, a folder, a file. An empty one is
    none, though as a path it would be the folder in which the program runs."""
    path, _ = split_key(Path(name.removeprefix(LOCAL)).expanduser())
    return name.startswith((HUB, LOCAL)) or (bool(name) and path.exists() and not _is_json(name))


def _is_json(name: str) -> bool:
    """Whether it is a published configuration, by its ending."""
    return Path(name).suffix == ".json"


def _read(
    weights: str, asked: ClipConfig | None, name: str, cache_dir: str | Path | None
) -> Source:
    """The weights; `asked` is the configuration that `name` means."""
    folder = weights.removeprefix(LOCAL)
    if folder != weights and not (folder and Path(folder).expanduser().is_dir()):
        raise MissingError(f"there is no folder {folder}, which {weights} names")
    place = locate(folder, cache_dir=cache_dir)
    own = _own_config(place.path)
    if own and asked:
        _compare(place.path, own, asked, name)
    known = place.config if isinstance(place.config, ClipConfig) else None
    return Source(place.path, own or asked or known)


def _own_config(path: Path) -> ClipConfig | None:
    """The configuration that a file beside the weights says; None: there is none."""
    if folder := native_folder(path):
        return read_config(folder / native.META)
    source = open_foreign(path)
    file = match(source, "model")[0].config_file
    if not file or not (source.file.parent / file).is_file():
        return None
    found = read(path).config
    assert isinstance(found, ClipConfig)
    return found


def _compare(path: Path, own: ClipConfig, asked: ClipConfig, name: str) -> None:
    found = [
        f"{field} is {there!r} there and {here!r} in {name}"
        for field, (there, here) in difference(own, asked).items()
        if not field.startswith("logit_")
    ]
    if found:
        _warn(f"what stands beside the weights in {path} counts: {'; '.join(found)}")


def _known(name: str) -> ClipConfig | None:
    """The configuration of a model's name; None for one that Diptych doesn't have."""
    try:
        return read_config(name)
    except UnknownNameError:
        return None


def weights_named(name: str, tag: str) -> str:
    """What a model's name and a tag mean together: a place, or the name of published weights.
    OpenAI's have QuickGELU, and in open_clip their tag says so. Raises as `find`."""
    if not tag or tag == name or is_place(tag):
        return tag or name
    if _is_json(tag):
        raise CheckpointError(
            f"{tag} describes a model and holds no weights; give it as the model's name"
        )
    if _is_path(tag):
        raise MissingError(f"there is no file or folder {tag}")
    if not published.tagged(name):
        published.entry(name)  # which says what is known, where the model isn't
    return f"{name}-openai" if tag == "openai" else f"{name}/{tag}"


def _means_weights(name: str) -> bool:
    """Raises CheckpointError for the path of nothing, and UnknownNameError for another name that
    nothing has."""
    try:
        return published.means_weights(name)
    except UnknownNameError as error:
        if _is_path(name):
            raise MissingError(
                f"there is no file or folder {name}, nor a model of that name"
            ) from error
        raise


def _is_path(name: str) -> bool:
    """Whether it looks like one: an ending of weights, or a folder that is none of the hub's."""
    return name.endswith(SUFFIXES) or name.startswith((os.sep, ".", "~"))


def _warn(message: str) -> None:
    warnings.warn(message, AssumptionWarning, stacklevel=5)
