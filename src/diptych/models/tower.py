"""The contract of all towers: what goes in, what comes out, and what can be set in training."""

from typing import Generic, Literal, NamedTuple, TypeVar, assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.modules.conv import (
    _ConvNd,  # pyright: ignore[reportPrivateUsage]: torch has no public name for it
)

from diptych.config import TowerConfig
from diptych.errors import ConfigError
from diptych.models.recompute import recompute
from diptych.models.shapes import shapes_only
from diptych.nn import PatchDropout, PatchEmbedding, StochasticDepth
from diptych.nn.norm import batch_norms

TokenKind = Literal["none", "raw", "normed", "projected"]
"""Which tokens a caller wants of a tower: see `Tower.forward`."""


class TowerOutput(NamedTuple):
    """What a tower makes of a batch."""

    tokens: Tensor
    """[batch, tokens, width] of the kind that was asked for: see `Tower.forward`."""
    feature: Tensor
    """[batch, feature width], the vector before the last projection."""
    pooled: Tensor
    """[batch, embed_dim], the feature projected to the shared space; not of unit length."""


C = TypeVar("C", bound=TowerConfig)


def check_batch(tensor: Tensor, *axes: str) -> None:
    """Raises ConfigError for a tensor of other axes than these, such as one without the batch's.

    >>> import torch
    >>> from diptych.models.tower import check_batch
    >>> check_batch(torch.zeros(2, 77), "texts", "length")
    >>> check_batch(torch.zeros(77), "texts", "length")
    Traceback (most recent call last):
    ...
    diptych.errors.ConfigError: a tensor of shape (77,) is no batch [texts, length]; x[None] is a \
batch of one
    """
    if tensor.ndim != len(axes):
        raise ConfigError(
            f"a tensor of shape {tuple(tensor.shape)} is no batch [{', '.join(axes)}]; "
            "x[None] is a batch of one"
        )


