"""What is measured on: one split of an evaluation dataset, open."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diptych.batch import Sample
from diptych.data import Source
from diptych.datasets.class_names import prompts_sha256
from diptych.datasets.entry import Kind

FIELDS: dict[Kind, tuple[str, ...]] = {
    "zero-shot": ("label",),
    "multilabel": ("labels",),
    "retrieval": ("captions",),
    "choice": ("captions", "label"),
    "video": ("label",),
}
"""What of a sample each kind of dataset needs."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One split, and how it is scored, whoever described it: an `EvaluationSet`, or the user.

    Everything but `source` is plain, so that a result can hold it.
    """

    name: str
    kind: Kind
    source: Source
    """Labels are indices of `class_names`."""
    metric: str
    """The figure that the dataset is known by."""
    class_names: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    class_prompts: tuple[tuple[str, ...], ...] = ()
    """Of each class, in place of templates; empty: templates make them."""
    split: str = "test"
    """Of the data: what the profile tests on (`all`), if the test was asked for."""
    profile: str = "own"
    """Whose conventions: prompts, metric, layout."""
    resizes: tuple[str, ...] = ()
    """The ways in which the profile shows pictures; empty: as the model was trained."""
    class_indices: tuple[int, ...] = ()
    """Of a part of ImageNet: its classes among the thousand. Names and labels are the part's
    already; a classifier trained on all is asked about these. Empty: the same classes."""
    max_bad_share: float = 0.0
    """Of bad samples; more of them is an error."""
    path: str = ""
    """Data of one's own: where it lies."""
    title: str = ""
    layout: str = ""
    """In which it was found."""
    files_sha256: str = ""
    """Of the names and sizes of the files that hold the split."""
    expected: int = 0
    """Samples of the published split; 0: there is no agreed number."""
    remarks: tuple[str, ...] = ()
    """What a reader of the numbers should know: another size, missing or odd classes, bad files."""
    reading: tuple[object, ...] = ()
    """What samples say depends on it, beside their files, numbers and class names; plain JSON."""
    shown: str = ""
    """Which pictures of the files are taken, where the user says so."""
    frames: int = 1
    """Of each clip."""

    @property
    def fields(self) -> tuple[str, ...]:
        """What of a sample the kind of dataset needs."""
        return FIELDS[self.kind]

    @property
    def prompts_sha256(self) -> str:
        """A digest of names and templates; empty where there are none."""
        if not self.class_names:
            return ""
        said = [line for prompts in self.class_prompts for line in (*prompts, "")]
        return prompts_sha256(self.class_names, said or self.templates)

    @property
    def about(self) -> Mapping[str, Any]:
        """What a result says of the data beside its name and split; plain JSON."""
        if self.path:
            return {"path": self.path, "remarks": list(self.remarks)}
        return {
            "title": self.title,
            "layout": self.layout,
            "sha256": self.files_sha256,
            "expected": self.expected,
            "remarks": list(self.remarks),
        }

    def labelled(self, sample: Sample) -> bool:
        """Whether a sample says something of what the kind of dataset needs."""
        found = {"label": sample.label, "labels": sample.labels, "captions": sample.captions}
        return any(found[name] not in (None, ()) for name in self.fields)
