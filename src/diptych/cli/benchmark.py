"""diptych benchmark objectives --data digits --budget 60 --out benchmark"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from diptych.cli.parse import parse
from diptych.errors import ConfigError

_NAMES = ("clip", "slip", "declip", "filip", "defilip")
_FEWEST = 20


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Train every objective alike, and compare what the models know.

    diptych benchmark objectives --data digits --budget 60 --out benchmark

    The same towers, data, batch, steps, optimiser and seeds; nothing is tuned for anyone. Writes
    OUT/results.json and OUT/report.html. Interrupted, the same command goes on where it stopped."""

    subject: Annotated[Positional[Literal["objectives"]], arg(metavar="objectives")]
    """What is compared."""
    data: str = "digits"
    """digits: the demo's scenes of real handwriting. Else training pairs: shards, a table or a
    folder of classes."""
    test: str = ""
    """Labelled pictures that are held back; not for digits."""
    class_names: str = ""
    """A text file, one name a line, in class order; not for digits, and a folder can do without."""
    templates: tuple[str, ...] = ("a photo of a {}.",)
    """Captions of a class; not for digits."""
    objectives: tuple[str, ...] = _NAMES
    """Any of clip, slip, declip, filip, defilip."""
    seeds: int = 3
    """Runs of each objective, from different random numbers; the intervals come from them."""
    budget: float = 60.0
    """Minutes for all runs together; the steps that fit in are the same for everyone."""
    steps: int = 0
    """Steps of each run, whatever the budget; 0: by the budget."""
    out: str = "benchmark"
    """Folder of everything that the benchmark writes."""

    def __post_init__(self):
        if self.seeds < 1 or self.budget <= 0 or self.steps < 0:
            raise ConfigError("seeds and budget must be above 0, and steps not below")
        if self.data != "digits" and not self.test:
            raise ConfigError(
                "give --test, labelled pictures to measure with; or --data digits, which has its own"
            )


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    options = parse(Benchmark, "benchmark", arguments)

    from rich.console import Console

    from diptych.cli import benchmark_report, benchmark_runs

    console, out = Console(stderr=True, highlight=False), Path(options.out)
    field = benchmark_runs.prepare(options, console)
    steps = options.steps or benchmark_runs.affordable_steps(field, options, console)
    if steps < _FEWEST:
        raise ConfigError(
            f"{options.budget:g} minutes are {steps} steps for each run, too few to learn from; raise --budget, "
            "or take fewer --objectives or --seeds"
        )
    scores = benchmark_runs.compete(field, options, steps, console)
    benchmark_report.show_table(scores)
    print(f"results: {benchmark_runs.save(out / 'results.json', options, steps, scores).resolve()}")
    print(
        f"report: {benchmark_report.write(out / 'report.html', field, options, steps, scores).resolve()}"
    )
