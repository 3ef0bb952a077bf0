"""Averages over groups of sets, and the better of two ways to resize."""

from collections.abc import Collection, Mapping

from diptych import datasets
from diptych.errors import UnknownNameError
from diptych.reports.labels import Line

BETTER = "better of crop and squash †"
"""Begins the label of a line that holds, set by set, the figures of the better way to resize."""
NOTE = (
    "† Of each set the way to resize that scores higher on its test pictures: an upper bound, "
    "as the EVA-CLIP-18B paper "
    "prints it, not something that a user gets."
)
_WAYS = ("crop", "squash")
_PREFIXES = ("", "linear/", "fewshot/")


def better_ways(
    scores: Mapping[tuple[Line, str], Mapping[str, float]], profiles: Mapping[Line, str]
) -> dict[tuple[Line, str], str]:
    """The better way to resize for each line (without the way) and task, of which `scores` holds
    the figure of each way that was measured. A task counts where all ways are there in which its
    profile shows its pictures, a line where one of its tasks has two.

    >>> from diptych.reports.averages import better_ways
    >>> from diptych.reports.labels import Line
    >>> line = Line(model="a", how="eva-clip-18b")
    >>> scores = {(line, "pets"): {"crop": 0.5, "squash": 0.6}, (line, "coco"): {"squash": 0.4}}
    >>> scores |= {(line, "cars"): {"crop": 0.9}}
    >>> list(better_ways(scores, {line: "eva-clip-18b"}).values())
    ['squash', 'squash']
    """
    found = dict[tuple[Line, str], str]()
    two = set[Line]()
    for (line, task), by_way in scores.items():
        wanted = _ways(task, profiles[line])
        if all(way in by_way for way in wanted):
            found[line, task] = max(wanted, key=lambda way: by_way[way])
            two |= {line} if len(wanted) > 1 else set()
    return {place: way for place, way in found.items() if place[0] in two}


def _ways(task: str, profile: str) -> tuple[str, ...]:
    """In which a convention shows a set's pictures; both, where it leaves that open."""
    entry = datasets.builtin(task.rpartition("/")[2])
    try:
        change = datasets.profile(profile or "diptych").of(entry) if entry else None
    except UnknownNameError:
        return _WAYS
    return (change.resize if change else ()) or _WAYS


def groups_of(tasks: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The groups, behind `linear/` and `fewshot/` too, of which some sets are among the tasks, and
    which of their sets aren't.

    >>> from diptych.reports.averages import groups_of
    >>> groups_of(("flickr30k", "coco"))["eva-retrieval2"]
    ()
    """
    found = dict[str, tuple[str, ...]]()
    for prefix in _PREFIXES:
        for name, members in datasets.GROUPS.items():
            missing = tuple(member for member in members if prefix + member not in tasks)
            if len(missing) < len(members):
                found[prefix + name] = missing
    return found
