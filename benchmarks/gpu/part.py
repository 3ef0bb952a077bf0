"""One part in a process of its own: `python -m benchmarks.gpu.part NAME FILE`. Every row is written
to FILE at once."""

import argparse
import importlib
import json
import os
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.gpu.setting import Check, Row, Setting


def run(checks: Iterable[Check], setting: Setting) -> Iterator[Row]:
    """The rows of all checks. One that raises is a row, and not the end."""
    for check in checks:
        try:
            yield from check(setting)
        except Exception as error:  # noqa: BLE001
            lines = traceback.format_exc().splitlines()[-8:]
            yield {
                "name": check.__name__,
                "failed": f"{type(error).__name__}: {error}"[:300],
                "traceback": lines,
            }
        setting.free()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("file", type=Path)
    parser.add_argument("--toy", action="store_true")
    arguments = parser.parse_args()
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    import torch

    module, _, model = arguments.name.partition(":")
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    setting = Setting(device=torch.device(kind), toy=arguments.toy or kind == "cpu", model=model)
    with arguments.file.open("a") as file:
        for row in run(importlib.import_module(f"benchmarks.gpu.{module}").CHECKS, setting):
            file.write(json.dumps({"part": arguments.name} | row) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
