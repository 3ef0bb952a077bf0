"""What is known about an evaluation set before any file is opened."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Task = Literal["zero-shot", "multilabel", "retrieval", "choice", "video"]
"""`zero-shot`: one class a picture. `multilabel`: several. `retrieval`: captions. `choice`: which
of the captions fits (Winoground, SugarCrepe). `video`: one class a clip, of which the middle frame
is the picture."""
Metric = Literal[
    "top1", "mean_per_class", "mean_top1_top5", "map", "map11", "auc", "mean_recall", "choice"
]
"""`mean_top1_top5`: their mean. `map`: mean over classes of average precision; `map11`: of the
11-point interpolated one (Everingham et al. 2010). `auc`: area under the ROC curve of a set of two
classes."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """One evaluation set, as Diptych scores it unless a `Profile` says otherwise.

    >>> from diptych.evaluation import sets
    >>> sets.get("cifar10").classes, sets.get("cifar10").sizes["test"]
    (10, 10000)
    """

    name: str
    title: str
    task: Task = "zero-shot"
    classes: int = 0
    """How many; 0 where there are only captions."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Samples of a split. `all`: every split together. A split that is missing here has no agreed
    size."""
    metric: Metric = "top1"
    prompts: str = ""
    """The data file of class names and templates, `prompts/NAME.json`; empty: the set's own
    name."""
    mirrors: tuple[str, ...] = ()
    """Names in CLIP_benchmark, which are also names here. `vtab/dtd` lies in the folder
    `wds_vtab-dtd`."""
    torchvision: str = ""
    """The class in torchvision.datasets that reads the original layout."""
    original: str = ""
    """The reader of ours for the original layout (`layouts`)."""
    aliases: tuple[str, ...] = ()
    how_to_get: str = ""
    """Beside the mirror and torchvision: what to fetch, and where it must lie."""
    licence: str = "not stated"
    """Of the pictures, in the words of their publisher."""
    source: str = ""
    """The paper or page that the set comes from."""
    note: str = ""
    """What changes numbers, or what people get wrong."""

    @property
    def folders(self) -> tuple[str, ...]:
        """Names below the data root at which the set is looked for: of the mirrors, then its
        own."""
        mirrors = (f"wds_{mirror.replace('/', '-')}" for mirror in self.mirrors)
        return (*mirrors, self.name, *self.aliases)
