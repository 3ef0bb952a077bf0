"""diptych benchmark objectives, or diptych benchmark runs RECIPE --vary 'NAME: --a.b VALUE' ..."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from diptych.cli.help import ANY
from diptych.cli.parse import parse
from diptych.cli.show import Names, say, show
from diptych.cli.train import new_run, take
from diptych.cli.train_flags import typed
from diptych.config import Run
from diptych.config.ranges import check_ranges
from diptych.errors import ConfigError
from diptych.experiments import CompareConfig, ObjectivesConfig
from diptych.writable import check_writable

if TYPE_CHECKING:
    from diptych.experiments import Comparison

_DIGITS = 18
"""Of a number of anything."""
_HELP = """usage: diptych benchmark runs RECIPE --vary 'NAME: [--a.b VALUE ...]' --vary ... [flags]

Train runs that differ in a named way, and compare what the models know. Each --vary is a variant: a
name and what it changes of the recipe, by flags of `diptych train`; the others are tested beside
the first. Flags of `diptych train` outside of --vary change the recipe for everyone. Everyone has
the same data, towers, batch, steps and seeds; where variants don't, that is refused, or asked for
with --differ. Writes OUT/results.json and OUT/report.html. Interrupted, the same command goes on
where it stopped.

  --seeds N            runs of each variant, from different random numbers (3); {seed} in the name
                       of weights is the seed
  --equal samples      everyone sees as many pairs (the default)
  --equal flops        everyone gets the operations of the first variant's steps; those of the runs
                       whose weights a variant starts from are counted in, those of teachers aren't
  --differ FLAG        what differs because it is compared, such as --data.share or --batch-size, or
                       model (the towers); several with commas
  --jobs N             runs at a time, each with its share of the cores (1)
  --points N           evaluations on the way (10)
  --out FOLDER         of everything that the benchmark writes (benchmark)

  diptych benchmark runs tiny-cifar10 --vary 'all patches:' \\
      --vary 'half: --model.image.patch-dropout 0.5' --equal flops --seeds 5 --out dropping

`diptych benchmark objectives --help` says what that preset does."""
_OWN = {
    "seed": "see --seeds",
    "data.share_seed": "it is the seed",
    "out": "see --out",
    "evaluation.every_steps": "see --points",
    "save": "only the last checkpoint is kept",
}
"""Settings that the benchmark gives each run, and what to know instead."""


@dataclass(frozen=True, kw_only=True)
class Benchmark(ObjectivesConfig):
    """Train every objective alike, and compare what the models know.

    diptych benchmark objectives --data digits --budget 60 --out benchmark

    The same towers, data, batch, steps, optimiser and seeds; nothing is tuned for anyone. Writes
    OUT/results.json and OUT/report.html. Interrupted, the same command goes on where it stopped.
    `diptych benchmark runs --help`: runs that differ in something else.
    """

    subject: Annotated[Positional[Literal["objectives"]], arg(metavar="{objectives,runs}")]
    """What is compared."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    if arguments and arguments[0] == "runs":
        _compare_runs(list(arguments[1:]))
        return
    options = parse(Benchmark, "benchmark", arguments)

    check_writable(options.out, "--out")
    from diptych.experiments import compare_objectives

    _refuse_many()
    _show(compare_objectives(options, console=_console()))


def _compare_runs(arguments: list[str]) -> None:
    if not arguments or ANY & set(arguments):
        print(_HELP)
        return
    recipe, flags = arguments[0], arguments[1:]
    config, changes = _options(flags), _variants(flags)
    variants = {name: _variant(recipe, flags, own, name) for name, own in changes.items()}

    check_writable(config.out, "--out")
    from diptych.experiments import compare_runs

    _refuse_many()
    _show(compare_runs(variants, config, console=_console()))


def _options(flags: list[str]) -> CompareConfig:
    """The comparison's own flags, taken out of `flags`."""
    given = dict[str, Any]()
    for field in fields(CompareConfig):
        flag = f"--{field.name}"
        if not (text := take(flags, flag)):
            continue
        given[field.name] = text
        if field.name == "differ":
            given["differ"] = tuple(_path(word) for word in text.split(",") if word.strip())
        elif field.name == "equal":
            if text not in ("samples", "flops"):
                raise ConfigError(f"--equal {text} is neither samples nor flops")
        elif field.name != "out":
            if not text.isdecimal() or len(text) > _DIGITS:
                raise ConfigError(f"{flag} {text} is no number")
            given[field.name] = int(text)
    config = CompareConfig(**given)
    check_ranges(config)
    return config


def _path(word: str) -> str:
    return word.strip().removeprefix("--").replace("-", "_")


def _variants(flags: list[str]) -> dict[str, list[str]]:
    """Name -> flags of each --vary, taken out of `flags`."""
    found = dict[str, list[str]]()
    while text := take(flags, "--vary"):
        name, colon, rest = text.partition(":")
        if not colon or not name.strip():
            raise ConfigError(
                f"--vary {text!r} is a name, a colon, and flags: --vary 'half: --data.share 0.5'"
            )
        if name.strip() in found:
            raise ConfigError(f"two variants are called {name.strip()!r}")
        try:
            found[name.strip()] = shlex.split(rest)
        except ValueError as error:
            raise ConfigError(f"--vary {text!r}: {error}") from error
    return found


def _variant(recipe: str, flags: Sequence[str], own: Sequence[str], name: str) -> Run:
    for path in typed([*flags, *own]):
        for prefix, instead in _OWN.items():
            if f"{path}.".startswith(f"{prefix}."):
                flag = path.replace("_", "-")
                raise ConfigError(
                    f"{name!r}: the benchmark gives each run its --{flag}: leave it out ({instead})"
                )
    return new_run(recipe, [*flags, *own], "benchmark runs")


def _refuse_many() -> None:
    from diptych.distributed import refuse_many

    refuse_many("diptych benchmark")


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _show(found: "Comparison") -> None:
    from diptych.experiments.comparison import table

    for heads, lines in ((found.columns, found.rows), (table.TESTED, table.test_rows(found.tests))):
        shown = Names(*heads)
        for line in lines:
            shown.add_row(*line)
        show(shown)
    say(f"results: {found.results.resolve()}")
    say(f"report: {found.page.resolve()}")
