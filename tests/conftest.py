"""Shapes in signatures are enforced under pytest: wrong ones fail here, and cost nothing in use."""

import os

from jaxtyping import install_import_hook

# Two test processes share two cores; the loader's workers inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

install_import_hook("diptych", "beartype.beartype")

pytest_plugins = ["tests.small_models"]
