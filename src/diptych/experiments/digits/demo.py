"""All of the demo: pictures, training, evaluation, a search index, a page."""

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from diptych import training
from diptych.encoder import load
from diptych.experiments.digits import page
from diptych.experiments.digits.queries import DemoSearch, query_of, search
from diptych.experiments.digits.render import STAMP, delete_earlier, render
from diptych.experiments.digits.scores import DemoScores, measure
from diptych.families.tiny.recipes import tiny_digits
from diptych.search import Index

GOALS = {"digit": 0.90, "colour": 0.95}
"""Least zero-shot accuracy on combinations that training never showed."""
QUERIES = ("a red zero", "a small green seven")
"""The first is of a combination that training never showed. A third asks for two digits that a test
picture has."""


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the model of a demo knows, and where its page is."""

    scores: DemoScores
    searches: list[DemoSearch]
    page: Path
    index: Path
    """Of the test pictures."""

    @property
    def missed(self) -> dict[str, float]:
        """The goals that weren't reached: accuracy expected, by name."""
        unseen = self.scores.accuracy["unseen"]
        return {name: goal for name, goal in GOALS.items() if unseen[name] < goal}


def demo(
    out: str | Path = "demo", *, steps: int = 0, seed: int = 0, console: Console | None = None
) -> DemoResult:
    """Train a tiny CLIP on captioned scenes of real handwritten digits and show what it learned.

    Writes `out/data` (shards), `out/run` (the model, which `diptych.load` reads),
    `out/pictures.index` and `out/report.html`. `steps`: 0 for as many as it needs, four minutes on
    two CPU cores. The same seed gives the same result. `console` shows the stages and progress
    bars; None: quiet. Raises ConfigError where something that isn't a demo's stands in `out`.
    """
    out, shown = Path(out), console or Console(quiet=True)
    progress = console is not None
    recipe = tiny_digits(str(out), seed)
    plan = replace(recipe, steps=steps or recipe.steps)
    index = out / "pictures.index"
    for earlier in (Path(plan.out), index):
        delete_earlier(earlier, out / "data" / STAMP)
    shown.print("[bold]1/4[/] Pictures: real handwriting, coloured and placed, each with a caption")
    render(out / "data", seed, shown)
    shown.print(
        f"[bold]2/4[/] Training: {plan.steps} steps of {plan.batch_size} pairs, from nothing"
    )
    training.fit(plan, progress=progress)
    shown.print("[bold]3/4[/] Evaluation: handwriting and combinations that training never showed")
    encoder = load(plan.out)
    scores = measure(encoder, out / "data" / "test", progress)
    shown.print("[bold]4/4[/] DemoSearch: an index of the test pictures, and three queries")
    pictures = Index.build(index, out / "data" / "test", encoder, progress=progress)
    found = search(pictures, scores.samples, [*QUERIES, query_of(scores.of("pairs")[0])])
    written = page.write(out / "report.html", plan, scores, found)
    return DemoResult(scores=scores, searches=found, page=written, index=index)
