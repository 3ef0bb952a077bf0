"""From a name to files on this machine."""

from pathlib import Path
from typing import Any, NamedTuple

from diptych import pretrained
from diptych.checkpoints.folders import weight_files
from diptych.config import ClipConfig, ImageTowerConfig
from diptych.errors import CheckpointError, MissingError, UnknownNameError, beside
from diptych.pretrained import Entry
from diptych.weights import hub
from diptych.weights.hub import HUB
from diptych.weights.read import split_key

_TAGS = 4
"""In a sentence."""


class Place(NamedTuple):
    """Where weights are, and what is known of them beforehand."""

    path: Path
    config: ClipConfig | ImageTowerConfig | None
    """Of a published model."""
    notes: dict[str, Any]
    """For the provenance."""


def locate(name: str | Path, *, cache_dir: str | Path | None = None) -> Place:
    """What `name` means: a path, `FILE#KEY` for one of several versions of the weights in a file,
    `hf-hub:org/name[/file][@revision]`, or the name of a published model, whose weights are
    fetched.

    `cache_dir`: where what is fetched lies. Raises CheckpointError if there is no such file, or no
    weights are published; UnknownNameError with near misses.
    """
    path = Path(name).expanduser()
    if split_key(path)[0].exists():
        return Place(path, None, {})
    name = str(name)
    if name.startswith(HUB) and name.count("/") <= 1:
        return Place(fetch(name, cache_dir=cache_dir), None, {"name": name})
    if ":" in name.removeprefix(HUB) and "://" not in name:
        # An import path means a configuration, which has no weights. Nothing is imported for it:
        # the name of a model may come from an index or a result of anybody's.
        raise MissingError(f"there is no file or folder {name}")
    if repository := pretrained.repository(name):
        hub_name = f"{HUB}{repository}"
        return Place(fetch(hub_name, cache_dir=cache_dir), None, {"name": hub_name})
    try:
        entry = pretrained.entry(name)
    except UnknownNameError as error:
        unknown = error  # tracebacks of what comes now shouldn't begin with it
    else:
        return _listed(name, entry, cache_dir)
    return _unlisted(name, unknown, cache_dir)


def _unlisted(name: str, error: UnknownNameError, cache_dir: str | Path | None) -> Place:
    """A repository of the hub that is no published model's. Raises CheckpointError for what was
    meant as a path, or `error`."""
    if name.startswith(HUB):
        return Place(fetch(name, cache_dir=cache_dir), None, {"name": name})
    hint = f"; {error.hint}" if error.near else beside(name)
    is_path = Path(name).suffix or (len(Path(name).parts) > 1 and Path(name).parent.exists())
    is_path = is_path and "://" not in name  # of an address the error says what to do
    if is_path or (hint and not error.near):
        raise MissingError(
            f"there is no file or folder {name}, nor a model of that name{hint}"
        ) from error
    raise error


def _listed(name: str, entry: Entry, cache_dir: str | Path | None) -> Place:
    """The weights of a published model. Raises CheckpointError where they can't be fetched."""
    weights = pretrained.weights(name)
    if weights is None:
        raise CheckpointError(_without_weights(name, entry))
    if weights.link:
        raise CheckpointError(
            f"the weights of {entry.name} are on no hub: download {weights.link} with a browser, "
            "and give the file"
        )
    path = fetch(
        f"{HUB}{weights.repo}", file=weights.file, sha256=weights.sha256, cache_dir=cache_dir
    )
    return Place(
        path, entry.config, {"name": entry.name, "repo": weights.repo, "licence": weights.licence}
    )


def _without_weights(name: str, entry: Entry) -> str:
    variants = " and ".join(_variants(entry))
    also = f", but for {variants}" if variants else ""
    tags = pretrained.tagged(name)
    tagged = ", ".join([*tags[:_TAGS], *["…"] * (len(tags) > _TAGS)])
    return (
        f"no published weights are known for {entry.name}{also}; "
        + (f"name some by a tag ({tagged}), or " if tagged else "")
        + "give a checkpoint file or folder instead"
    )


def _variants(entry: Entry) -> list[str]:
    """Models with weights whose names go on where this one's ends, for pictures of the same size:
    vit-b-32-quickgelu of vit-b-32."""
    longer = map(pretrained.entry, pretrained.names(f"{entry.name}-*"))
    size = entry.image.image_size
    return [each.name for each in longer if each.weights and each.image.image_size == size]


def fetch(
    name: str,
    *,
    file: str = "",
    sha256: str = "",
    endpoint: str | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """`hub.fetch` of weights in any layout that Diptych reads."""
    return hub.fetch(
        name,
        weight_files=weight_files(),
        file=file,
        sha256=sha256,
        endpoint=endpoint,
        cache_dir=None if cache_dir is None else Path(cache_dir),
    )