class Tower(nn.Module, Generic[C]):
    """Pixels or token ids -> token features and one vector in the shared space.

    All that a tower computes, it computes when it is called: forward hooks see every use of it, and
    sharding gathers its parameters then.

    A tower registers its parts in the order in which data runs through them; `layer_of` rests on
    it.
    """

    config: C
    width: int
    """Of `tokens`."""
    class_tokens: int = 0
    """How many of the first `tokens` aren't patches."""
    blocks: nn.ModuleList | list[nn.Module]
    """The repeated blocks in order: the units of activation checkpointing, compilation and
    sharding."""

    readout: str = ""
    """The attention pool of a tower that is unlocked from its end with it: before the projection,
    or in a tower without one in its place."""
    always_projects: bool = True
    """Whether there is no such tower without a projection to the shared space."""

    @classmethod
    def build(cls, config: C, embed_dim: int | None, device: torch.device) -> "Tower[C]":
        """The tower on `device`, before `init`; `embed_dim` None: without a projection. Raises
        ConfigError where it can't be without.

        It is made on `meta`, so that torch's own initialisation costs nothing.
        """
        cls.check_projection(config, embed_dim)
        with shapes_only():
            tower = cls(config, embed_dim)
        # On meta `to_empty` would only import sympy, which takes a second.
        return tower if device.type == "meta" else tower.to_empty(device=device)

    @classmethod
    def check_projection(cls, config: C, embed_dim: int | None) -> None:
        """Raises ConfigError for a tower without a projection where there is none."""
        if embed_dim is None and cls.always_projects:
            raise ConfigError(f"a {type(config).__name__} has no tower without a projection")

    def forward(self, x: Tensor, tokens: TokenKind = "raw") -> TowerOutput:
        """Tokens, feature and pooled vector of pixels [batch, 3, size, size] or of ids [batch,
        length].

        | `tokens`    | the output's `tokens`                                               |
        | ----------- | ------------------------------------------------------------------- |
        | "none"      | [batch, 0, width]: what only the tokens would need isn't computed   |
        | "raw"       | [batch, tokens, width], as the last block leaves them               |
        | "normed"    | [batch, tokens, width], behind the tower's final norm               |
        | "projected" | [batch, tokens, embed_dim], behind the final norm and the projection |

        Feature and pooled vector are the same whichever tokens are asked for. Raises ConfigError
        for a kind of tokens that the tower doesn't have.
        """
        raise NotImplementedError

    def _check_pictures(self, pixels: Float[Tensor, "batch 3 height wide"], side: int) -> None:
        """Raises ConfigError for pictures that aren't squares of this side."""
        check_batch(pixels, "pictures", "3", "height", "width")
        if pixels.shape[2:] != (side, side):
            raise ConfigError(
                f"pictures of {tuple(pixels.shape[2:])} pixels; this tower takes {side} x {side}"
            )

    def _select(
        self,
        x: Tensor,
        tokens: TokenKind,
        norm: nn.Module | None = None,
        projection: nn.Module | None = None,
    ) -> Tensor:
        """The tokens that are asked for, of the last block's output `x`: [batch, ..., width]."""
        match tokens:
            case "none":
                return x.new_empty(x.shape[0], 0, self.width)
            case "raw":
                return x
            case "normed" | "projected":
                if norm is None:
                    raise ConfigError(f"a {type(self).__name__} has no norm for its tokens")
                if tokens == "normed":
                    return norm(x)
                if projection is None:
                    raise ConfigError(f"a {type(self).__name__} doesn't project its tokens")
                return projection(norm(x))
            case _:
                assert_never(tokens)

    @property
    def units(self) -> list[nn.Module]:
        """What sharding and compilation take one at a time: the blocks."""
        return list(self.blocks)

    @property
    def feature_width(self) -> int:
        """Of the output's `feature`."""
        return self.width

    @property
    def grid(self) -> int | None:
        """The side of the grid of patches that its pictures are read as, whose `tokens` those
        behind the class tokens are; such a tower's `forward` takes `masked` (`nn.patch.Masked`),
        too. None: it has none."""
        return None

    def real_patches(self, pixels: Tensor) -> Bool[Tensor, "batch patches"] | None:
        """Which of the `tokens` behind the class tokens are of these pictures, in a tower where
        shorter rows are filled up (`ImageTowerConfig.native`). None: all are."""
        return None

    def patch_vectors(
        self, pixels: Float[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch patches embed_dim"] | None:
        """Of each patch, in reading order, a vector in the shared space of its own: what heat maps
        compare with texts (`models.heat`). None: this tower reads its patches by no attention or
        mean that could be taken apart, and its maps come from gradients."""
        return None

    def read_tokens(
        self, pixels: Float[Tensor, "batch 3 height wide"]
    ) -> tuple[Tensor, Tensor, int]:
        """Tokens [batch, tokens, width], pooled vectors that were computed from them, and how many
        of the first tokens aren't patches: what gradients of heat maps go through."""
        tokens, _, pooled = self(pixels)
        return tokens, pooled, self.class_tokens

    def set_patch_gradient(self, factor: float) -> None:
        """Scale the gradient that comes back to the patches' projection (EVA-02, arXiv:2303.11331;
        0: as frozen). Raises ConfigError for a tower that makes no patches by one."""
        found = [module for module in self.modules() if isinstance(module, PatchEmbedding)]
        if not found:
            raise ConfigError(
                f"patch_gradient: a {type(self).__name__} has no projection of patches"
            )
        for module in found:
            module.gradient = factor

    def freeze_patches(self) -> None:
        """Leave the patches' projection as it is. Raises ConfigError for a tower that makes no
        patches by one."""
        raise ConfigError(f"freeze_patches: a {type(self).__name__} has no projection of patches")

    def set_patch_dropout(self, share: float) -> None:
        """In training, leave out this share of each picture's patches. Raises ConfigError for a
        tower that can't, or for a share outside of [0, 1)."""
        _check_share("patch_dropout", share)
        drops = [module for module in self.modules() if isinstance(module, PatchDropout)]
        if not drops:
            raise ConfigError(f"patch_dropout: a {type(self).__name__} drops no patches")
        for drop in drops:
            drop.share = share

    def set_stochastic_depth(self, rate: float) -> None:
        """In training, leave out the last block's residual branches at this rate, and those of the
        blocks before it at rates that rise from 0 in equal steps (Huang et al. 2016,
        arXiv:1603.09382, §3). Raises ConfigError for a tower whose blocks can't, or for a rate
        outside of [0, 1)."""
        _check_share("stochastic_depth", rate)
        found, steps = False, max(1, len(self.blocks) - 1)
        for i, block in enumerate(self.blocks):
            for module in block.modules():
                if isinstance(module, StochasticDepth):
                    found, module.rate = True, rate * i / steps
        if not found:
            raise ConfigError(f"stochastic_depth: a {type(self).__name__} leaves out no branches")

    def init(self) -> None:
        """Fill every parameter and buffer with its value before training."""
        raise NotImplementedError

    def init_as(self, table: str) -> None:
        """Fill every parameter by another table than `init`'s, of this name. Raises ConfigError for
        one that the tower doesn't have."""
        raise ConfigError(f"initial {table}: a {type(self).__name__} has but its own table")

    def flops(self) -> int:
        """Floating-point operations of `forward` for one sample at full size; a multiply-add counts
        two. Matrix products, convolutions and attention are counted, as `torch.utils.flop_counter`
        does."""
        raise NotImplementedError

    def flops_for(self, patches: int) -> int:
        """The same of a picture of so many patches, for towers that take pictures of their own
        aspect (`ImageTowerConfig.native`). Raises ConfigError for others."""
        raise ConfigError(f"a {type(self).__name__} takes pictures of one size")

    def set_checkpointing(self, on: bool = True) -> None:
        """Recompute each block's activations in the backward pass: less memory, about a third more
        time, the same gradients and batch statistics. Raises ConfigError for a tower without
        blocks."""
        if not len(self.blocks):
            raise ConfigError(
                "checkpointing needs a tower of repeated blocks, and none were found in this one"
            )
        recompute(self.blocks, on)

    @property
    def layers(self) -> int:
        """The depth behind the last block, the greatest that `layer_of` gives."""
        return len(self.blocks) + 1

    def layer_of(self, name: str) -> int:
        """The depth of a parameter, by which layer decay (of the learning rate) goes: 0 before
        the first block, i within the i-th, `layers` behind the last. What stands between two blocks
        belongs to the former. Raises KeyError for a name that isn't a parameter."""
        depth_of: dict[nn.Parameter, int] = {}
        for i, block in enumerate(self.blocks, 1):
            depth_of |= dict.fromkeys(block.parameters(), i)
        depth = 0
        for current, parameter in self.named_parameters():
            behind = depth if depth < len(self.blocks) else len(self.blocks) + 1
            here = depth_of.get(parameter, behind)
            if current == name:
                return here
            depth = max(depth, depth_of.get(parameter, 0))
        raise KeyError(name)

    def layer_groups(self) -> list[list[str]]:
        """Names of the parameters in groups from the input to the output, by which a tower is
        unlocked from its end: what `layer_of` puts in one layer, but that `readout` and projection
        are a group of their own and what else is behind the last block goes with that block. As
        open_clip counts the groups of its towers."""
        names = [name for name, _ in self.named_parameters()]
        # Parts are registered in the order in which data runs through them: the projection is last.
        projection = {f"{part}." for part in (self.readout, names[-1].rpartition(".")[0]) if part}
        groups: dict[int, list[str]] = {}
        for name in names:
            behind = self.layers if name.startswith(tuple(projection)) else self.layers - 1
            groups.setdefault(min(self.layer_of(name), behind), []).append(name)
        return [groups[depth] for depth in sorted(groups)]

    @property
    def no_decay(self) -> set[str]:
        """Names of the parameters without weight decay: all but the matrices of linear, convolution
        and embedding layers. So gains, biases, position tables and class tokens have none."""
        matrices = {
            f"{name}.weight"
            for name, m in self.named_modules()
            if isinstance(m, nn.Linear | _ConvNd | nn.Embedding)
        }
        return {name for name, _ in self.named_parameters() if name not in matrices}

    @property
    def batch_statistics(self) -> bool:
        """Whether a sample's output depends on its batch (batch normalisation, where it isn't
        frozen)."""
        return any(norm.training for norm in batch_norms(self))


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"{name} {value} must lie in [0, 1)")
