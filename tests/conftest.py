"""Shapes in signatures are enforced under pytest: wrong ones fail here, and cost nothing in use."""

import gc
import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Two test processes share two cores; the loader's workers inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

SOURCES = Path(__file__).parents[1] / "src"


def modules_with_shapes() -> list[str]:
    """Of the package. The others' types are pyright's to check: here each of their calls would be
    looked at twice, a quarter of the time that all tests take."""
    files = [file for file in SOURCES.rglob("*.py") if "jaxtyping" in file.read_text("utf-8")]
    return [".".join(file.relative_to(SOURCES).with_suffix("").parts) for file in files]


install_import_hook(modules_with_shapes(), "beartype.beartype")

pytest_plugins = ["tests.small_models"]


def pytest_collection_finish() -> None:
    """A million objects stay to the end: the collector needn't look at them again and again."""
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # at the end they go


def pytest_runtest_setup(item: pytest.Item) -> None:
    import torch  # only now: it reads OMP_NUM_THREADS when it is imported

    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
