"""Pages whose commands and scripts are tests: what stands in their fenced blocks, and how it runs.

Kinds of blocks: `console` has commands (behind `$ `) and lines that they print; `python` is a
script (`# -> words` behind a line: it prints them); both run, in the order of the page, in one
folder. A block whose first line is `# name.py` (or `.toml`, `.csv`, ...) is a file. `bash` has
commands that need a GPU, a network or hours: their verbs, flags and values are parsed, and `py`
scripts that need what isn't here: their imports are tried. `text` and others are for the eyes.
`tests/unrun.py` says why a block doesn't run.
"""

import glob
import os
import re
import shlex
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import NamedTuple

from diptych.cli import VERBS, main
from docs._make.command_line import COMMANDS, printed
from tests import forked

FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TITLE = re.compile(r"# (\S+\.\w+)\n")
_NUMBER = re.compile(r"(?<![A-Za-z_\d])-?\d+(?:[.,]\d+)*(?:e-?\d+)?")
_PRINTED = re.compile(r"  # -> (.+)$", re.MULTILINE)
"""What a line of a script prints, shown beside it."""
_FLAG = re.compile(r"--[a-z][\w.-]*")
COMMAND = re.compile(
    r"(?:diptych|-m diptych(?P<module>\.compat\.open_clip_train)?)(?:$| (?P<rest>[^|;&>]*))"
)


class Step(NamedTuple):
    """What runs: a program and its arguments, or `script` and its text; and what it says."""

    program: str
    rest: str
    said: list[str]


def files(text: str) -> dict[str, str]:
    """The fenced blocks whose first line is a name, by it; in data that line is left out."""
    found = dict[str, str]()
    for kind, block in FENCED.findall(text):
        if title := TITLE.match(block):
            found[title[1]] = block if kind in ("python", "toml") else block[title.end() :]
    return found


def steps(text: str) -> list[Step]:
    """Everything that runs, in its order."""
    found: list[Step] = []
    for kind, block in FENCED.findall(text):
        if kind == "console":
            found += commands(block)
        elif kind == "python" and not TITLE.match(block):
            found.append(Step("script", block, _PRINTED.findall(block)))
    return found


def commands(block: str) -> list[Step]:
    """The commands of a console; one may go on behind a backslash."""
    found: list[Step] = []
    for line in block.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            program, rest = f"{line.removeprefix('$ ')} ".split(maxsplit=1)
            found.append(Step(program, rest, []))
        else:
            found[-1].said.append(line)
    return found


def unrun(text: str) -> list[str]:
    """The blocks that don't run, in their order."""
    return [
        block
        for kind, block in FENCED.findall(text)
        if kind not in ("console", "python") and not TITLE.match(block)
    ]


def unnamed(text: str) -> list[str]:
    """Blocks that don't say of what kind they are, so that nobody knows whether to run them."""
    rest = FENCED.sub("", text)
    return re.findall(r"^```\n|\n\n {4}\S.*", rest, re.MULTILINE)


def shell(text: str) -> list[str]:
    """The blocks for a shell that only stand there."""
    return [block for kind, block in FENCED.findall(text) if kind == "bash"]


def code_of(step: Step) -> int:
    """The exit code that is expected: what a comment at the end of a command says, or 0."""
    found = re.search(r"# exit code (\d+)\s*$", step.rest)
    return int(found[1]) if found else 0


def execute(step: Step, folder: Path, code: int = 0, path: str = "") -> str:
    """What it prints, to both streams; fails if it exits otherwise than expected. Modules are also
    found in `path`."""
    process = forked.context().Process(target=_run, args=(step, folder, path))
    process.start()
    process.join()
    text = (folder / "output.txt").read_text()
    assert process.exitcode == code, f"{step.program} {step.rest}\n{text}"
    return text


