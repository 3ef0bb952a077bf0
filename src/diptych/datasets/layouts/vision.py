"""torchvision's layouts, read by its own classes, which are imported only here and never download.

Country211, RenderedSST2 and the ImageNets are plain folders of classes, which `folders` reads.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diptych.batch import Sample
from diptych.data.joined import Joined
from diptych.data.source import Source
from diptych.datasets.entry import Found, Wanted
from diptych.datasets.layouts.base import Files
from diptych.datasets.layouts.originals import png
from diptych.errors import DataError, first_line

_TRAIN = {"train": {"train": True}, "test": {"train": False}}
_SPLIT = {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}}


@dataclass(frozen=True, kw_only=True)
class _Kind:
    marker: str
    """What lies below the folder that the class is given."""
    splits: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: _SPLIT)
    labels: tuple[str, ...] = ()
    """Where the class doesn't tell them; empty there too: its numbers are the set's own."""


_FER = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_KINDS = {
    "CIFAR10": _Kind(marker="cifar-10-batches-py", splits=_TRAIN),
    "CIFAR100": _Kind(marker="cifar-100-python", splits=_TRAIN),
    "MNIST": _Kind(marker="MNIST/raw", splits=_TRAIN),
    "SUN397": _Kind(marker="SUN397/ClassName.txt", splits={"test": {}, "all": {}}),
    "FGVCAircraft": _Kind(marker="fgvc-aircraft-2013b/data"),
    "StanfordCars": _Kind(marker="stanford_cars/devkit"),
    "DTD": _Kind(marker="dtd/dtd/labels"),
    "EuroSAT": _Kind(marker="eurosat/2750", splits={"all": {}}),
    "FER2013": _Kind(marker="fer2013/fer2013.csv", labels=_FER),
    "Flowers102": _Kind(marker="flowers-102/setid.mat"),
    "Food101": _Kind(marker="food-101/meta"),
    "GTSRB": _Kind(marker="gtsrb/GTSRB"),
    "PCAM": _Kind(marker="pcam/camelyonpatch_level_2_split_test_x.h5"),
    "OxfordIIITPet": _Kind(
        marker="oxford-iiit-pet/annotations", splits=_SPLIT | {"train": {"split": "trainval"}}
    ),
    "STL10": _Kind(marker="stl10_binary"),
    "SVHN": _Kind(marker="test_32x32.mat"),
}


def read(wanted: Wanted) -> Found | None:
    """What torchvision's class of the set finds below the data root, or below the set's folder
    there."""
    kind = _KINDS.get(wanted.entry.torchvision)
    if kind is None:
        return None
    places, here = [wanted.root, *wanted.folders], wanted.root.absolute()
    if here.name == kind.marker.partition("/")[0]:  # --data-root /data/cifar-10-batches-py
        places.append(here.parent)
    root = next((place for place in places if (place / kind.marker).exists()), None)
    asked = _arguments(kind, wanted.split)
    if root is None or not asked:
        return None
    datasets = [_open(wanted.entry.torchvision, root, arguments) for arguments in asked]
    parts = [_source(dataset, root / kind.marker) for dataset in datasets]
    source: Source = parts[0] if len(parts) == 1 else Joined(parts)
    return Found(
        layout="torchvision", place=root, source=source, labels=kind.labels or _labels(datasets[0])
    )


def _arguments(kind: _Kind, split: str) -> list[Mapping[str, Any]]:
    if split in kind.splits:
        return [kind.splits[split]]
    return list(kind.splits.values()) if split == "all" else []


def _open(name: str, root: Path, arguments: Mapping[str, Any]) -> Any:
    """The data set, giving paths instead of pictures where its class can."""
    from torchvision import datasets

    kind = getattr(datasets, name)
    if "loader" in inspect.signature(kind).parameters:
        arguments = {**arguments, "loader": str}
    try:
        return kind(str(root), **arguments)
    # On corrupt files torchvision and SciPy raise whatever they come upon.
    except Exception as error:  # noqa: BLE001
        raise DataError(f"torchvision's {name} can't read {root}: {first_line(error)}") from None


def _labels(dataset: Any) -> tuple[str, ...]:
    return tuple(vars(dataset).get("classes") or vars(type(dataset)).get("classes") or ())


def _source(dataset: Any, marker: Path) -> Source:
    """In the order of their paths, where there are paths: torchvision's SUN397 has the file
    system's."""
    if "loader" in inspect.signature(type(dataset)).parameters:
        rows: Sequence[tuple[str, int]] = sorted(dataset[index] for index in range(len(dataset)))
        samples = [
            Sample(key=f"{Path(path).parent.name}/{Path(path).name}", image=path, label=n)
            for path, n in rows
        ]
        return Files(samples, "pictures", marker)
    return Decoded(dataset, marker)


class Decoded(Source):
    """A data set of torchvision that yields decoded pictures; they are passed on without loss
    (PNG)."""

    def __init__(self, dataset: Any, marker: Path):
        self._dataset, self._marker = dataset, marker

    def __len__(self) -> int:
        return len(self._dataset)

    def where(self, index: int) -> tuple[str, str]:
        return str(self._marker), str(index)

    def __getitem__(self, index: int) -> Sample:
        picture, label = self._dataset[index]
        return Sample(key=str(index), image=png(picture), label=int(label))

    def describe(self) -> str:
        return (
            f"{len(self):,} pictures of torchvision's {type(self._dataset).__name__} in "
            f"{self._marker}"
        )
