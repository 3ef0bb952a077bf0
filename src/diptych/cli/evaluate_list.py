"""diptych evaluate --list: what is known about sets, before any is on the disk."""

from collections.abc import Sequence

from diptych import datasets
from diptych.cli.show import Names, show


def show_sets(words: Sequence[str]) -> int:
    """A line a set, those that `words` mean or all of them; then the groups."""
    table = Names("set", "task", "classes", "test", "metric", "how to get it")
    wanted = list(filter(None, ",".join(words).split(",")))
    for entry in datasets.select(wanted or ["all"]):
        size = f"{entry.sizes['test']:,}" if "test" in entry.sizes else "—"
        table.add_row(
            entry.name, entry.kind, str(entry.classes or "—"), size, entry.metric, _how(entry)
        )
    show(table)
    groups = Names("group", "sets")
    for name, members in datasets.GROUPS.items():
        groups.add_row(name, f"{len(members)}: {', '.join(members)}")
    show(groups)
    return 0


def _how(entry: datasets.EvaluationSet) -> str:
    mirror = (
        f"clip-benchmark/wds_{entry.mirrors[0].replace('/', '-')} on the Hugging Face hub"
        if entry.mirrors
        else ""
    )
    reader = f"torchvision.datasets.{entry.torchvision}" if entry.torchvision else ""
    return "; ".join(filter(None, (mirror, reader, entry.how_to_get)))
