"""diptych demo: train on real handwriting on a CPU, evaluate, build a search index, write an HTML
report. Minutes."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diptych.cli.parse import parse
from diptych.cli.show import say
from diptych.config.ranges import Count, Seed
from diptych.writable import check_writable

if TYPE_CHECKING:
    from diptych.experiments import DemoResult


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Train a tiny CLIP on captioned scenes made of real handwritten digits, and show what it
    learned.

    diptych demo --out demo

    Writes OUT/data (shards), OUT/run (the model, which `diptych.load` reads), OUT/pictures.index
    and OUT/report.html. Run again, it keeps the pictures and trains anew; the same seed gives the
    same result. Ends with status 1 if the model is worse than it should be.
    """

    out: str = "demo"
    """Folder of everything that the demo writes."""
    steps: Count = 0
    """Training steps; 0: as many as it needs."""
    seed: Seed = 0
    """Of the pictures and of the training."""


def run(arguments: Sequence[str]) -> int:
    """Parse and do it; 1 if the model is worse than it should be."""
    options = parse(Demo, "demo", arguments)

    check_writable(options.out, "--out")
    from rich.console import Console

    from diptych.distributed import refuse_many
    from diptych.experiments import demo

    refuse_many("diptych demo")

    console = Console(stderr=True, highlight=False)
    result = demo(options.out, steps=options.steps, seed=options.seed, console=console)
    _print_scores(result)
    unseen = result.scores.accuracy["unseen"]
    missed = [
        f"{name} {unseen[name]:.1%}, expected {goal:.0%}" for name, goal in result.missed.items()
    ]
    if missed:
        say(f"The model is worse than it should be: {'; '.join(missed)}.", error=True)
    return int(bool(missed))


def _print_scores(result: "DemoResult") -> None:
    unseen, count = result.scores.accuracy["unseen"], len(result.scores.of("unseen"))
    for label, name in (
        ("digit, never seen in this colour ", "digit"),
        ("colour, never seen on this digit ", "colour"),
    ):
        say(f"{label}   {unseen[name]:.1%} of {count} pictures, 10 classes")
    say(f"both at once, of 100 combinations   {unseen['both']:.1%}")
    for one in result.searches:
        right = sum(hit.right for hit in one.hits)
        say(
            f"“{one.query}”: {right} of the first {len(one.hits)} pictures fit; {one.fitting} exist"
        )
    say(f"report: {result.page.resolve()}")
    say(f"search them in the browser: diptych app {shlex.quote(str(result.index))}")
