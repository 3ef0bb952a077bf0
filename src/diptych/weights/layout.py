"""A layout: one way in which models are published, and how it becomes ours and back."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from torch import Tensor

from diptych.config import (
    ClipConfig,
    ImageTowerConfig,
    PreprocessConfig,
    TextTowerConfig,
    TokenizerConfig,
    TowerConfig,
)
from diptych.errors import CheckpointError
from diptych.weights.mapping import Table
from diptych.weights.read import WeightFile
from diptych.weights.state import State

GIVE_CONFIG = (
    "give config= (on the command line --config, in training --model.name): a model's name, or a "
    "JSON file that describes it"
)
"""What to do where weights don't say how they are built."""


@dataclass(frozen=True, kw_only=True)
class WeightSource:
    """Weights as they were found."""

    path: Path
    """As the user named it, for messages."""
    file: Path
    """The weights; configuration files would lie beside them."""
    weights: WeightFile
    """Under the model's own names."""
    beside: tuple[str, ...] = ()
    """Names in the file that belong to no part of the model."""
    given: ImageTowerConfig | None = None
    """What whoever reads them says of the image tower; None: nothing."""


class Inputs(NamedTuple):
    """How what a tower sees is made, of the kind that it sees; the default is CLIP's."""

    preprocess: PreprocessConfig = PreprocessConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()


@dataclass(frozen=True, kw_only=True)
class Export:
    """How models of ours are written in a layout."""

    name: str
    """What it is called by `diptych convert --to`."""
    write: Callable[[Path, Any, Mapping[str, Tensor]], None]
    """Writes the configuration (of the part) and weights under our names to a path that doesn't
    exist yet. Raises CheckpointError for what the layout can't hold."""
    place: Literal["folder", "file"] = "folder"
    """`file`: the weights alone; their reader needs the configuration from elsewhere."""
    part: Literal["model", "image"] = "model"
    """`image`: the image tower alone, without its projection."""
    holds: Callable[[TowerConfig], bool] = lambda tower: True
    """Whether it is meant for such an image tower, or text tower where that is alone: of several of
    one name, the first that is writes."""
    texts: Callable[[TowerConfig], bool] | None = None
    """Whether it is meant for such a text tower of a whole model; None: for all that no other is
    meant for."""
    alone: bool = False
    """Whether it writes a model that is one tower alone, too."""
    cuts: bool = False
    """Whether of a whole model it holds the image tower alone, with its projection."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way to publish a CLIP model, or its image tower: a rename table, where the configuration
    stands, how models of ours are written so."""

    name: str
    image: tuple[str, ...]
    """Names of which one tells an image tower of this layout."""
    text: tuple[str, ...]
    """Names of which one tells a text tower of this layout; empty: the layout has none."""
    scale: tuple[str, ...]
    """Names of which one tells the logit scale; empty: the layout may lack it."""
    table: Callable[[Collection[str]], Table]
    """The rename table for a checkpoint with these foreign names."""
    config: Callable[[WeightSource, State], tuple[ClipConfig, dict[str, Any]]]
    """The configuration (from files beside the weights, or from shapes), and notes for the
    provenance: `assumed` is what the weights don't say; a user is warned of it."""
    tower_config: (
        Callable[[WeightSource, State], tuple[ImageTowerConfig, dict[str, Any]]] | None
    ) = None
    """The same of an image tower that lies alone in its file; None: nothing says enough."""
    text_config: Callable[[WeightSource, State], tuple[TextTowerConfig, dict[str, Any]]] | None = (
        None
    )
    """The same of a text tower that lies alone in its file."""
    inputs: Callable[[Path, TowerConfig], Inputs | None] = lambda folder, tower: None
    """What the files beside a tower that lies alone say of its inputs; None: nothing."""
    is_described: Callable[[WeightSource], bool] = lambda source: False
    """Whether what lies beside weights says that they are an image tower in this layout: of one
    whose names tell nothing."""
    supplied: Callable[[WeightSource], Mapping[str, Tensor]] = lambda source: {}
    """Ours that the file may lack and something beside it says, such as a scale that isn't
    stored; what the file has counts more."""
    config_file: str = ""
    """The file beside the weights from which `config` reads, where it is there; empty: none."""
    model_types: tuple[str, ...] = ()
    """What `model_type` is in transformers' config.json of such models; of a tower alone
    `_vision_model` or `_text_model` stands behind it."""
    weight_files: tuple[str, ...]
    """Names that weights have in a folder of this layout, the preferred first."""
    describe: Callable[[dict[str, Any], Path], ClipConfig | None] | None = None
    """The configuration that a JSON file describes, given what it holds and where it is; None: it
    is of another layout. Raises CheckpointError or ConfigError for one that doesn't fit."""
    describe_image: Callable[[dict[str, Any], Path], ImageTowerConfig | None] | None = None
    """The same of a file that describes an image tower alone."""
    describe_name: Callable[[str], ClipConfig | None] = lambda name: None
    """The image tower alone, and how its pictures are made, that a name means in the library whose
    layout it is; None: it knows no such name."""
    hint: Callable[[Collection[str]], str] = lambda names: ""
    """What to do with weights of these names that may be in this layout, where nothing says so;
    empty: they aren't."""
    exports: tuple[Export, ...] = ()
    """How it is written; empty: it is only read."""
    priority: int = 0
    """Of two layouts that share names, the more particular one is tried first: the higher one."""

    def lacks(self, names: Collection[str]) -> str:
        """The first name that a whole model of this layout would have and `names` doesn't; empty if
        it matches."""
        for group in (self.image, self.text, self.scale):
            if group and not any(name in names for name in group):
                return group[0]
        return ""


def refuse(source: WeightSource, state: State) -> NoReturn:
    """The configuration of a model in a layout of image towers alone: raises CheckpointError."""
    raise CheckpointError("the layout is that of image towers alone")
