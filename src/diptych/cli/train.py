"""diptych train RECIPE --a.b value, or diptych train --resume RUN"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import tyro

from diptych import pretrained, recipes
from diptych.cli.help import ANY, parsed
from diptych.cli.processes import is_first, said_by_the_first
from diptych.cli.show import say
from diptych.cli.train_flags import (
    for_own_data,
    refuse_idle,
    typed,
    with_stored_crops,
    without_rivals,
)
from diptych.config import ObjectiveConfig, Run, SourceConfig
from diptych.errors import AbsentError, ConfigError, StoppedError
from diptych.exit_codes import ExitCode
from diptych.interrupts import Interrupted, listening

_HELP = """usage: diptych train RECIPE [--a.b VALUE ...]     start a run
       diptych train RECIPE --help                its flags that most people want, and their values
       diptych train RECIPE --help-all            all of its flags
       diptych train RECIPE --objective NAME      minimise something else: {objectives},
                                                  or your own: package.module:Config, file.py:Config
       diptych train package.module:function      a recipe of your own
       diptych train --resume RUN                 go on where a run stopped; flags change the rest
       diptych train --resume RUN/checkpoints/step-00000100    go on from an earlier checkpoint
       diptych train RECIPE --resume-if-any ...   go on if --out holds a checkpoint, else start
       torchrun --nproc-per-node 8 -m diptych train ...   the same on eight GPUs

exit codes: 0 done; 2 failed, and the sentence says what to change; 75 stopped by a signal, or by
the loss of a process, and saved: start it again with --resume (jobs for Slurm: docs/slurm.md)

recipes:
{recipes}"""
T = TypeVar("T")
_OBJECTIVE, _SOURCE = "--objective", "--data.source"
_RESUME, _IF_ANY = "--resume", "--resume-if-any"
_OPEN_CLIP = {
    *("train-data", "val-data", "train-num-samples", "dataset-type", "imagenet-val"),
    *("dataset-resampled", "pretrained", "report-to", "local-loss", "gather-with-grad"),
    *("csv-img-key", "csv-caption-key", "zeroshot-frequency", "save-frequency"),
}
"""Flags by which its command lines are known; others (`--lr`) have near ones here."""


def run(arguments: Sequence[str]) -> None:
    """Parse and train."""
    if not arguments or arguments[0] in ANY:
        print(_help())
        return
    first, equals, folder = arguments[0].partition("=")
    flags, resume = list(arguments[1:]), False
    if first == _RESUME:
        plan, resume = _saved([folder, *flags] if equals else flags)
    else:
        if _IF_ANY in flags:
            resume = True
            flags.remove(_IF_ANY)
        plan = new_run(arguments[0], flags)
    try:
        train(plan, resume)
    except AbsentError as error:
        error.args = (f"{error}{_whence(plan)}",)  # the same error: who has said it is known of it
        raise


def _whence(plan: Run) -> str:
    """Where the data comes from that isn't there, if it is the recipe's own; empty: something of it
    was named by the user."""
    if plan.recipe not in recipes.names():
        return ""
    own = recipes.get(plan.recipe)
    named = plan.data.path, plan.evaluation.paths, plan.evaluation.pairs
    if named != (own.data.path, own.evaluation.paths, own.evaluation.pairs):
        return ""
    return (
        f": `diptych train {plan.recipe} --help` says where the recipe's data comes from, and "
        "--data.path names other data"
    )


def train(plan: Run, resume: bool | Path) -> None:
    """Train it, and say where it lies and what was left out. Raises as `diptych.fit`, and
    StoppedError where what was there before, or is whole now, goes on."""
    from diptych.checkpoints.steps import checkpoints

    def kept() -> str:
        """What to say of a stop before the first step of a run that goes on, or after its last."""
        newest = next(reversed(checkpoints(Path(plan.out))), None)
        again = f"{newest} is kept. Continue with: diptych train --resume {plan.out}"
        return f"stopped by {interrupts.reason}; {again}" if newest else ""

    def last_words() -> tuple[str, int] | None:
        return (kept() if is_first() else "", ExitCode.AGAIN) if kept() else None

    with listening() as interrupts, interrupts.at_last(last_words):
        try:
            _train(plan, resume)
        except Interrupted as stop:
            if not kept():
                raise
            raise StoppedError(kept()) from stop


def _train(plan: Run, resume: bool | Path) -> None:
    from diptych.training import fit

    last = fit(plan, resume=resume)
    if not is_first():
        return
    for bad in sorted(Path(plan.out).glob("bad_samples*.jsonl")):
        say(
            f"{len(bad.read_bytes().splitlines())} bad samples were left out; they stand in {bad}",
            error=True,
        )
    say(f"trained: {last}", error=True)
    say(f"use it: diptych.load({plan.out!r})", error=True)


def _help() -> str:
    names = recipes.names()
    width = max(map(len, names))
    lines = [f"  {name:<{width}}  {_title(name)}" for name in names]
    return _HELP.format(objectives=", ".join(_objectives()), recipes="\n".join(lines))


def _title(name: str) -> str:
    """The first paragraph of what a recipe does, on one line."""
    return " ".join(recipes.describe(name).partition("\n\n")[0].split())


def _objectives() -> list[str]:
    return [kind.alias for kind in ObjectiveConfig.kinds().values() if "alias" in vars(kind)]


def new_run(recipe: str, flags: list[str], verb: str = "train", own: Sequence[str] = ()) -> Run:
    """The recipe with what the flags change. `--objective` and `--data.source` name a class, whose
    fields are then flags, too. `flags` are used up; of `verb`, which has flags of its `own`."""
    _refuse_flag(recipe, flags, verb)
    recipe = _named(recipe)
    _refuse_foreign(flags)
    plan, said = recipes.get(recipe), typed(flags)
    plan, left_out = for_own_data(without_rivals(plan, said), said)
    if name := take(flags, _OBJECTIVE):
        plan = replace(plan, objective=_made(ObjectiveConfig.named(name), name))
    if name := take(flags, _SOURCE):
        source = _made(SourceConfig.named(name), name)
        plan = replace(plan, data=replace(plan.data, path="", source=source))
    about = (
        f"{recipes.describe(recipe)}\n\n{_OBJECTIVE} NAME: {', '.join(_objectives())}, or your own"
    )
    plan = _flags(plan, f"diptych {verb} {recipe}", flags, about, own)
    if left_out and is_first():
        say(
            f"left out, as they are of the recipe's own data: {', '.join(left_out)}",
            error=True,
        )
    return plan


def _refuse_flag(recipe: str, flags: list[str], verb: str) -> None:
    """Raises ConfigError for a flag in the place of a recipe."""
    flag, _, value = recipe.partition("=")
    if flag == "--recipe":
        named = value or next(iter(flags), "RECIPE")
        raise ConfigError(f"a recipe stands without a flag: `diptych {verb} {named} ...`")
    if flag.startswith("-"):
        raise ConfigError(
            f"a recipe stands before {flag}: `diptych {verb} tiny-digits {flag} ...`; "
            "`diptych train` lists them"
        )


def _named(recipe: str) -> str:
    """The recipe itself, or the one of a published model, by any of the model's names. What is the
    name of a recipe is no other's: `clip_vit_b_32` is DeCLIP's name of a model, too."""
    known = recipes.names()
    if ":" in recipe or recipe.lower().replace("_", "-") in known:
        return recipe
    model = pretrained.identify(recipe)
    return model.name if model and model.name in known else recipe


def _refuse_foreign(flags: Sequence[str]) -> None:
    """Raises ConfigError for flags that are another command's, and names that."""
    for word in flags:
        flag = word.partition("=")[0]
        if flag == _RESUME:
            raise ConfigError(
                f"{_RESUME} stands before the folder of a run, without a recipe: `diptych train "
                f"{_RESUME} runs/mine`; behind a recipe it is {_IF_ANY}"
            )
        if flag.startswith("--") and flag[2:] in _OPEN_CLIP:
            raise ConfigError(
                f"{flag} is a flag of open_clip's trainer: `python -m "
                "diptych.compat.open_clip_train` takes it, and says what it is here"
            )


