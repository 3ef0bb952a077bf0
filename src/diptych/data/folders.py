"""Folders of picture files, one sub-folder per class."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from diptych.batch import Sample
from diptych.data.source import PICTURE_ENDINGS, Captioner, Source
from diptych.data.wordnet import refuse_ids, spoken_names
from diptych.errors import DataError


def _picture_files(folder: Path) -> Iterator[Path]:
    """All pictures below a folder in a stable order; hidden files and folders are left out."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.lower().endswith(PICTURE_ENDINGS):
                yield Path(place, name)


def class_folders(folder: Path) -> list[Path]:
    """The sub-folders in class order (sorted by name)."""
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


class ClassFolders(Source):
    """Picture files with a class each. A key is the file's path below `root`."""

    def __init__(
        self, root: Path, files: Sequence[Path], labels: Sequence[int], captioner: Captioner
    ):
        self.root, self._labels, self._captioner = root, labels, captioner
        self._keys = [str(path.relative_to(root)) for path in files]
        self.class_names = captioner.class_names

    def __len__(self) -> int:
        return len(self._keys)

    def where(self, index: int) -> tuple[str, str]:
        return str(self.root / self._keys[index]), self._keys[index]

    def __getitem__(self, index: int) -> Sample:
        key, label = self._keys[index], self._labels[index]
        return Sample(
            key=key,
            image=str(self.root / key),
            captions=self._captioner.captions({}, label),
            label=label,
        )

    def describe(self) -> str:
        return f"{len(self):,} pictures in {len(self.class_names)} classes in {self.root}"


def open_class_folders(root: Path, captioner: Captioner) -> ClassFolders:
    """A folder with a sub-folder per class. Without a file of names the folders' own serve, as
    `spoken_names` has them. Raises DataError for WordNet ids that captions can't be made of."""
    folders = class_folders(root)
    if not captioner.class_names:
        names = spoken_names([folder.name for folder in folders])
        captioner = replace(captioner, class_names=names)
    if len(captioner.class_names) != len(folders):
        raise DataError(
            f"{root} has {len(folders)} sub-folders, but data.class_names has "
            f"{len(captioner.class_names)} names"
        )
    if captioner.needed:
        refuse_ids(captioner.class_names, str(root))
    files, labels = list[Path](), list[int]()
    for label, folder in enumerate(folders):
        found = list(_picture_files(folder))
        files += found
        labels += [label] * len(found)
    return ClassFolders(root, files, labels, captioner)
