"""The objectives benchmark: a comparison of runs that differ in their objective, and in how much of
the data they have."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from diptych.errors import ConfigError
from diptych.experiments.comparison.compare import Comparison, compare_runs
from diptych.experiments.comparison.compute import FEWEST, costs
from diptych.experiments.comparison.config import CompareConfig
from diptych.experiments.objectives import setting
from diptych.experiments.objectives.config import ObjectivesConfig

_TRAINING = 0.85
"""Share of the budget that is for training; the rest is for measuring."""


def compare_objectives(config: ObjectivesConfig, *, console: Console | None = None) -> Comparison:
    """Train each objective with each seed, measure all alike, write results.json and report.html.

    Interrupted, the same call goes on where it stopped. `console` shows the stages; None: quiet.
    Raises UnknownNameError for an unknown objective, ConfigError for too small a budget or where
    other runs stand in `config.out`.
    """
    if 0 < config.steps < FEWEST:
        raise ConfigError(f"--steps {config.steps} are too few to learn from: {FEWEST} or more")
    shown = console or Console(quiet=True)
    shared = setting.prepare(config, shown)
    variants = shared.variants(config, config.steps or 1)
    comparison = CompareConfig(
        seeds=config.seeds,
        differ=("data.share",) if len(config.shares) > 1 else (),
        jobs=config.jobs,
        points=config.points,
        out=str(Path(config.out)),
    )
    if not config.steps:
        spent = costs(variants, comparison, shown)
        # A step of every variant takes so long, and each seed takes all of them again.
        seconds = config.seeds * sum(step.seconds for step in spent.values())
        steps = int(_TRAINING * 60 * config.budget * config.jobs / seconds)
        if steps < FEWEST:
            raise ConfigError(
                f"{config.budget:g} minutes are {steps} steps for each run, too few to learn from; "
                "raise --budget, or take fewer --objectives or --seeds"
            )
        variants = {name: replace(run, steps=steps) for name, run in variants.items()}
    return compare_runs(
        variants,
        comparison,
        console=shown,
        measures=shared.measures,
        references=shared.references(config),
        title="Objectives, side by side",
    )
