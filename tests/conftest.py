"""What holds in all tests: shapes that are enforced, few threads, no network."""

import atexit
import gc
import os
from collections.abc import Generator

import pytest

from tests import shapes

# Two test processes share two cores; the loader's workers inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

shapes.enforce()

pytest_plugins = ["tests.small_models"]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """A million objects stay to the end: the collector needn't look at them again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.unfreeze)  # pytest's own last collections are spared them, too


def pytest_runtest_setup(item: pytest.Item) -> None:
    import torch  # only now: it reads OMP_NUM_THREADS when it is imported

    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
