"""What pages show of the command line, given to its own parser: verbs, recipes, flags and the kind
of their values. Nothing runs."""

import contextlib
import io
import re
import shlex
from collections.abc import Iterator

from diptych.cli import VERBS
from diptych.cli.parse import parse
from diptych.cli.train import new_run, take
from diptych.components import import_object
from diptych.errors import DiptychError
from tests.documents import COMMAND, FENCED

_ANY = "tiny-digits"
"""Stands for a recipe that isn't named, and for the run of `--resume`, which is nowhere."""
_OF_PLAN = ("--mode", "--gpus", "--per-node", "--memory", "--tflops", "--mfu")
_OF_RUNS = ("--seeds", "--equal", "--differ", "--jobs", "--points")
_PLACEHOLDER = re.compile(r"(?<=[ =])[A-Z](?= |$)")


def commands(text: str) -> Iterator[list[str]]:
    """The words behind `diptych` of every command in a page's `bash` and `console` blocks."""
    for kind, block in FENCED.findall(text):
        if kind not in ("bash", "console"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if "# exit code" not in line:
                yield from _of_line(line)


def _of_line(line: str) -> Iterator[list[str]]:
    for found in COMMAND.finditer(line):
        if not found["module"]:
            yield words(found["rest"] or "--help")


def words(line: str) -> list[str]:
    """As a shell parts them, without what stands for more; `N` is a number."""
    parted = shlex.split(_PLACEHOLDER.sub("1", line), comments=True)
    return [word for word in parted if word not in ("...", "…")]


def refused(line: list[str]) -> str:
    """Why `diptych LINE` is refused before anything is done; empty if it isn't."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            _parse(line[0], line[1:])
    except SystemExit as ended:
        return said.getvalue() if ended.code else ""
    except DiptychError as error:
        # The flag is there, with such a value; alone it is of no use.
        return "" if "has no effect" in str(error) else str(error)
    return ""


def _parse(verb: str, rest: list[str]) -> None:
    if not rest or {"--help", "--help-all", "--list"} & set(rest):
        assert verb in (*VERBS, "VERB") or verb.startswith("--"), verb
    elif verb in ("train", "plan"):
        _run(verb, rest)
    elif rest[0] == "runs":
        variants = [take(rest, "--vary") for _ in range(rest.count("--vary"))]
        _without(rest, *_OF_RUNS)
        for each in variants:
            new_run(rest[1], [*rest[2:], *shlex.split(each.partition(":")[2])])
    else:
        name = rest.pop(0) if verb == "index" else verb
        kind = import_object(f"diptych.cli.{verb}:{name.capitalize()}")
        parse(kind, verb, rest)


def _run(verb: str, rest: list[str]) -> None:
    if verb == "plan":
        _without(rest, *_OF_PLAN)
    _without(rest, "--objective.reinforced")  # a folder that is nowhere
    resumed = rest[0] == "--resume"
    recipe, flags = rest[0], rest[1:]
    if resumed or recipe == "RECIPE":
        recipe, flags = _ANY, rest[2 if resumed else 1 :]
    new_run(recipe, [word for word in flags if word != "--resume-if-any"])


def _without(rest: list[str], *flags: str) -> None:
    for flag in flags:
        take(rest, flag)
