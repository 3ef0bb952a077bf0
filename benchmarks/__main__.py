"""`python -m benchmarks [NAME ...] [--out FILE]`: a table of ratios, and the same as JSON."""

import argparse
import importlib
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import diptych

NAMES = (
    "startup",
    "inputs",
    "loader",
    "towers",
    "export",
    "texts",
    "trainer",
    "eva",
    "published",
    "loss",
    "late_interaction",
    "views",
    "teachers",
    "unireplknet",
    "probe",
    "retrieval",
    "search",
    "evaluation",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[*NAMES, []], default=[], metavar="NAME", help=", ".join(NAMES)
    )
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks.json"))
    arguments = parser.parse_args()
    console = Console()
    found = []
    for name in arguments.names or NAMES:
        for row in importlib.import_module(f"benchmarks.{name}").rows():
            found.append(row)
            console.print(f"{row.name}: {row.ratio:.2f}x", highlight=False)
    console.print(_table(found))
    machine = {"cores": os.cpu_count(), "processor": platform.processor(), "load": os.getloadavg()}
    versions = {
        "diptych": diptych.__version__,
        "torch": torch.__version__,
        "open_clip": _version("open_clip_torch"),
    }
    rows = [asdict(row) | {"ratio": row.ratio} for row in found]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(
        json.dumps({"machine": machine, "versions": versions, "rows": rows}, indent=2) + "\n"
    )
    console.print(f"written to {arguments.out}")


def _table(rows) -> Table:
    table = Table(
        title="Diptych beside its peer (open_clip unless a row says otherwise): medians; "
        "above 1: ahead"
    )
    for title in ("what", "Diptych", "peer", "unit", "ratio", "check"):
        table.add_column(title, justify="left" if title in ("what", "check") else "right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.ours:.4g}",
            f"{row.theirs:.4g}",
            row.unit,
            f"{row.ratio:.2f}",
            row.check,
        )
    return table


def _version(name: str) -> str:
    return importlib.import_module("importlib.metadata").version(name)


if __name__ == "__main__":
    main()
