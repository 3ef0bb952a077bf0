"""Where the training, validation and test parts of data of one's own lie, and the small files that
lie beside them."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from diptych.data import Source
from diptych.data.splits import find_parts, split_of
from diptych.data.tables import TABLE_ENDINGS, TableSource
from diptych.data.tar import is_tar
from diptych.errors import DataError


def parts_of(path: str) -> dict[str, str]:
    """Split -> the path of that part: sub-folders, shards or tables of a folder whose names are
    those of splits (`splits.find_parts`). Empty for data without parts.

    >>> import tempfile
    >>> from diptych.datasets.parts import parts_of
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("training", "val"):
    ...         Path(folder, name).mkdir()
    ...     found = parts_of(folder)
    >>> {split: Path(path).name for split, path in found.items()}
    {'train': 'training', 'val': 'val'}
    """
    folder = Path(path).expanduser()
    if not path or not folder.is_dir():
        return {}
    for place, names in _candidates(folder):
        if parts := find_parts(names):
            return {split: _joined(place, names) for split, names in parts.items()}
    return {}


def _candidates(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    yield folder, _names(folder, lambda path: path.is_dir())
    # The hub's tables lie in a folder `data` beside their description.
    for place in (folder, folder / "data"):
        if place.is_dir():
            yield place, _names(place, is_tar)
            yield place, _names(place, lambda path: path.suffix.lower() in TABLE_ENDINGS)


def _names(folder: Path, fits: Callable[[Path], bool]) -> list[str]:
    names = (path.name for path in folder.iterdir() if fits(path))
    return sorted(name for name in names if not name.startswith("."))


def _joined(folder: Path, names: tuple[str, ...]) -> str:
    """As `DataConfig.path` has several files."""
    return str(folder / (names[0] if len(names) == 1 else f"{{{','.join(names)}}}"))


def tested(path: str, parts: Iterable[str]) -> str:
    """The split that is asked about: `test`, or `val` where there is no other; empty for data
    without parts. Raises DataError where there is a training part alone."""
    if set(parts) == {"train"}:
        raise DataError(
            f"{path} has a training part alone; to measure on that, give that part's own path"
        )
    return next((split for split in ("test", "val") if split in parts), "")


def row_parts(source: Source) -> dict[str, tuple[int, ...]]:
    """Split -> the rows of a table that belong to it, by its column `split`; else empty."""
    return source.parts() if isinstance(source, TableSource) else {}


def beside(path: str, name: str) -> Path | None:
    """The file of that name in the data's folder, or above the folder of a split.

    >>> import tempfile
    >>> from diptych.datasets.parts import beside
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "classnames.txt").write_text("cat")
    ...     Path(folder, "test").mkdir()
    ...     found = beside(f"{folder}/test/{{0,1}}.tar", "classnames.txt")
    >>> found.name
    'classnames.txt'
    """
    if not path:
        return None
    place = Path(path.partition("::")[0]).expanduser().absolute()
    folder = place if place.is_dir() else place.parent
    places = [folder, folder.parent] if split_of(folder.name) else [folder]
    return next((place / name for place in places if (place / name).is_file()), None)
