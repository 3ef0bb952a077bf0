"""One complete experiment. A saved Run reproduces the run."""

from dataclasses import dataclass, field
from typing import Literal

from diptych.components import ADDED
from diptych.config.data import DataConfig
from diptych.config.model import ClipConfig
from diptych.config.objective import ClipObjectiveConfig, ObjectiveConfig
from diptych.config.optim import OptimConfig
from diptych.config.ranges import (
    Above,
    Count,
    CountOrAll,
    Factor,
    Layers,
    OwnPixels,
    Ranged,
    Seed,
    Share,
    ShareBelowAll,
    ShareOfSome,
    Some,
)
from diptych.config.shard import ShardConfig
from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TowerOptions(Ranged):
    """What a run asks of one tower."""

    init: str = ""
    """Start this tower from these weights: a whole model or a tower alone, in any known format.
    Empty: as the model."""
    size: OwnPixels = 0
    """Of the image tower: side of the pictures in pixels, where it isn't to be the model's own;
    position tables are interpolated to it. 0: the model's own."""
    context: Count = field(default=0, metadata=ADDED)
    """Of the text tower: tokens of a text at the most, where they aren't to be the model's own; a
    longer table of positions is stretched (Long-CLIP, arXiv:2403.15378: 248). 0: the model's
    own."""
    freeze: bool = False
    """The tower's weights stay as they are (LiT, arXiv:2111.07991, freezes the image tower)."""
    unlocked_layers: Layers = 0
    """Train only the tower's last so many groups of layers (`Tower.layer_groups`): 1 is the
    projection, 2 also the last block, and so on. All before stays as it is, batch statistics too.
    0: train all, or, with `freeze`, nothing."""
    freeze_patches: bool = False
    """The patches' projection stays as it was initialised (MoCo v3, arXiv:2104.02057; DeCLIP as
    published)."""
    patch_gradient: Share = field(default=1.0, metadata=ADDED)
    """Factor on the gradient that reaches the patches' projection (EVA-02, arXiv:2303.11331:
    0.1)."""
    initial: str = field(default="", metadata=ADDED)
    """By which table weights are drawn that nothing is started from, where the tower knows several:
    of EVA's towers `eva01` and `eva02`, those of their masked image modelling. Empty: the tower's
    own."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    lr: Above | None = None
    """Peak learning rate of the tower; the schedule's first and final rates are scaled alike. None:
    `optim.lr`."""
    weight_decay: Factor | None = None
    """Of what decays in the tower. None: `optim.weight_decay`."""
    layer_decay: ShareOfSome = 1.0
    """Layer-wise learning-rate decay (layer decay, BEiT, arXiv:2106.08254): the learning rate of a
    layer is this times that of the layer behind it, so that what a tower that was trained before
    has learned first changes least. 1: all layers alike."""
    patch_dropout: ShareBelowAll = 0.0
    """Share of patches left out in training (FLIP, arXiv:2212.00794)."""
    stochastic_depth: ShareBelowAll = 0.0
    """Share of samples for which the last block's residual branches are left out in training; it
    grows linearly from 0 at the first block (arXiv:1603.09382)."""

    def __post_init__(self):
        super().__post_init__()
        rates = self.layer_decay != 1 or self.lr is not None or self.weight_decay is not None
        rates = rates or self.patch_gradient != 1
        if self.all_frozen and (self.patch_dropout or self.stochastic_depth or rates):
            raise ConfigError(
                "freeze: patch_dropout, stochastic_depth, patch_gradient, lr, weight_decay and "
                "layer_decay have no effect on a tower that isn't trained"
            )
        if self.initial and self.init:
            raise ConfigError(
                f"initial {self.initial} has no effect on a tower that starts from {self.init}: "
                "leave one of them out"
            )

    @property
    def all_frozen(self) -> bool:
        """Whether nothing of the tower is trained."""
        return self.freeze and not self.unlocked_layers


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Ranged):
    """Which model a run trains, and from what."""

    name: str = ""
    """A name that `diptych models` lists, a JSON file that describes a model (ours, open_clip's,
    transformers'), or a configuration of yours, `package.module:NAME`. Empty: `custom`, the model
    of `init`, or vit-b-32 where there is neither."""
    custom: ClipConfig | None = None
    """A configuration of your own, from Python, in place of a name."""
    init: str = ""
    """Start from these weights: a checkpoint file or folder, a run, or `hf-hub:org/name`. Beside a
    `name` or `custom` they must fit it; tables of positions are resized. Empty: random."""
    image: TowerOptions = TowerOptions()
    text: TowerOptions = TowerOptions()

    def __post_init__(self):
        super().__post_init__()
        if self.name and self.custom is not None:
            raise ConfigError(
                f"--model.name {self.name} would be ignored: the run has a configuration of "
                "its own, from Python; leave one of the two empty, or choose another recipe"
            )
        if self.text.size:
            raise ConfigError(f"--model.text.size {self.text.size}: a text tower has no pictures")
        if self.image.context:
            raise ConfigError(
                f"--model.image.context {self.image.context}: an image tower reads no texts"
            )


@dataclass(frozen=True, kw_only=True)
class SaveConfig(Ranged):
    """When checkpoints are written; one is always written at the end and on SIGTERM."""

    flags = "--save."

    every_steps: Count = 1000
    """0: not by steps."""
    every_epochs: Factor = field(default=0.0, metadata=ADDED)
    """In passes over the data, in place of `every_steps`; rounded up to whole steps. 0: by
    `every_steps`."""
    every_minutes: Factor = 0.0
    """0: not by the clock."""
    keep: CountOrAll = 3
    """Checkpoints kept; older ones are deleted. 0 or -1: all."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Ranged):
    """What is measured while training: zero-shot accuracy on labelled pictures, loss and retrieval
    on held-out pairs. Both are opened and tried before the first step."""

    flags = "--evaluation."

    path: str | tuple[str, ...] = ""
    """Labelled pictures, one set or several: shards with `.cls`, or a folder with a sub-folder per
    class. Empty: no accuracy."""
    class_names: str = ""
    """Of each set, as `data.class_names`."""
    templates: tuple[str, ...] = ("a photo of a {}.",)
    pairs: str = ""
    """Pictures with captions that aren't trained on, of any kind and with the keys or columns of
    `data`. `val/loss` is the objective's, over `batch_size` pairs at a time. Empty: none."""
    every_steps: Count = 1000
    """0: after the last step only."""
    every_epochs: Factor = field(default=0.0, metadata=ADDED)
    """In passes over the data, in place of `every_steps`; rounded up to whole steps. 0: by
    `every_steps`."""
    limit: Count = 0
    """Use the first so many pictures of each set; 0: all."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The sets of labelled pictures."""
        paths = (self.path,) if isinstance(self.path, str) else self.path
        return tuple(filter(None, paths))


@dataclass(frozen=True, kw_only=True)
class TrackConfig(Ranged):
    """Readers of `metrics.jsonl`."""

    flags = "--track."

    every_steps: Some = 10
    """A line in `metrics.jsonl`, averaged over so many steps."""
    tensorboard: bool = False
    wandb: str = ""
    """Project name; empty: not used. `WANDB_MODE=offline` works."""


@dataclass(frozen=True, kw_only=True)
class Run(Ranged):
    """One complete experiment."""

    flags = "--"

    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ClipObjectiveConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    save: SaveConfig = SaveConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    track: TrackConfig = TrackConfig()
    shard: ShardConfig = ShardConfig()
    batch_size: Some = 256
    """Pairs per step over all processes: the mathematics, so it doesn't change with the machine."""
    micro_batch: Count = 0
    """Pairs that one process computes at a time; 0: its whole share. Smaller needs less memory; the
    gradient is the same, for one more forward pass."""
    steps: Count = 0
    """Optimiser steps; 0: as many as `epochs` take."""
    epochs: Factor = 0.0
    """Passes over the data; not used when `steps` is set."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the towers' matrix products; weights, logits and the loss stay in float32."""
    compile: bool = False
    """`torch.compile` the towers' blocks."""
    ema: ShareBelowAll = 0.0
    """Decay of an exponential moving average of the weights, which is then what is evaluated and
    exported; 0: none."""
    seed: Seed = 0
    out: str = "runs/run"
    """Folder of checkpoints, `metrics.jsonl` and the saved Run."""
    recipe: str = ""
    """The recipe it came from."""

    def __post_init__(self):
        super().__post_init__()
        if not self.steps and not self.epochs:
            raise ConfigError("set --steps or --epochs above 0; both are 0")
        if self.batch_size < 2:
            raise ConfigError(
                f"--batch-size {self.batch_size} must be at least 2: a contrast needs another pair"
            )
        if self.micro_batch > self.batch_size:
            raise ConfigError(
                f"--micro-batch {self.micro_batch} must not be more than "
                f"--batch-size {self.batch_size}"
            )
        if self.shard.precision == "bf16" and self.precision != "bf16":
            raise ConfigError(
                "--shard.precision bf16 gathers weights in bf16, and the run's precision is "
                f"{self.precision}: set --precision bf16, too"
            )