def take(flags: list[str], flag: str) -> str:
    """The value of `flag`, taken out of `flags`; empty if it isn't there. Raises ConfigError where
    it is there without one."""
    for place, word in enumerate(flags):
        name, equals, value = word.partition("=")
        if name != flag:
            continue
        if not equals:
            value = "".join(flags[place + 1 : place + 2])
        if not value.strip():
            raise ConfigError(f"{flag} needs a value behind it; --help says what it takes")
        del flags[place : place + (1 if equals else 2)]
        return value
    return ""


def _made(kind: type[T], name: str) -> T:
    """With its defaults. Raises ConfigError for a class that has fields without."""
    try:
        return kind()
    except TypeError as error:
        raise ConfigError(
            f"{name} can't be made without arguments ({error}); give its fields defaults"
        ) from error


def _saved(arguments: Sequence[str]) -> tuple[Run, bool | Path]:
    """The run that goes on, as the flags change it; from its newest checkpoint (True), or from
    which."""
    from diptych.training import load_run

    if not arguments:
        raise ConfigError(
            "--resume takes the folder of a run, such as: diptych train --resume runs/demo"
        )
    for flag in (_OBJECTIVE, _SOURCE):
        if any(word.partition("=")[0] == flag for word in arguments):
            raise ConfigError(f"a run keeps what it was started with: leave {flag} out")
    given, flags = Path(arguments[0]), arguments[1:]
    one = given.parent.name == "checkpoints"
    out = given.parent.parent if one else given
    # The folder may have been moved since; everything else is as it was unless a flag says
    # otherwise.
    plan = without_rivals(replace(load_run(out), out=str(out)), typed(flags))
    about = "Continue a run; flags change what is left of it."
    plan = _flags(plan, "diptych train --resume", flags, about)
    if plan.out != str(out):
        raise ConfigError(f"a run goes on where it is, in {out}: leave --out out")
    return plan, given if one else True


def _flags(
    plan: Run, prog: str, flags: Sequence[str], description: str, own: Sequence[str] = ()
) -> Run:
    options = (tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff, tyro.conf.SuppressFixed)
    with said_by_the_first():
        changed = parsed(
            *(Run, "train", flags, prog, own),
            default=plan,
            description=description,
            config=options,
        )
    refuse_idle(changed, typed(flags))
    return with_stored_crops(changed, typed(flags))
