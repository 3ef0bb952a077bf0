"""diptych plan RECIPE --gpus N --memory GB --a.b value"""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from diptych.cli.help import ANY
from diptych.cli.show import say
from diptych.cli.train import new_run, take
from diptych.config import Run
from diptych.errors import ConfigError

if TYPE_CHECKING:
    from diptych.training.plan import Device, Machines, Mode, Plan

_HELP = """usage: diptych plan RECIPE [--gpus N] [--memory GB] [--mode MODE] [--a.b VALUE ...]

What a run needs, without a GPU. Flags of `diptych train` change the recipe.

  diptych plan clip-vit-b-32 --gpus 8 --mode all

  --gpus N       in all (8)
  --per-node N   in one node (8)
  --memory GB    of one GPU (80)
  --mode MODE    one of {modes}, or all; the run's own (--shard.mode), if it isn't given
  --tflops N     of one GPU at its best, in bf16 (989: an H100; an A100: 312)
  --mfu SHARE    of them that training reaches (0.4)"""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    from diptych.training.plan import MODES, Machines, plan

    if not arguments or ANY & set(arguments):
        print(_HELP.format(modes=", ".join(MODES)))
        return
    recipe, flags = arguments[0], list(arguments[1:])
    asked = take(flags, "--mode")
    if asked not in ("", "all", *MODES):
        raise ConfigError(f"--mode {asked} is none of {', '.join(MODES)}, all")
    machines = Machines()
    own = {f"--{field.name.replace('_', '-')}": field for field in fields(Machines)}
    for flag, field in own.items():
        if given := take(flags, flag):
            machines = replace(machines, **{field.name: _number(flag, given, type(field.default))})
    planned = new_run(recipe, flags, "plan", [flag[2:] for flag in ("--mode", *own)])
    mode = asked or _own_mode(planned)
    modes: tuple[Mode, ...] = tuple(each for each in MODES if mode in ("all", each))
    for line in _lines(planned, machines, plan(planned, machines, modes)):
        say(line)


def _own_mode(run: Run) -> str:
    """The mode in which the run would train."""
    if run.shard.nodes and run.shard.mode == "zero2":
        raise ConfigError(
            "zero2 within nodes (--shard.nodes) isn't planned: ask for --mode zero2 or --mode hsdp"
        )
    return "hsdp" if run.shard.nodes else run.shard.mode


def _number(flag: str, text: str, kind: Any) -> int | float:
    try:
        return kind(text)
    except ValueError as error:
        what = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{flag} {text} must be {what}") from error


def _lines(run: Run, machines: "Machines", needs: "Plan") -> list[str]:
    heads = needs.parameters - needs.image - needs.text
    time = f"{needs.seconds:,.3g} s a step at {machines.mfu:.0%} of {machines.tflops:,g} TFLOPS"
    if run.steps:
        hours = needs.seconds * run.steps / 3600
        time += f", {hours:,.3g} hours for {run.steps:,} steps"
    of = f"in micro-batches of {needs.micro_batch:,}" if needs.micro_batch < needs.share else ""
    return [
        f"{machines.gpus} GPUs of {machines.memory:g} GB: {needs.share:,} of {run.batch_size:,} "
        f"pairs each {of}".rstrip(),
        f"parameters   {needs.parameters:,}: image tower {needs.image:,}, text tower "
        f"{needs.text:,}, else {heads:,}; trained {needs.trained:,}",
        f"a pair       {needs.flops / 1e9:,.1f} GFLOPs forward and backward; {_bytes(needs.kept)} "
        f"kept for the backward pass, and {_bytes(needs.kept_once)} for all together",
        *_budgets(needs),
        f"time         {time}",
        "",
        f"{'one GPU':<10}{'weights':>10}{'gradients':>11}{'optimiser':>11}{'average':>10}"
        f"{'activations':>13}{'at most':>10}{'sent a step':>13}  largest micro-batch",
        *(_row(device, needs.share) for device in needs.devices),
    ]


def _budgets(needs: "Plan") -> list[str]:
    """A line for each budget of patches, where a run has several."""
    return [
        f"{each.patches:>5} patches: {each.flops / 1e9:,.1f} GFLOPs a pair, {_bytes(each.kept)} "
        f"kept, micro-batches of up to {each.fits:,}"
        for each in needs.budgets
    ]


def _row(device: "Device", share: int) -> str:
    fits = f"{device.fits:,}" if device.fits else "none fits"
    return (
        f"{device.mode:<10}{_bytes(device.weights):>10}{_bytes(device.gradients):>11}"
        f"{_bytes(device.optimizer):>11}{_bytes(device.average):>10}"
        f"{_bytes(device.activations):>13}{_bytes(device.peak):>10}{_bytes(device.sent):>13}"
        f"  {fits}{' (all)' if device.fits == share else ''}"
    )


def _bytes(count: float) -> str:
    """`3.21 GB`, `14.5 MB`; GB are 10^9 bytes."""
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
