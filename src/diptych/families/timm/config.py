"""Image towers of the `timm` library."""

from dataclasses import dataclass, field
from typing import Any

from diptych.config import ImageTowerConfig


@dataclass(frozen=True, kw_only=True)
class TimmConfig(ImageTowerConfig):
    """Any image tower of the `timm` library, with a linear projection to the shared space."""

    implementation = "diptych.families.timm.model:TimmTower"

    name: str
    """timm's name, such as `convnext_tiny`."""
    image_size: int = 224
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments for `timm.create_model`."""
