"""What each process of a run holds of the parameters, gradients and moments."""

from dataclasses import dataclass
from typing import Literal

from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """How a model is spread over the processes of a run (ZeRO, Rajbhandari et al. 2020,
    arXiv:1910.02054). The numbers are those of one process in every mode.

    >>> from diptych.config import ShardConfig
    >>> ShardConfig(mode="zero3", nodes=True).precision
    'fp32'
    """

    mode: Literal["replicate", "zero2", "zero3"] = "replicate"
    """`replicate`: every process holds everything. `zero2`: a share of the weights, gradients and
    moments each; a block's weights are gathered for the forward pass, and kept until its backward
    pass. `zero3`: they are gathered again for the backward pass; least memory, most traffic."""
    nodes: bool = False
    """Shards within a machine, copies between machines (HSDP): what is gathered crosses no
    network."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the blocks' weights as they are gathered: with `bf16` half the traffic, for runs whose
    `precision` is bf16. Weights that are trained, gradients that are summed, scales, biases of
    logits and the objective's heads stay in float32."""
    offload: bool = False
    """Shards, gradients and moments wait in the CPU's memory, where the optimiser's step is
    taken."""

    def __post_init__(self):
        if self.mode != "replicate":
            return
        idle = {"nodes": self.nodes, "precision": self.precision != "fp32", "offload": self.offload}
        for name in (name for name, asked in idle.items() if asked):
            raise ConfigError(
                f"--shard.{name} {getattr(self, name)} has no effect where every process holds "
                "everything: choose --shard.mode zero2 or zero3"
            )
