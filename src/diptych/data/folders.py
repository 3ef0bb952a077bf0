"""Folders of picture files, one sub-folder per class."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from diptych.batch import Sample
from diptych.data.captioned import Texts, read_captions
from diptych.data.pictures import Contents
from diptych.data.source import Captioner, Source
from diptych.data.wordnet import refuse_ids, spoken_names
from diptych.errors import DataError


def class_folders(folder: Path) -> list[Path]:
    """The sub-folders in class order (sorted by name)."""
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


class ClassFolders(Source):
    """Picture files with a class each, and captions of their own where `texts` has them. A key is
    the file's path below `root`."""

    def __init__(
        self,
        root: Path,
        files: Sequence[Path],
        labels: Sequence[int],
        captioner: Captioner,
        texts: Texts | None = None,
    ):
        self.root, self._labels, self._captioner, self._texts = root, labels, captioner, texts or {}
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
            captions=self._captioner.captions(read_captions(self._texts.get(key, ())), label),
            label=label,
        )

    def describe(self) -> str:
        return f"{len(self):,} pictures in {len(self.class_names)} classes in {self.root}"


def open_class_folders(
    root: Path,
    captioner: Captioner,
    contents: Contents | None = None,
    texts: Texts | None = None,
) -> ClassFolders:
    """A folder with a sub-folder per class. Without a file of names the folders' own serve, as
    `spoken_names` has them. `contents` and `texts` are of the folder, where they are known. Raises
    DataError for WordNet ids that captions can't be made of."""
    folders = [folder.name for folder in class_folders(root)]
    if not captioner.class_names:
        captioner = replace(captioner, class_names=spoken_names(folders))
    if len(captioner.class_names) != len(folders):
        raise DataError(
            f"{root} has {len(folders)} sub-folders, but {captioner.flags}class-names has "
            f"{len(captioner.class_names)} names"
        )
    if captioner.needed:
        refuse_ids(captioner.class_names, str(root), captioner.flags)
    places = {folder: label for label, folder in enumerate(folders)}
    files, labels = list[Path](), list[int]()
    for name in (contents or Contents.of(root)).pictures:
        folder, below, _ = name.partition("/")
        if below:
            files.append(root / name)
            labels.append(places[folder])
    return ClassFolders(root, files, labels, captioner, texts)
