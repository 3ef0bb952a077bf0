"""What is known of the weights of timm's towers."""

import functools
from dataclasses import replace

import torch

from diptych.errors import CheckpointError
from diptych.families.timm.config import TimmConfig
from diptych.families.timm.model import build_trunk, fixed_size
from diptych.weights.mapping import check_fit
from diptych.weights.state import State
from diptych.weights.tower import TowerWeights

_TRUNK = "trunk."
_MERGED = ".reparam_conv.weight"
_BRANCHES = ".conv_kxk."
"""Within names of blocks with parallel branches, as MobileOne, RepVGG and FastViT have them."""


class TimmWeights(TowerWeights):
    """Of a trunk with a projection; a trunk of parallel branches has a deploy form."""

    sizes = ("image_size",)
    projections = ("projection.", "projection.down.")
    has_deploy_form = True

    def resize(self, state: State, config: TimmConfig) -> tuple[State, list[str]]:
        """As they are, of a trunk that takes pictures of any size. Raises CheckpointError for
        another."""
        if fixed_size(config.name) is not None:
            raise CheckpointError(
                f"the image_size of timm's {config.name} can't be changed after training; set it "
                "in its configuration"
            )
        return state, []

    def in_form(self, state: State, config: TimmConfig) -> tuple[State, TimmConfig]:
        """What is merged already can't be taken apart: it stays so, and the configuration says
        it."""
        if any(name.endswith(_MERGED) for name in state):
            return state, replace(config, deploy=True)
        if not config.deploy:
            return state, config
        return self.deploy(state, replace(config, deploy=False))

    def deploy(self, state: State, config: TimmConfig) -> tuple[State, TimmConfig]:
        """The trunk with the branches of each block merged; one without branches as it is.

        It is computed in float64 and rounded once, to the trunk's kind of numbers or to float32 if
        that is finer.
        """
        if config.deploy or not any(_BRANCHES in name for name in state):
            return state, config
        from timm.utils.model import reparameterize_model

        own = state.part(_TRUNK)
        trunk = build_trunk(config).double().eval()
        check_fit(own.shapes, trunk.state_dict())
        trunk.load_state_dict(own)
        merged = reparameterize_model(trunk, inplace=True).state_dict()
        kinds = {tensor.dtype for tensor in own.shapes.values() if tensor.is_floating_point()}
        finest = functools.reduce(torch.promote_types, kinds, torch.float32)
        rounded = {
            name: tensor.to(finest) if tensor.is_floating_point() else tensor
            for name, tensor in merged.items()
        }
        return state.replaced(_TRUNK, State.of(rounded)), replace(config, deploy=True)
