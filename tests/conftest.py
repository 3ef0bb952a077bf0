"""Shapes in signatures are enforced under pytest: wrong ones fail here, and cost nothing in use."""

import os

import pytest
from jaxtyping import install_import_hook

# Two test processes share two cores; the loader's workers inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

install_import_hook("diptych", "beartype.beartype")

pytest_plugins = ["tests.small_models"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    import torch  # only now: it reads OMP_NUM_THREADS when it is imported

    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
