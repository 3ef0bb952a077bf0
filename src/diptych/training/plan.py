"""What a run needs of machines, known before there are any: memory, traffic and time.

Weights, optimiser, FLOPs and activations are counted on the run's own objective (`trace`); what a
way of sharding makes of them is arithmetic, and stands here.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

from diptych.config import Run
from diptych.config.ranges import Above, Ranged, ShareOfSome, Some
from diptych.errors import ConfigError
from diptych.models import build
from diptych.training.assemble import described
from diptych.training.trace import Trace, trace

Mode = Literal["replicate", "zero2", "zero3", "hsdp"]
"""`replicate`: every device holds everything. `zero2`: gradients and the optimiser's state are
sharded over all devices, and weights whole within a step. `zero3`: weights, too, but for the block
that is computed. `hsdp`: zero3 within a node, replicated over nodes."""
MODES: tuple[Mode, ...] = get_args(Mode)
_TILE = 512
"""Rows of the contrast's logits that are there at a time."""
_SAMPLE = 128
"""Pairs from which the memory of more of them is told: two blocks of those that teachers are asked
about at a time."""


@dataclass(frozen=True, kw_only=True)
class Machines(Ranged):
    """What a run is planned for."""

    flags = "--"

    gpus: Some = 8
    memory: Above = 80.0
    """Of one GPU, in GB (10^9 bytes)."""
    per_node: Some = 8
    """GPUs of a node."""
    tflops: Above = 989.0
    """Of one GPU at its best, in 10^12 FLOPs a second; an H100's and H200's bf16 is 989, an A100's
    312."""
    mfu: ShareOfSome = 0.4
    """Model FLOPs utilisation: the share of them that training reaches."""


class Device(NamedTuple):
    """What one device holds and sends in a mode, in bytes."""

    mode: Mode
    weights: float
    """Its own, and those that are gathered for the computation."""
    gradients: float
    optimizer: float
    average: float
    """The moving average of the weights, if the run keeps one."""
    activations: float
    """What else is there in the passes over a micro-batch: what is kept for the backward pass and
    what is there for a moment, inputs, and the contrast with everybody's pairs."""
    peak: float
    """The most at any time: not all of the above are there at once."""
    sent: float
    """In a step; as much is received."""
    fits: int
    """Pairs of the largest micro-batch that the memory holds, of its share at the most; 0: it holds
    not even one."""


class Budget(NamedTuple):
    """What a pair needs whose picture has so many patches."""

    patches: int
    flops: float
    """As `Plan.flops`."""
    kept: float
    """As `Plan.kept`."""
    fits: int
    """As `Device.fits`, in the first of the modes."""


class Plan(NamedTuple):
    """What a run needs. Memory is that of the largest budget of patches, where pictures keep their
    aspect and the run has several."""

    image: int
    """Parameters of the image tower."""
    text: int
    """Parameters of the text tower."""
    parameters: int
    """Of all: of the objective's heads, too."""
    trained: int
    share: int
    """Pairs of a step on each device."""
    micro_batch: int
    """Pairs that it computes at a time."""
    kept: float
    """Bytes kept for the backward pass of each pair."""
    kept_once: float
    """Bytes kept whatever the number of pairs: autocast's copies of the weights."""
    flops: float
    """Of each pair, forward and backward, with all that is computed twice: activations that are
    recomputed, and features where there are micro-batches. The mean over the budgets."""
    devices: tuple[Device, ...]
    seconds: float
    """Of a step, its traffic hidden behind the computation."""
    budgets: tuple[Budget, ...] = ()
    """Of a run with several, each of them, the smallest first."""


def plan(run: Run, machines: Machines = Machines(), modes: tuple[Mode, ...] = MODES) -> Plan:
    """What `run` needs on `machines`, with captions of full length. Raises as `trace`, and
    ConfigError for a run that starts from weights and doesn't name their model.

    >>> from diptych.config import ModelConfig, Run
    >>> from diptych.training.plan import Machines, plan
    >>> run = Run(model=ModelConfig(name="tiny"), batch_size=8, steps=10)
    >>> needs = plan(run, Machines(gpus=2))
    >>> needs.parameters, needs.share, [device.mode for device in needs.devices]
    (3882145, 4, ['replicate', 'zero2', 'zero3', 'hsdp'])
    """
    if run.model.init and not (run.model.name or run.model.custom):
        raise ConfigError(
            f"which model {run.model.init} holds isn't known without reading it: name it, too "
            "(--model.name)"
        )
    needs = _needs(run, machines)
    share, micro, flops = needs.share, needs.micro, needs.flops
    model = build(described(run), device="meta")
    budgets, drawn = tuple[Budget, ...](), run.data.patches
    if len(set(drawn)) > 1:
        budgets = tuple(_budget(run, machines, modes[0], each) for each in sorted(set(drawn)))
        # Where one is named twice, it is drawn twice as often.
        flops = sum(each.flops * drawn.count(each.patches) for each in budgets) / len(drawn)
    return Plan(
        image=sum(p.numel() for p in model.image.parameters()),
        text=sum(p.numel() for p in model.text.parameters()),
        parameters=needs.one.weights // 4,
        trained=needs.one.gradients // 4,
        share=share,
        micro_batch=micro,
        kept=needs.kept,
        kept_once=needs.grown("kept", 0),
        flops=flops,
        devices=tuple(needs.device(mode, micro) for mode in modes),
        seconds=flops * share / (machines.tflops * 1e12 * machines.mfu),
        budgets=budgets,
    )


