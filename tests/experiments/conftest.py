"""What the tests of experiments share."""

import pytest
from rich.console import Console


@pytest.fixture
def quiet() -> Console:
    """Shows nothing."""
    return Console(quiet=True)
