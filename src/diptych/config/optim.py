"""How weights move."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from diptych.components import ADDED
from diptych.config.ranges import Above, Count, Factor, Ranged, Share, ShareBelowAll
from diptych.errors import ConfigError, UnknownNameError


class Optimizer(NamedTuple):
    """What a short name of an optimiser means."""

    implementation: str
    """`package.module:function` that makes it of parameter groups and an `OptimConfig`."""
    reads: tuple[str, ...]
    """Those of the fields `betas`, `eps` and `momentum` that it uses."""


OPTIMIZERS = {
    "adamw": Optimizer("diptych.optim.build:adamw", ("betas", "eps")),
    "adamw-8bit": Optimizer("diptych.optim.eight_bit:adamw_8bit", ("betas", "eps")),
    "lamb": Optimizer("diptych.optim.lamb:lamb", ("betas", "eps")),
    "lamb-deepspeed": Optimizer("diptych.optim.lamb:lamb_deepspeed", ("betas", "eps")),
    "lion": Optimizer("diptych.optim.lion:lion", ("betas",)),
    "sgd": Optimizer("diptych.optim.sgd:sgd", ("momentum",)),
}


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Ranged):
    """An optimiser with warm-up and decay to `final_lr`."""

    flags = "--optim."

    name: str = "adamw"
    """`adamw`: Loshchilov and Hutter 2019, arXiv:1711.05101; `adamw-8bit`: its moments in eight
    bits, with torchao (`pip install 'diptych[low-bit]'`). `lamb`: You et al. 2019,
    arXiv:1904.00962, as apex and timm have it; `lamb-deepspeed`: as DeepSpeed has it (the two
    differ: docs/training.md). `lion`: Chen et al. 2023, arXiv:2302.06675. `sgd`: with Nesterov's
    momentum, and decay as part of the gradient. Or your own, `package.module:function`: it is given
    torch's parameter groups and this configuration, and gives a torch.optim.Optimizer."""
    lr: Above = 5e-4
    """Peak learning rate."""
    betas: tuple[ShareBelowAll, ShareBelowAll] = (0.9, 0.98)
    """Of `adamw`, `lamb` and `lion`, whose paper has 0.9 and 0.99."""
    eps: Factor = 1e-6
    """Of `adamw` and `lamb`."""
    momentum: ShareBelowAll = 0.9
    """Of `sgd`."""
    weight_decay: Factor = 0.2
    decayed: Literal["matrices", "tensors", "tables"] = "matrices"
    """What decays. `matrices`: the weights of linear, convolution and embedding layers. `tensors`:
    whatever has two dimensions or more, so position tables, too, as in open_clip. `tables`:
    position tables, class tokens and the bias of joint queries, keys and values, too; so only
    norms, other biases and scales don't. As DeCLIP published it."""
    scale_lr: Factor = 1.0
    """The learning rate of the logit scale is this times that of the rest; 0: it stays as it is."""
    warmup: Count = 0
    """Steps from 0 to the peak."""
    start_lr: Factor | None = None
    """The first step's rate, from which the warm-up rises. With it, the last step of the warm-up
    has the peak and the last step of all `final_lr`, as DeCLIP counts. None: the warm-up
    starts at 0, and the schedule ends just before `final_lr`."""
    schedule: Literal["cosine", "constant", "linear"] = "cosine"
    final_lr: Factor = 0.0
    cooldown: Share = field(default=0.0, metadata=ADDED)
    """Of `constant`: the last share of all steps, in which the rate falls to `final_lr` (warm-up,
    stable, decay: Hägele et al. 2024, arXiv:2405.18392); 0: it doesn't."""
    cooldown_power: Above = field(default=1.0, metadata=ADDED)
    """Of the cooldown: 1 falls along a line, a higher one steeply at first."""
    part: tuple[Share, Share] = (0.0, 1.0)
    """The part of the schedule that this run goes through: a training in stages has (0, 0.75) in
    the first, (0.75, 1) in the second."""
    max_norm: Factor = 0.0
    """Gradients are scaled down to this total norm; 0: never."""

    def __post_init__(self):
        super().__post_init__()
        if self.name not in OPTIMIZERS and ":" not in self.name:
            raise UnknownNameError("optimiser", self.name, OPTIMIZERS)
        if self.name.rpartition(":")[0].endswith(".py"):  # saved in run.json, which runs no file
            raise ConfigError(
                f"--optim.name {self.name} names a file; put its folder on PYTHONPATH and write "
                "module:function"
            )
        if self.start_lr is not None and self.warmup < 2:
            raise ConfigError(
                f"--optim.start-lr {self.start_lr} needs 2 or more steps of warm-up, "
                f"not {self.warmup}"
            )
        if self.cooldown and self.schedule != "constant":
            raise ConfigError(
                f"--optim.cooldown {self.cooldown} is of --optim.schedule constant, and this is "
                f"{self.schedule}, which falls by itself"
            )
        if self.cooldown_power != 1 and not self.cooldown:
            raise ConfigError(
                f"--optim.cooldown-power {self.cooldown_power} has no effect without "
                "--optim.cooldown"
            )
        if not self.part[0] < self.part[1]:
            raise ConfigError(f"--optim.part {self.part} must be two rising numbers from 0 to 1")

    @property
    def implementation(self) -> str:
        """`package.module:function` of what `name` means."""
        known = OPTIMIZERS.get(self.name)
        return known.implementation if known else self.name
