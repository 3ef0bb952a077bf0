"""diptych demo: train on real handwriting on a CPU, evaluate, build a search index, write an HTML
report. Minutes."""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from diptych import recipes
from diptych.cli.parse import parse
from diptych.errors import ConfigError

COUNTS = {"train": 12000, "seen": 1000, "unseen": 1000, "pairs": 500}
"""Pictures of each part."""
SHARDS = 12
"""Of the training part."""
GOALS = {"digit": 0.90, "colour": 0.95}
"""Least zero-shot accuracy on combinations that training never showed."""
QUERIES = ("a red zero", "a small green seven")
"""The first is of a combination that training never showed. A third asks for two digits that a test
picture has."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Train a tiny CLIP on captioned scenes made of real handwritten digits, and show what it
    learned.

    diptych demo --out demo

    Writes OUT/data (shards), OUT/run (the model, which `diptych.load` reads), OUT/pictures.index
    and OUT/report.html. Run again, it keeps the pictures and trains anew; the same seed gives the
    same result. Ends with status 1 if the model is worse than it should be."""

    out: str = "demo"
    """Folder of everything that the demo writes."""
    steps: int = 0
    """Training steps; 0: as many as it needs."""
    seed: int = 0
    """Of the pictures and of the training."""


def run(arguments: Sequence[str]) -> int:
    """Parse and do it."""
    options = parse(Demo, "demo", arguments)
    unseen = demo(Path(options.out), options.steps, options.seed)
    missed = [
        f"{name} {unseen[name]:.1%}, expected {goal:.0%}"
        for name, goal in GOALS.items()
        if unseen[name] < goal
    ]
    if missed:
        print(f"The model is worse than it should be: {'; '.join(missed)}.", file=sys.stderr)
    return int(bool(missed))


def demo(out: Path, steps: int, seed: int) -> dict[str, float]:
    """Do all of it; the accuracies on combinations that training never showed."""
    from diptych import training
    from diptych.cli import demo_report
    from diptych.cli.demo_scores import measure, query_of, search
    from diptych.encoder import load
    from diptych.search import Index

    console = Console(stderr=True, highlight=False)
    recipe = recipes.tiny_digits(str(out), seed)
    plan = replace(recipe, steps=steps or recipe.steps)
    _forget(Path(plan.out))
    console.print(
        "[bold]1/4[/] Pictures: real handwriting, coloured and placed, each with a caption"
    )
    render(out / "data", seed, console)
    console.print(
        f"[bold]2/4[/] Training: {plan.steps} steps of {plan.batch_size} pairs, from nothing"
    )
    training.fit(plan)
    console.print(
        "[bold]3/4[/] Evaluation: handwriting and combinations that training never showed"
    )
    encoder = load(plan.out)
    scores = measure(encoder, out / "data" / "test")
    console.print("[bold]4/4[/] Search: an index of the test pictures, and three queries")
    index = out / "pictures.index"
    _forget(index)
    pair = next(sample for key, sample in scores.samples.items() if key.startswith("pairs"))
    pictures = Index.build(index, out / "data" / "test", encoder, progress=True)
    found = search(pictures, scores.samples, [*QUERIES, query_of(pair)])
    page = demo_report.write(out / "report.html", plan, scores, found)

    unseen = scores.accuracy["unseen"]
    print(
        f"digit, never seen in this colour    {unseen['digit']:.1%} of {COUNTS['unseen']} pictures, 10 classes"
    )
    print(
        f"colour, never seen on this digit    {unseen['colour']:.1%} of {COUNTS['unseen']} pictures, 10 classes"
    )
    print(f"both at once, of 100 combinations   {unseen['both']:.1%}")
    for one in found:
        right = sum(hit.right for hit in one.hits)
        print(
            f"“{one.query}”: {right} of the first {len(one.hits)} pictures fit; {one.fitting} exist"
        )
    print(f"report: {page.resolve()}")
    return unseen


def render(folder: Path, seed: int, console: Console) -> None:
    """Write the shards of all parts into `folder`, unless they are there already."""
    from diptych.data import scenes, write_shards

    stamp, made = (
        folder / "scenes.json",
        {"version": scenes.VERSION, "seed": seed, "counts": COUNTS},
    )
    if stamp.exists() and json.loads(stamp.read_text()) == made:
        console.print("      kept from the last time")
        return
    _forget(folder)
    for part in scenes.PARTS:
        count = COUNTS[part]
        samples = track(
            scenes.samples(part, count, seed=seed), f"{part:8}", total=count, console=console
        )
        if part == "train":
            write_shards(folder / "train", samples, per_shard=count // SHARDS)
        else:
            write_shards(folder / "test", samples, prefix=f"{part}-")
    (folder / "digits.txt").write_text("\n".join(scenes.DIGITS) + "\n")
    stamp.write_text(json.dumps(made))


def _forget(folder: Path) -> None:
    """Delete what an earlier demo left at `folder`, and nothing else."""
    marks = ("scenes.json", "run.json", "meta.json")
    if not folder.exists():
        return
    if not any((folder / mark).exists() for mark in marks):
        raise ConfigError(
            f"{folder} exists and was not written by `diptych demo`; choose another --out"
        )
    shutil.rmtree(folder)
