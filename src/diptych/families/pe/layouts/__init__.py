"""PE-Core's weights: open_clip's layout is shared (see `timm`), the authors' is their own."""

from diptych.families.pe.layouts import meta
from diptych.weights.layout import Layout

__all__ = ["layouts"]


def layouts() -> tuple[Layout, ...]:
    """The authors'."""
    return (meta.PE,)
