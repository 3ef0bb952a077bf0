"""What others have printed of a model, to stand beside what was measured under the same
conventions."""

from collections.abc import Mapping
from typing import NamedTuple

from diptych import datasets, pretrained
from diptych.errors import UnknownNameError
from diptych.evaluation import Result

# What the list of models calls the figures that authors publish.
_CLAIMS = {
    ("imagenet1k", "top1"): "imagenet1k zero-shot top-1",
    ("coco", "text_to_image_r5"): "coco text-to-image R@5",
}
_MEASURED_AGAIN = ("", " (open_clip)")
"""Behind the name of a model: by its authors, by open_clip."""


class Published(NamedTuple):
    """A figure that somebody printed."""

    value: float
    source: str


class Setting(NamedTuple):
    """Whose figures on record those of a line may be compared with."""

    model: str
    """As results have it; empty for weights that were trained here."""
    profile: str
    frames: int = 1
    """Of each clip."""

    @classmethod
    def of(cls, result: Result) -> "Setting":
        """That of a result. Weights of one's own training are nobody's, whatever their folder is
        called."""
        provenance = result.model.get("provenance") or {}
        model = "" if "run" in provenance else str(result.model.get("name") or "")
        protocol = result.protocol
        profile, frames = str(protocol.get("profile") or ""), int(protocol.get("frames") or 1)
        return cls(model=model, profile=profile, frames=frames)


def on_record(setting: Setting, resize: str, name: str, metric: str) -> Published | None:
    """A set's figure, or the `mean` of a group, of pictures that were resized in the same way
    (`crop`, `squash`, `best`) or in one that isn't told; None where the publisher's convention has
    another split, size, metric or number of frames.

    >>> from diptych.reports.record import Setting, on_record
    >>> setting = Setting(model="/weights/EVA_CLIP_18B_psz14_s6B.fp16.pt", profile="eva-clip-18b")
    >>> on_record(setting, "best", "eva27", "mean").value
    0.807
    >>> on_record(setting._replace(profile="diptych"), "best", "eva27", "mean") is None
    True
    """
    if not setting.model:
        return None
    rows = [
        row
        for again in _MEASURED_AGAIN
        for row in datasets.published(model=setting.model + again, name=name)
        if (row.metric, row.frames) == (metric, setting.frames)
        and _alike(name, row.profile, setting.profile)
    ]
    row = next((row for way in (resize, "") for row in rows if row.resize == way), None)
    return Published(row.value / 100, row.source) if row else _claimed(setting, name, metric)


def given(
    published: Mapping[tuple[str, str, str], Published],
    names: tuple[str, ...],
    task: str,
    metric: str,
) -> Published | None:
    """The caller's own figure, under any of a model's names."""
    found = (published.get((name, task, metric)) for name in names)
    return next(filter(None, found), None)


def _alike(name: str, one: str, other: str) -> bool:
    """Whether two conventions ask the same samples of a set, or of each set of a group, and count
    alike."""
    if name in datasets.GROUPS:
        return all(_alike(member, one, other) for member in datasets.GROUPS[name])
    entry = datasets.builtin(name)
    try:
        changes = [datasets.profile(each or "diptych").of(entry) for each in (one, other) if entry]
    except UnknownNameError:
        return False
    return len({(change.split, change.size, change.metric) for change in changes}) == 1


def _claimed(setting: Setting, task: str, metric: str) -> Published | None:
    claim, entry = _CLAIMS.get((task, metric)), pretrained.identify(setting.model)
    if claim is None or entry is None:
        return None
    weights = pretrained.weights_of(setting.model)
    claims = (*(weights.claims if weights else ()), *entry.claims)
    found = (each for each in claims if each.metric == claim)
    return next((Published(each.value / 100, each.source) for each in found), None)
