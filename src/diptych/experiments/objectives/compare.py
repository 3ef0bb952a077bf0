"""All of the objectives benchmark: what everyone shares, the runs, their figures, a page."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console

from diptych.config.serialize import to_dict
from diptych.durable import write_file
from diptych.errors import ConfigError
from diptych.experiments.objectives import page, setting, table
from diptych.experiments.objectives.config import ObjectivesConfig
from diptych.experiments.objectives.runs import Score, compete, seconds_of_a_step
from diptych.experiments.objectives.setting import Setting
from diptych.version import __version__

_FEWEST = 20
"""Steps below which nothing is learned."""
_TRAINING = 0.85
"""Share of the budget that is for training; the rest is for measuring."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Every run's figures, the table of them, and the files that have them."""

    scores: list[Score]
    columns: tuple[str, ...]
    rows: list[list[str]]
    results: Path
    page: Path


def compare_objectives(config: ObjectivesConfig, *, console: Console | None = None) -> Comparison:
    """Train each objective with each seed, measure all alike, write results.json and report.html.

    Interrupted, the same call goes on where it stopped. `console` shows the stages; None: quiet.
    Raises UnknownNameError for an unknown objective, ConfigError for too small a budget or where
    runs with another number of steps stand in `config.out`.
    """
    shown, out = console or Console(quiet=True), Path(config.out)
    shared = setting.prepare(config, shown)
    steps = config.steps or _affordable_steps(shared, config, shown)
    if steps < _FEWEST:
        raise ConfigError(
            f"{config.budget:g} minutes are {steps} steps for each run, too few to learn from; "
            "raise --budget, or take fewer --objectives or --seeds"
        )
    scores = compete(shared, config, steps, shown)
    return Comparison(
        scores=scores,
        columns=table.COLUMNS,
        rows=table.rows(scores),
        results=_save(out / "results.json", config, steps, scores),
        page=page.write(out / "report.html", shared, config, steps, scores),
    )


def _affordable_steps(shared: Setting, config: ObjectivesConfig, console: Console) -> int:
    """As many steps for each run as fit into the budget together, by the time of a few.

    The number is kept: measured anew after an interruption, it would be another one, and the runs
    that are done would have had more or fewer steps than the rest.
    """
    kept = Path(config.out) / "steps.json"
    asked = {
        "budget": config.budget,
        "seeds": config.seeds,
        "objectives": list(config.objectives),
        "data": config.data,
    }
    if kept.exists():
        content = json.loads(kept.read_text())
        if content["asked"] == asked:
            return content["steps"]
    seconds = seconds_of_a_step(shared, config, console)
    # One step of every objective takes `seconds`, and each seed takes all of them again.
    steps = int(_TRAINING * 60 * config.budget / (config.seeds * seconds))
    text = json.dumps({"asked": asked, "steps": steps}) + "\n"
    write_file(kept, lambda part: part.write_text(text))
    return steps


def _save(path: Path, config: ObjectivesConfig, steps: int, scores: Sequence[Score]) -> Path:
    """All figures and what they depend on, as JSON."""
    content = {
        "diptych": __version__,
        "torch": torch.__version__,
        "options": to_dict(config),
        "steps": steps,
        "scores": [asdict(score) for score in scores],
    }
    return write_file(path, lambda part: part.write_text(json.dumps(content, indent=2) + "\n"))
