"""All of a comparison: fairness, costs, the runs, their figures, a page."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console

from diptych.config import Run
from diptych.config.serialize import to_dict
from diptych.durable import write_file
from diptych.experiments.comparison import page, table
from diptych.experiments.comparison.compute import Step, costs, with_equal_flops, with_steps
from diptych.experiments.comparison.config import CompareConfig
from diptych.experiments.comparison.fairness import check_fair, with_shared_towers
from diptych.experiments.comparison.measures import Measures, measures_of
from diptych.experiments.comparison.runs import Score, compete
from diptych.experiments.comparison.table import Tested
from diptych.version import __version__


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Every run's figures, the tables of them, and the files that have them."""

    scores: list[Score]
    tests: list[Tested]
    columns: tuple[str, ...]
    rows: list[list[str]]
    results: Path
    page: Path


def compare_runs(
    variants: Mapping[str, Run],
    config: CompareConfig,
    *,
    console: Console | None = None,
    measures: Measures | None = None,
    references: Mapping[str, str] | None = None,
    title: str = "Runs, side by side",
) -> Comparison:
    """Train each variant with each seed, measure all alike, write results.json and report.html.

    `variants` are runs by name that differ in what is compared; seeds and folders are the
    benchmark's. Interrupted, the same call goes on where it stopped. `console` shows the stages;
    None: quiet. `measures`: what is asked of each model; None: what the first variant measures on
    the way. `references`: beside whom each variant is tested; None: all beside the first. Raises
    ConfigError, naming the setting, where variants differ in what everyone should share, and where
    other runs stand in `config.out`.

        compare_runs({"all": run, "half": half}, CompareConfig(seeds=5, out="benchmark"))
    """
    shown = console or Console(quiet=True)
    check_fair(variants, config)
    plans = with_steps(with_shared_towers(variants))
    spent = costs(plans, config, shown)
    if config.equal == "flops":
        plans = with_equal_flops(plans, spent)
    first, *others = plans
    scores = compete(plans, measures or measures_of(plans[first]), config, shown)
    tested = table.tests(scores, references or dict.fromkeys(others, first))
    out = Path(config.out)
    return Comparison(
        scores=scores,
        tests=tested,
        columns=table.columns(scores),
        rows=table.rows(scores, spent),
        results=_save(out / "results.json", plans, spent, scores, tested, config),
        page=page.write(out / "report.html", title, plans, spent, scores, tested, config),
    )


def _save(
    path: Path,
    variants: Mapping[str, Run],
    spent: Mapping[str, Step],
    scores: list[Score],
    tested: list[Tested],
    config: CompareConfig,
) -> Path:
    """All figures and what they depend on, as JSON."""
    found = page.curves(variants, spent, scores, config)
    lines = dict[str, object]()
    for figure, by_variant in found.items():
        lines[figure] = {name: [p._asdict() for p in own] for name, own in by_variant.items()}
    content = {
        "diptych": __version__,
        "torch": torch.__version__,
        "options": to_dict(config),
        "variants": {
            name: {"run": to_dict(run), "steps": run.steps, "cost": spent[name]._asdict()}
            for name, run in variants.items()
        },
        "scores": [asdict(score) for score in scores],
        "tests": [asdict(each) | {"difference": each.difference._asdict()} for each in tested],
        "curves": lines,
    }
    return write_file(path, lambda part: part.write_text(json.dumps(content, indent=2) + "\n"))
