"""Loggers: `metrics.jsonl` is the truth about a run; TensorBoard and W&B get the same rows."""

import contextlib
import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from diptych.bounded import parse_json, read_whole
from diptych.config import Run
from diptych.config.serialize import to_dict
from diptych.durable import append, write_file
from diptych.errors import ConfigError, DamageWarning, DataError, DiptychWarning, first_line

Row = dict[str, Any]
"""One line of `metrics.jsonl`: values by name."""
Logger = Callable[[Row], None]
"""Called with each row; raises OSError when it can't be written."""
_MOST = 2_000_000_000
"""Bytes of a file of rows that are read."""
_MEASURED = ("evaluation", "val/loss", "evaluation_failed")
"""What a row of an evaluation has; the others are of training."""


class MetricsFile:
    """The logger that appends rows to a file; on resume, rows after the step that it continues from
    are dropped first."""

    def __init__(self, path: Path, step: int):
        self._path = path
        kept = (
            [row for row in read_metrics(path) if row["step"] <= step]
            if path.exists() and step
            else []
        )
        text = "".join(json.dumps(row) + "\n" for row in kept)
        write_file(path, lambda part: part.write_text(text))

    def __call__(self, row: Row) -> None:
        append(self._path, json.dumps(row) + "\n")


def read_metrics(path: Path) -> list[Row]:
    """The rows of a `metrics.jsonl`. A last line that a crash cut off is left out, and lines that a
    disk damaged are, of which a DamageWarning tells. Raises DataError for what is no file.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from diptych.training import read_metrics
    >>> path = Path(tempfile.mkdtemp(), "metrics.jsonl")
    >>> _ = path.write_text('{"step": 10, "loss": 2.5}\\n{"step": 20, "lo')
    >>> read_metrics(path)
    [{'step': 10, 'loss': 2.5}]
    """
    try:
        *lines, cut_off = read_whole(path, _MOST).split(b"\n")
    except ValueError as error:
        raise DataError(f"{path} can't be read: {error}") from None
    found = {number: _row(line) for number, line in enumerate(lines, 1) if line.strip()}
    rows = [row for row in [*found.values(), _row(cut_off)] if row is not None]
    if bad := [number for number, row in found.items() if row is None]:
        more = f" and {len(bad) - 1} more lines are" if bad[1:] else " is"
        warnings.warn(
            f"{path}: line {bad[0]}{more} damaged, and left out", DamageWarning, stacklevel=2
        )
    return rows


def _row(line: bytes) -> Row | None:
    try:
        row = parse_json(line)
    except ValueError:
        return None
    whole = isinstance(row, dict) and type(row.get("step")) is int
    return row if whole and all(_fits(name, value) for name, value in row.items()) else None


def _fits(name: str, value: Any) -> bool:
    """Whether a value in a row is what is written under its name."""
    match name:
        case "evaluation":
            return isinstance(value, dict) and all(map(_is_number, value.values()))
        case "evaluation_failed":
            return isinstance(value, list) and all(isinstance(reason, str) for reason in value)
        case _:
            return _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_evaluation(row: Row) -> bool:
    """Whether it says what was measured, and not how training goes."""
    return any(name in row for name in _MEASURED)


def open_loggers(run: Run, out: Path, step: int, stack: contextlib.ExitStack) -> list[Logger]:
    """`metrics.jsonl` and the trackers that the run asks for, from `step` on; trackers are closed
    with `stack`. Raises ConfigError for a tracker that doesn't work."""
    found: list[Logger] = [MetricsFile(out / "metrics.jsonl", step)]
    if run.track.tensorboard:
        found.append(_lenient("--track.tensorboard", _tensorboard(out, stack)))
    if run.track.wandb:
        found.append(_lenient("--track.wandb", _wandb(run, out, stack)))
    return found


def _lenient(name: str, logger: Logger) -> Logger:
    """A tracker that fails on the way is said once, and ends no training: it only repeats what
    `metrics.jsonl` holds."""
    failed = list[str]()

    def write(row: Row) -> None:
        try:
            logger(row)
        except Exception as error:  # noqa: BLE001 (whatever their code raises)
            if not failed:
                failed.append(name)
                warnings.warn(
                    f"{name}: step {row['step']} couldn't be recorded there ({first_line(error)}); "
                    "training goes on, and metrics.jsonl has all",
                    DiptychWarning,
                    stacklevel=2,
                )

    return write


def _tensorboard(out: Path, stack: contextlib.ExitStack) -> Logger:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "--track.tensorboard needs TensorBoard: pip install 'diptych[track]'"
        ) from error
    writer = SummaryWriter(str(out / "tensorboard"))
    stack.callback(writer.close)

    def write(row: Row) -> None:
        for name, value in _scalars(row):
            writer.add_scalar(name, value, row["step"])
        writer.flush()

    return write


def _wandb(run: Run, out: Path, stack: contextlib.ExitStack) -> Logger:
    try:
        import wandb
        from wandb.errors import Error
    except ImportError as error:
        raise ConfigError("--track.wandb needs W&B: pip install 'diptych[track]'") from error
    name = wandb_id(out)
    try:
        session = wandb.init(
            project=run.track.wandb,
            dir=str(out),
            config=to_dict(run),
            id=name,
            name=out.name,
            resume="allow",
        )
    except Error as error:
        raise ConfigError(
            f"--track.wandb: {first_line(error)}; `wandb login` once, or set WANDB_MODE=offline"
        ) from error

    def finish(kind: object, error: object, trace: object) -> None:
        session.finish(exit_code=int(kind is not None))

    stack.push(finish)
    return lambda row: session.log(dict(_scalars(row)), step=row["step"])


def wandb_id(out: Path) -> str:
    """The run's name at W&B: another one for each folder, whatever its last part, and the same when
    the folder has moved."""
    file = out / "wandb-id.txt"
    if not file.exists():
        digest = hashlib.sha256(str(out.resolve()).encode()).hexdigest()
        write_file(file, lambda part: part.write_text(f"{out.name}-{digest[:12]}\n"))
    return file.read_text().strip()


def _scalars(row: Row, prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a row, those of nested ones as `outer/inner`; the step, their place, is left
    out."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            yield prefix + name, value
