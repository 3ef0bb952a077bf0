"""diptych benchmark objectives --data digits --budget 60 --out benchmark"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from diptych.cli.parse import parse
from diptych.cli.show import Names, say, show
from diptych.experiments import ObjectivesConfig
from diptych.writable import check_writable


@dataclass(frozen=True, kw_only=True)
class Benchmark(ObjectivesConfig):
    """Train every objective alike, and compare what the models know.

    diptych benchmark objectives --data digits --budget 60 --out benchmark

    The same towers, data, batch, steps, optimiser and seeds; nothing is tuned for anyone. Writes
    OUT/results.json and OUT/report.html. Interrupted, the same command goes on where it stopped.
    """

    subject: Annotated[Positional[Literal["objectives"]], arg(metavar="objectives")]
    """What is compared."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    options = parse(Benchmark, "benchmark", arguments)

    check_writable(options.out, "--out")
    from rich.console import Console

    from diptych.distributed import refuse_many
    from diptych.experiments import compare_objectives

    refuse_many("diptych benchmark")

    found = compare_objectives(options, console=Console(stderr=True, highlight=False))
    table = Names(*found.columns)
    for line in found.rows:
        table.add_row(*line)
    show(table)
    say(f"results: {found.results.resolve()}")
    say(f"report: {found.page.resolve()}")