@dataclass(frozen=True)
class _Needs:
    """Traces over `half` and twice as many pairs, and what follows for others and for shards."""

    run: Run
    machines: Machines
    half: int
    one: Trace
    two: Trace

    @property
    def share(self) -> int:
        return -(-self.run.batch_size // self.machines.gpus)

    @property
    def micro(self) -> int:
        return min(self.run.micro_batch or self.share, self.share)

    @property
    def flops(self) -> float:
        """Of a pair."""
        flops = self.two.both / (2 * self.half)
        if self.micro < self.share:  # features first, without a graph
            flops += self.two.again / (2 * self.half)
        return flops

    @property
    def kept(self) -> float:
        """Bytes of a pair."""
        return self.grown("kept", 1) - self.grown("kept", 0)

    def grown(self, name: str, pairs: int) -> float:
        """A figure of the traces, for so many pairs."""
        one, two = getattr(self.one, name), getattr(self.two, name)
        return one + (two - one) * (pairs - self.half) / self.half

    def device(self, mode: Mode, micro: int) -> Device:
        shards = self._shards(mode)
        one, block = self.one, self.one.block
        gathered = {"replicate": 0, "zero2": one.weights}.get(mode, min(2 * block, one.weights))
        return Device(
            mode=mode,
            weights=one.weights / shards + (gathered if shards > 1 else 0),
            gradients=one.gradients / shards,
            optimizer=one.optimizer / shards,
            average=one.gradients / shards if self.run.ema else 0.0,
            activations=self._activations(micro) + self._contrast(),
            peak=self._peak(mode, micro),
            sent=self._sent(mode, micro),
            fits=self._fits(mode),
        )

    def _shards(self, mode: Mode) -> int:
        gpus = self.machines.gpus
        among = {"replicate": 1, "hsdp": min(gpus, self.machines.per_node)}
        return among.get(mode, gpus)

    def _activations(self, pairs: int) -> float:
        """What is there beside weights and gradients, where they are at their most."""
        beside = self.grown("passing", pairs) - self.one.weights - self.one.gradients
        return max(beside, self.grown("kept", pairs) + self.grown("inputs", pairs))

    def _contrast(self) -> float:
        """Everybody's features and their gradients, and a tile of logits with its gradient and its
        exponentials, in float32; nothing for a loss that contrasts no samples."""
        if not self.one.again:
            return 0.0
        batch, width = self.run.batch_size, described(self.run).embed_dim
        return 4.0 * batch * (4 * width + 3 * min(_TILE, self.share))

    def _peak(self, mode: Mode, pairs: int) -> float:
        one, shards = self.one, self._shards(mode)
        average = one.gradients / shards if self.run.ema else 0.0
        stepping = one.stepping / shards + average
        if shards == 1:
            passing = max(self.grown("passing", pairs), one.weights + self._activations(pairs))
            return max(passing + one.optimizer + average + self._contrast(), stepping)
        whole = one.weights if mode == "zero2" else min(2 * one.block, one.weights)
        states = (one.weights + one.gradients + one.optimizer) / shards + average
        # Gathered weights, and the gradient of a block before it is scattered.
        return max(
            states + whole + one.block + self._activations(pairs) + self._contrast(), stepping
        )

    def _fits(self, mode: Mode) -> int:
        """Memory grows with the pairs: the largest number is found by halving."""
        low, high = 0, self.share
        while low < high:
            middle = (low + high + 1) // 2
            fits = self._peak(mode, middle) <= self.machines.memory * 1e9
            low, high = (middle, high) if fits else (low, middle - 1)
        return low

    def _sent(self, mode: Mode, micro: int) -> float:
        """By rings: each device sends all but its own part. A sum over all is a scatter and a
        gather."""
        one, gpus, shards = self.one, self.machines.gpus, self._shards(mode)
        features = 2 * 4 * self.share * described(self.run).embed_dim
        # There, and their gradients back.
        contrast = 2 * (gpus - 1) * features if one.again else 0
        part, rounds = (shards - 1) / shards, -(-self.share // micro)
        if mode == "replicate":
            return contrast + 2 * (gpus - 1) / gpus * one.gradients
        if mode == "zero2":
            return contrast + part * (one.weights + one.gradients)
        # Forward and backward, and features first where there are micro-batches.
        gathers = 2 if rounds == 1 else (3 if one.again else 2) * rounds
        nodes = gpus / shards
        across = 2 * (nodes - 1) / nodes * one.gradients / shards
        return contrast + part * (gathers * one.weights + rounds * one.gradients) + across


def _needs(run: Run, machines: Machines) -> _Needs:
    share = -(-run.batch_size // machines.gpus)
    half = max(1, min(run.micro_batch or share, share, _SAMPLE) // 2)
    return _Needs(run, machines, half, trace(run, half), trace(run, 2 * half))


def _budget(run: Run, machines: Machines, mode: Mode, patches: int) -> Budget:
    """As if the run had this budget alone."""
    needs = _needs(replace(run, data=replace(run.data, patches=(patches,))), machines)
    return Budget(patches, needs.flops, needs.kept, needs.device(mode, needs.micro).fits)
