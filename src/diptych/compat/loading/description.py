"""Where open_clip's own description of a model lies, of which no weights are needed."""

from pathlib import Path

from diptych.checkpoints.locate import locate
from diptych.compat.constants import HF_CONFIG_NAME, LOCAL
from diptych.errors import DownloadError
from diptych.weights.hub import HUB


def description(name: str, cache_dir: str | Path | None = None) -> Path | None:
    """The `open_clip_config.json` of `local-dir:FOLDER` or `hf-hub:org/name`, of which nothing but
    the settings is fetched, into `cache_dir`; None where there is none, and for other names."""
    if name.startswith(LOCAL):
        file = Path(name.removeprefix(LOCAL)).expanduser() / HF_CONFIG_NAME
        return file if file.is_file() else None
    if not name.startswith(HUB):
        return None
    place, at, revision = name.removeprefix(HUB).partition("@")
    owner, *inner = place.split("/")
    # Beside the file of weights that a name may end in.
    beside = "/".join((owner, *inner[:1], *inner[1:-1], HF_CONFIG_NAME))
    try:
        return locate(f"{HUB}{beside}{at}{revision}", cache_dir=cache_dir).path
    except DownloadError:
        return None
