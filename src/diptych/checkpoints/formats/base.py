"""What a published format is to Diptych."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from diptych.checkpoints.read import Weights
from diptych.checkpoints.rename import Table
from diptych.checkpoints.state import State
from diptych.config import ClipConfig, ImageTowerConfig
from diptych.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Source:
    """Weights as they were found."""

    path: Path
    """As the user named it, for messages."""
    file: Path
    """The weights; configuration files would lie beside them."""
    weights: Weights


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way to publish a CLIP model: a rename table, and where its configuration stands."""

    name: str
    image: tuple[str, ...]
    """Names of which one tells an image tower of this layout."""
    text: tuple[str, ...]
    """Names of which one tells a text tower of this layout; empty: the layout has none."""
    scale: tuple[str, ...]
    """Names of which one tells the logit scale; empty: the layout may lack it."""
    table: Callable[[Collection[str]], Table]
    """The rename table for a checkpoint with these foreign names."""
    config: Callable[[Source, State], tuple[ClipConfig, dict[str, Any]]]
    """The configuration (from files beside the weights, or from shapes), and notes for the
    provenance."""
    tower_config: Callable[[Source, State], ImageTowerConfig] | None = None
    """The image tower's, from shapes, for a file that holds it alone; None: shapes don't tell
    it."""
    weight_files: tuple[str, ...]
    """Names that weights have in a folder of this format, the preferred first."""

    def lacks(self, names: Collection[str]) -> str:
        """The first name that a whole model of this layout would have and `names` doesn't; empty if
        it matches."""
        groups = (group for group in (self.image, self.text, self.scale) if group)
        return next((group[0] for group in groups if not any(name in names for name in group)), "")


def refuse(source: Source, state: State) -> NoReturn:
    """The configuration of a model in a layout of image towers alone: raises CheckpointError."""
    raise CheckpointError(
        "it holds an image tower without a text tower; load_image_tower() reads it"
    )
