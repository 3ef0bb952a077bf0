"""`--help`: the flags that most people want, in groups, on a screen. `--help-all`: every one."""

import contextlib
import inspect
import io
import os
import re
import sys
import textwrap
from collections.abc import Generator, Sequence
from dataclasses import fields
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import tyro

from diptych.cli.help_groups import GROUPS, Groups
from diptych.cli.options import Compute
from diptych.cli.refusals import refusal

T = TypeVar("T")
ALL = "--help-all"
_HELP = {"-h", "--help"}
ANY = _HELP | {ALL}
_WIDTH = 100
_WIDE = 10_000
"""Columns of what is read, and not shown."""
_COLUMN = 36
_ENTRY = re.compile(r"(?P<name>\S+)(?P<value>(?: \S+)*)(?:  +(?P<text>.*))?")
_SENTENCE = re.compile(r"(?<=[.;:])\s+(?=[A-Z`0-9])")
_DEFAULT = re.compile(r"\s*\(default: (.*)\)$")
_RARE = {field.name.replace("_", "-") for field in fields(Compute)}
"""Flags of all verbs with a model, which few need."""
_COMMAND = re.compile(r"(?<!\n)\n(?=(?:diptych|torchrun) )")
_NO = re.compile(r"(^|\.)no-")


class Flag(NamedTuple):
    """A flag, or an argument without a name, as the whole help has it."""

    name: str
    value: str
    text: str


def parsed(
    kind: type[T],
    verb: str,
    arguments: Sequence[str],
    prog: str = "",
    own: Sequence[str] = (),
    **more: Any,
) -> T:
    """`tyro.cli(kind, ...)`, with help of two lengths; `verb` says which the short one has. Raises
    ConfigError for arguments that don't fit, with near misses among these flags and its `own`."""
    more["prog"] = prog or f"diptych {verb}"
    said = re.sub(r" {2,}", " ", more.pop("description", "") or inspect.getdoc(kind) or "")
    more["description"] = _COMMAND.sub("\n\n", said)  # tyro makes one line of a paragraph
    words = list(arguments)
    if ALL in words:
        return tyro.cli(kind, args=["--help"], **more)
    if _HELP & set(words):
        full = _printed(kind, **more)
        print(short(full, verb, more["prog"], said))
        sys.exit(0)
    with _drawn(_WIDE) as out, contextlib.suppress(SystemExit):
        return tyro.cli(kind, args=words, **more)
    positional, flags = _split(_printed(kind, **more))
    takes = {name: flag.value for name, flag in flags.items()} | dict.fromkeys(own, "")
    raise refusal(_read(out), more["prog"], words, takes, [flag.name for flag in positional])


def short(full: str, verb: str, prog: str, description: str) -> str:
    """The screen that `--help` is, made of the whole help."""
    usage = " ".join(full.partition("\n\n")[0].split()).replace("[-h] ", "")
    positional, flags = _split(full)
    groups: Groups = GROUPS.get(verb) or {
        "flags": {name: "" for name in flags if name not in _RARE}
    }
    lines = [usage, "", description.rstrip(), *([""] if positional else [])]
    for flag in positional:
        lines += _lines(flag)
    shown = 0
    for title, said in groups.items():
        lines += ["", f"{title}:"]
        for name in filter(flags.__contains__, said):
            lines += _lines(flags[name], said[name])
            shown += 1
    return "\n".join([*lines, "", *_ending(prog, len(flags) - shown)])


def _ending(prog: str, more: int) -> list[str]:
    lines = [f"{more} more flags, and all that is said of each: {prog} {ALL}"] if more else []
    return [*lines, "A flag without a value turns something on, or, with no- in it, off."]


def _lines(flag: Flag, said: str = "") -> list[str]:
    """A flag and what is said of it: a few words, or its first sentence."""
    default = _DEFAULT.search(flag.text)
    text = flag.text[: default.start()] if default else flag.text
    text = said or _SENTENCE.split(text)[0].removesuffix("(required)").rstrip(".;: ")
    if default and default[1] not in ("", "''", "None", "False", "True"):
        text = f"{text} ({default[1]})".strip()
    name, indent = f"  {flag.name}{flag.value}", " " * _COLUMN
    wrapped = textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent)
    if len(name) < _COLUMN and wrapped:
        return [f"{name:<{_COLUMN}}{wrapped[0].strip()}", *wrapped[1:]]
    return [name, *wrapped]


def _split(full: str) -> tuple[list[Flag], dict[str, Flag]]:
    """Arguments without names, and flags by their names; `--model.image.no-x` is also `…x`."""
    positional, flags = list[Flag](), dict[str, Flag]()
    for flag in chain.from_iterable(found for _, found in sections(full)):
        if flag.name.startswith("--"):
            flags[_NO.sub(r"\1", flag.name[2:])] = flag
        else:
            positional.append(flag)
    return positional, flags


def sections(full: str) -> Generator[tuple[str, list[Flag]]]:
    """The boxes of a whole help that stand in one column: the title of each, and what is in it but
    for `--help`."""
    boxes = re.findall(r"^╭─ ([^─]*?) ─[^\n]*\n(.*?)^╰", full, re.MULTILINE | re.DOTALL)
    for title, box in boxes:
        entries = list[list[str]]()
        for row in box.splitlines():
            line = row.removeprefix("│ ").removesuffix("│").rstrip()
            if line.startswith("───"):
                entries = []  # what the box is about
            elif line and not line.startswith(" "):
                entries.append([line])
            elif entries:
                entries[-1].append(line.strip())
        yield title, [_flag(entry) for entry in entries if not entry[0].startswith("-h,")]


def _flag(entry: list[str]) -> Flag:
    """Of the lines about it, the first of which has its name and value."""
    found = _ENTRY.match(entry[0])
    assert found, entry
    text = " ".join(filter(None, [found["text"] or "", *entry[1:]]))
    return Flag(found["name"], found["value"].replace("{None}|", ""), text)


def _printed(kind: type[Any], **more: Any) -> str:
    """The whole help, in one column of the usual width."""
    with _drawn(_WIDTH) as out, contextlib.suppress(SystemExit):
        tyro.cli(kind, args=["--help"], **more)
    return _read(out)


@contextlib.contextmanager
def _drawn(width: int) -> Generator[io.TextIOWrapper]:
    """What tyro draws, on stdout or stderr, in `width` columns."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(width)
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")  # without an encoding it has other boxes
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            yield out
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before


def _read(out: io.TextIOWrapper) -> str:
    out.seek(0)
    return out.read()
