"""`metrics.jsonl` is the truth about a run; TensorBoard and W&B read what it is told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diptych.config import Run
from diptych.config.serialize import to_dict
from diptych.errors import ConfigError

Row = dict[str, Any]
Listener = Callable[[Row], None]


class MetricsFile:
    """Appends rows; on resume, rows after the step it continues from are dropped first."""

    def __init__(self, path: Path, step: int):
        self._path = path
        kept = (
            [row for row in read_metrics(path) if row["step"] <= step]
            if path.exists() and step
            else []
        )
        fresh = path.with_suffix(".partial")
        fresh.write_text("".join(json.dumps(row) + "\n" for row in kept))
        fresh.replace(path)

    def __call__(self, row: Row) -> None:
        with open(self._path, "a") as file:
            file.write(json.dumps(row) + "\n")


def read_metrics(path: Path) -> list[Row]:
    """The rows of a `metrics.jsonl`; a last line cut off by a crash is left out."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def listeners(run: Run, out: Path, step: int) -> list[Listener]:
    """`metrics.jsonl` and the trackers that the run asks for."""
    found: list[Listener] = [MetricsFile(out / "metrics.jsonl", step)]
    if run.track.tensorboard:
        found.append(_tensorboard(out))
    if run.track.wandb:
        found.append(_wandb(run, out))
    return found


def _tensorboard(out: Path) -> Listener:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "track.tensorboard needs TensorBoard: pip install 'diptych[track]'"
        ) from error
    writer = SummaryWriter(str(out / "tensorboard"))

    def write(row: Row) -> None:
        for name, value in _scalars(row):
            writer.add_scalar(name, value, row["step"])
        writer.flush()

    return write


def _wandb(run: Run, out: Path) -> Listener:
    try:
        import wandb
    except ImportError as error:
        raise ConfigError("track.wandb needs W&B: pip install 'diptych[track]'") from error
    session = wandb.init(
        project=run.track.wandb, dir=str(out), config=to_dict(run), id=out.name, resume="allow"
    )
    return lambda row: session.log(dict(_scalars(row)), step=row["step"])


def _scalars(row: Row, prefix: str = ""):
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            yield prefix + name, value
