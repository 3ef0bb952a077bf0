"""Where open_clip's own description of a model lies, of which no weights are needed."""

from pathlib import Path

from diptych.checkpoints.folders import weight_file
from diptych.checkpoints.locate import locate
from diptych.compat.constants import HF_CONFIG_NAME, LOCAL
from diptych.errors import ConfigError, DownloadError, MissingError
from diptych.weights.hub import HUB


def parse_model_name(model_name: str) -> tuple[str | None, str]:
    """The scheme of a model's name, `hf-hub` or `local-dir`, and what is behind it; without one,
    None and the name. Raises ConfigError, a ValueError, where nothing is behind it.

    >>> from diptych.compat.factory import parse_model_name
    >>> parse_model_name("hf-hub:org/name"), parse_model_name("ViT-B-32")
    (('hf-hub', 'org/name'), (None, 'ViT-B-32'))
    """
    for scheme in (HUB, LOCAL):
        if model_name == scheme:
            raise ConfigError(f"{scheme} says no name: {scheme}NAME")
        if model_name.startswith(scheme):
            return scheme.removesuffix(":"), model_name.removeprefix(scheme)
    return None, model_name


def description(name: str, cache_dir: str | Path | None = None) -> Path | None:
    """The `open_clip_config.json` of `local-dir:FOLDER` or `hf-hub:org/name`, of which nothing but
    the settings is fetched, into `cache_dir`; None where there is none, and for other names. Raises
    as `parse_model_name`."""
    scheme, place = parse_model_name(name)
    if scheme is None:
        return None
    if scheme == LOCAL.removesuffix(":"):
        file = Path(place).expanduser() / HF_CONFIG_NAME
        return file if file.is_file() else None
    place, at, revision = place.partition("@")
    owner, *inner = place.split("/")
    # Beside the file of weights that a name may end in.
    beside = "/".join((owner, *inner[:1], *inner[1:-1], HF_CONFIG_NAME))
    try:
        return locate(f"{HUB}{beside}{at}{revision}", cache_dir=cache_dir).path
    except DownloadError:
        return None


def is_bare(name: str) -> bool:
    """Whether it is `local-dir:FOLDER` with a description and no weights: open_clip makes a
    model with random ones."""
    file = description(name) if name.startswith(LOCAL) else None
    if file is None:
        return False
    try:
        weight_file(file.parent)
    except MissingError:
        return True
    return False
