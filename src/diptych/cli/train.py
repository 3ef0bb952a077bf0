"""diptych train RECIPE --a.b value, or diptych train --resume RUN"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tyro

from diptych import recipes
from diptych.config import Run

_HELP = """usage: diptych train RECIPE [--a.b VALUE ...]     start a run
       diptych train RECIPE --help                list its flags and their values
       diptych train --resume RUN                 go on where a run stopped
       torchrun --nproc-per-node 8 -m diptych train ...   the same on eight GPUs

recipes:
{recipes}"""


def run(arguments: Sequence[str]) -> None:
    """Parse and train."""
    if not arguments or arguments[0] in ("-h", "--help"):
        names = recipes.names()
        lines = [
            f"  {name:<{max(map(len, names))}}  {recipes.describe(name).splitlines()[0]}"
            for name in names
        ]
        print(_HELP.format(recipes="\n".join(lines)))
        return
    resume = arguments[0] == "--resume"
    plan = _saved(arguments[1:]) if resume else _new(arguments[0], arguments[1:])

    from diptych.training import fit

    last = fit(plan, resume=resume)
    for bad in sorted(Path(plan.out).glob("bad_samples*.jsonl")):
        print(
            f"{len(bad.read_text().splitlines())} bad samples were left out; they stand in {bad}",
            file=sys.stderr,
        )
    print(f"trained: {last}\nuse it: diptych.load({plan.out!r})", file=sys.stderr)


def _new(recipe: str, flags: Sequence[str]) -> Run:
    return _flags(recipes.get(recipe), f"diptych train {recipe}", flags, recipes.describe(recipe))


def _saved(arguments: Sequence[str]) -> Run:
    from diptych.errors import ConfigError
    from diptych.training import load_run

    if not arguments:
        raise ConfigError(
            "--resume takes the folder of a run, such as: diptych train --resume runs/demo"
        )
    out = Path(arguments[0])
    # The folder may have been moved since; everything else is as it was unless a flag says
    # otherwise.
    plan = replace(load_run(out), out=str(out))
    return _flags(
        plan,
        "diptych train --resume",
        arguments[1:],
        "Continue a run; flags change what is left of it.",
    )


def _flags(plan: Run, prog: str, flags: Sequence[str], description: str) -> Run:
    options = (tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff, tyro.conf.SuppressFixed)
    return tyro.cli(
        Run, default=plan, args=flags, prog=prog, description=description, config=options
    )
