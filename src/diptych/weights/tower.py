"""What is known of the weights of one kind of tower, beside their names."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from diptych.components import import_object
from diptych.config import Activation, TowerConfig
from diptych.errors import CheckpointError, ConfigError
from diptych.weights.state import State


class TowerWeights:
    """The default: weights are taken as they are, and tell nothing. A family overrides what its
    tower can do; configurations name the subclass (`TowerConfig.weights`).

    All names are those of the tower alone, without `image.` or `text.`.

    >>> from diptych.families.clip import VitConfig
    >>> from diptych.weights.tower import tower_weights
    >>> tower_weights(VitConfig).sizes
    ('image_size', 'patch_size')
    """

    sizes: tuple[str, ...] = ()
    """Fields of the configuration, in pixels, that can be changed after training (`resize`)."""
    projections: tuple[str, ...] = ("projection.",)
    """What names of the matrix to the shared space begin with."""
    not_compared: tuple[str, ...] = ()
    """Fields that may differ between a file's tower and one that starts from it without a word:
    they concern fresh weights, or the weights' names tell them."""
    has_deploy_form: bool = False
    """Whether `deploy` merges anything."""

    def infer(self, shapes: Mapping[str, Tensor], activation: Activation) -> Any | None:
        """The configuration behind weights of these names and shapes; None if they are of another
        kind, or don't tell it. `activation` leaves no trace in weights."""
        return None

    def resize(self, state: State, config: Any) -> tuple[State, list[str]]:
        """The weights with tables and kernels as large as `config` wants them, and a sentence on
        each that is not as it was. Raises CheckpointError for what can't be resized."""
        return state, []

    def in_form(self, state: State, config: Any) -> tuple[State, Any]:
        """Of a tower that has several forms, the one that `config` asks for, or the one that the
        weights are in; the configuration then says which."""
        return state, config

    def shared(self, state: State, config: Any) -> State:
        """The whole model's weights, of which this part's may be another part's, too: each once.
        `config`: the part's."""
        return state

    def deploy(self, state: State, config: Any) -> tuple[State, Any]:
        """The tower in the form in which it computes fastest: the same vectors."""
        return state, config

    def fresh(self, theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> dict[str, str]:
        """Names of ours that a file may lack when training starts from it, each with a sentence on
        what becomes of them."""
        return {}

    def embed_dim(self, shapes: Mapping[str, Tensor]) -> int | None:
        """The width of the shared space; None for a tower without projection."""
        matrices = (f"{prefix}weight" for prefix in self.projections)
        return next((len(shapes[name]) for name in matrices if name in shapes), None)


def tower_weights(config: TowerConfig | type[TowerConfig]) -> TowerWeights:
    """What the configuration, or its class, names."""
    return import_object(config.weights)()


def resize_tower(
    state: State, config: Any, image_size: int | None = None, patch_size: int | None = None
) -> tuple[State, Any]:
    """An image tower's weights and configuration for pictures or patches of another size, in
    pixels: tables and kernels are interpolated, all else stays. None: as it is.

    Raises CheckpointError for a tower that can't be given another size, and ConfigError for sizes
    that don't fit.

    >>> import torch
    >>> from diptych.families.clip import VitConfig
    >>> from diptych.weights import State
    >>> from diptych.weights.tower import resize_tower
    >>> state = State.of({"positions": torch.zeros(1 + 7 * 7, 768)})
    >>> resized, config = resize_tower(state, VitConfig(image_size=224), image_size=448)
    >>> config.image_size, resized["positions"].shape
    (448, torch.Size([197, 768]))
    """
    asked = {"image_size": image_size, "patch_size": patch_size}
    asked = {name: size for name, size in asked.items() if size is not None}
    if not asked:
        return state, config
    known = tower_weights(config)
    for name in asked:
        if name == "image_size" and config.native:
            raise ConfigError(
                "this model takes pictures of any size; patches= (--patches) says how many "
                "patches a picture has at the most"
            )
        if name not in known.sizes:
            raise CheckpointError(
                f"the {name} of a {type(config).__name__} can't be changed after training; "
                "set it in its configuration"
            )
    changed = replace(config, **asked)
    return known.resize(state, changed)[0], changed


def interpolated(before: State, after: State) -> list[str]:
    """A sentence on each tensor whose shape was changed by interpolation.

    >>> import torch
    >>> from diptych.weights import State
    >>> from diptych.weights.tower import interpolated
    >>> small, large = torch.zeros(5, 2), torch.zeros(10, 2)
    >>> interpolated(State.of({"positions": small}), State.of({"positions": large}))
    ['positions is interpolated to [10, 2]']
    """
    shapes, old = after.shapes, before.shapes
    changed = [name for name in shapes if shapes[name].shape != old[name].shape]
    return [f"{name} is interpolated to {list(shapes[name].shape)}" for name in changed]