def _run(step: Step, folder: Path, path: str) -> None:
    os.chdir(folder)
    os.environ["COLUMNS"] = "200"
    sys.path.append(path)
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if step.program == "diptych":
        main(_words(step.rest))
    sys.path.append(str(folder))
    if step.program == "script" or step.rest.strip().endswith(".py"):
        text = step.rest if step.program == "script" else Path(step.rest.strip()).read_text()
        exec(compile(text, "<page>", "exec"), {"__name__": "__main__"})
    else:
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        os.execvp("bash", ["bash", "-c", f"{step.program} {step.rest}"])


def _words(line: str) -> list[str]:
    """As a shell parts them; patterns of files without quotes are expanded."""
    found: list[str] = []
    pairs = zip(shlex.split(line, posix=False), shlex.split(line, comments=True), strict=False)
    for raw, word in pairs:
        found += sorted(glob.glob(word)) if "*" in word and raw == word else [word]
    return found


def missing(step: Step, text: str) -> list[str]:
    """The lines that a page shows and the program didn't print. Numbers may be others, spaces as
    many as there are, and `...` stands for anything."""
    printed = [" ".join(line.split()) for line in text.splitlines()]
    lost = list[str]()
    for line in filter(None, (" ".join(line.split()) for line in step.said)):
        parts = [re.escape(part) for part in _NUMBER.sub("\0", line).split("...")]
        number = re.escape("\0")
        pattern = re.compile(".*".join(part.replace(number, _NUMBER.pattern) for part in parts))
        if not any(pattern.fullmatch(there) for there in printed):
            lost.append(line)
    return lost


def unknown(text: str) -> list[str]:
    """Verbs and flags of a page's commands, of any block, that aren't there."""
    lost = list[str]()
    for kind, block in FENCED.findall(text):
        if kind not in ("bash", "console"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if "# exit code" in line:
                continue  # what is wrong there is what the page shows
            for command in COMMAND.finditer(line.partition("  #")[0]):
                lost += _unknown_of(command["rest"] or "", bool(command["module"]))
    return lost


def _unknown_of(rest: str, is_open_clip: bool) -> list[str]:
    verb, *words = rest.split() or ["--help"]
    if is_open_clip or verb.startswith("-") or verb == "VERB":
        return []
    if verb not in VERBS:
        return [verb]
    known = known_flags(verb, _of(verb, words))
    given = [flag.rstrip(".") for word in words for flag in _FLAG.findall(word.partition("=")[0])]
    return [f"{verb} {flag}" for flag in given if flag not in known]


def _of(verb: str, words: list[str]) -> tuple[str, ...]:
    """What decides which flags there are: of `train`, `plan` and `benchmark runs` the objective."""
    if verb in ("train", "plan", "benchmark") and "--objective" in words:
        return ("--objective", words[words.index("--objective") + 1])
    return ()


@cache
def known_flags(verb: str, more: tuple[str, ...]) -> frozenset[str]:
    """All flags that `diptych VERB --help-all` tells of; `train`'s are those of its recipes."""
    text = "".join(printed(words) for words in COMMANDS.values() if words[0] == verb)
    if verb in ("train", "plan", "benchmark"):
        text += printed(["train", "tiny-digits", *more, "--help-all"]) + "--objective --data.source"
    flags = set(_FLAG.findall(text))
    on = {flag.replace("no-", "") for flag in flags}
    off = {re.sub(r"([\w-]+)$", r"no-\1", flag) for flag in flags}
    return frozenset(flags | on | off | {"--help", "--help-all"})


def scripts(text: str) -> list[str]:
    """The Python of a page, its files included."""
    return [block for kind, block in FENCED.findall(text) if kind in ("python", "py")]


def lost_imports(code: str) -> list[str]:
    """`from diptych... import NAME` of names that aren't there."""
    lost = list[str]()
    for module, names in re.findall(r"^from (diptych[\w.]*) import ([\w, ]+)", code, re.MULTILINE):
        for name in (each.split()[0] for each in names.split(",")):
            try:
                with warnings.catch_warnings(action="ignore"):  # of others' code
                    exec(f"from {module} import {name}", {})
            except ImportError:
                lost.append(f"{module}.{name}")
    return lost
