"""What `make bench` runs is importable with what `make test` installs."""

import importlib
import inspect

import pytest

from benchmarks.__main__ import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_is_importable_and_yields_rows(name: str) -> None:
    assert inspect.isgeneratorfunction(importlib.import_module(f"benchmarks.{name}").rows)
