"""`python -m benchmarks.gpu [--parts NAME ...] [--seconds N] [--out FOLDER]`: each part in a
process of its own, for as long as it may take; rows in FOLDER/rows.jsonl as they come, and a table.

Parts end early as a rule: their limits add up to more than there is, and their order says what may
be lost. Without a GPU everything is as small as the code allows: a rehearsal. Exit code 1: a row
failed or is wrong, or a part was cut off or broke down.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.gpu.setting import Row

PARTS = {
    "ceilings": 20,
    "correct": 100,
    "trained": 120,
    "loss": 75,
    "step:vit-b-32": 110,
    "step:vit-l-14": 110,
    "step:eva02-clip-l-14": 70,
    "text": 25,
    "decode": 75,
    "infer": 40,
    "step:vit-b-16": 45,
}
"""In this order; at most so many seconds each."""
_SHORT = 8
"""With fewer seconds left no part begins."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS], metavar="NAME")
    parser.add_argument("--seconds", type=float, default=560.0, help="for all parts together")
    parser.add_argument("--limit", type=float, default=1.0, help="a factor on each part's limit")
    parser.add_argument("--out", type=Path, default=Path("results/gpu"))
    parser.add_argument("--toy", action="store_true", help="small, on a GPU, too")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "rows.jsonl"
    file.unlink(missing_ok=True)
    end = time.monotonic() + arguments.seconds
    for name in arguments.parts:
        left = end - time.monotonic()
        if left < _SHORT:
            _add(file, {"part": name, "name": "the part", "skipped": "no time was left"})
            continue
        _run(name, file, min(PARTS[name] * arguments.limit, left), arguments.toy)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    Console(width=160).print(table(rows))
    sys.exit(any(map(is_wrong, rows)))


def _run(name: str, file: Path, seconds: float, toy: bool) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu.part", name, str(file)]
    with (file.parent / "log.txt").open("a") as log:
        try:
            done = subprocess.run(
                command + ["--toy"] * toy, timeout=seconds, stdout=log, stderr=subprocess.STDOUT
            )
        except subprocess.TimeoutExpired:
            _add(file, {"part": name, "name": "the part", "failed": f"cut off at {seconds:.0f} s"})
            return
    if done.returncode:
        why = f"ended with {done.returncode}: see log.txt"
        _add(file, {"part": name, "name": "the part", "failed": why})


def _add(file: Path, row: Row) -> None:
    with file.open("a") as rows:
        rows.write(json.dumps(row) + "\n")


def is_wrong(row: Row) -> bool:
    return "failed" in row or row.get("ok") is False


def table(rows: list[Row]) -> Table:
    """Rows that are wrong first."""
    made = Table(title=f"{len(rows)} rows, {sum(map(is_wrong, rows))} of them wrong")
    for title in ("part", "what", "result"):
        made.add_column(title)
    for row in sorted(rows, key=lambda row: not is_wrong(row)):
        hidden = ("part", "name", "traceback")
        values = {name: value for name, value in row.items() if name not in hidden}
        words = [f"{name} {_said(value)}" for name, value in values.items()]
        style = "red" if is_wrong(row) else None
        made.add_row(row["part"], row["name"], ", ".join(words), style=style)
    return made


def _said(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
