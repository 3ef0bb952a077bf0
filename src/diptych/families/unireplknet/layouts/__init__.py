"""UniRepLKNet's layout: its trunk, alone or within something else."""

from diptych.families.unireplknet.layouts.trunk import UNIREPLKNET
from diptych.weights.layout import Layout

__all__ = ["layouts"]


def layouts() -> tuple[Layout, ...]:
    """The one."""
    return (UNIREPLKNET,)
