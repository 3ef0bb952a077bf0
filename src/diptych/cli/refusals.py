"""What is wrong with a command line, in one sentence: the box that tyro draws, in our words."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from diptych.errors import ConfigError, UnknownNameError

_MEANT = {
    "amount": ("top", "limit"),
    "caption-column": ("caption-key", "data.caption-key"),
    "captions": ("caption-key", "data.caption-key"),
    "categories": ("names",),
    "checkpoint": ("model.init",),
    "classes": ("names", "class-names", "data.class-names"),
    "csv": ("out", "table", "data.path"),
    "data": ("data.path",),
    "dataset": ("data", "tasks", "data.path"),
    "dir": ("out",),
    "folder": ("out", "data.path"),
    "format": ("to",),
    "k": ("top",),
    "labels": ("names", "class-names"),
    "learning-rate": ("optim.lr",),
    "limit": ("top",),
    "lr": ("optim.lr",),
    "model": ("model.name",),
    "n": ("top",),
    "num-workers": ("data.workers",),
    "o": ("out",),
    "optimizer": ("optim.name",),
    "output": ("out",),
    "pretrained": ("model.init",),
    "prompt": ("names", "prompts", "templates"),
    "save": ("out",),
    "topk": ("top",),
    "train-data": ("data.path",),
    "wd": ("optim.weight-decay",),
}
"""What other programs call a flag, or people expect -> what it may be here."""
_KINDS = {"INT": "a whole number", "FLOAT": "a number"}
_NO_FLAG = re.compile(r"-?[\d.]")
_CHOICE = re.compile(r"invalid choice '(.*)' for argument '(\S+)'\. Expected one of \((.*)\)")
_VALUE = re.compile(r"Error parsing (\S+): (.*)")
_MISSING = re.compile(r"Missing value for argument '(\S+)'\. Expected (\d+)")


def refusal(
    box: str, prog: str, words: Sequence[str], flags: Mapping[str, str], places: Collection[str]
) -> ConfigError:
    """Why `prog` can't take the `words`.

    `box` is what tyro said; `flags` are the names without dashes, and what each takes (`INT`);
    `places` the arguments without a name.

    >>> from diptych.cli.refusals import refusal
    >>> words = ["m", "--output", "x"]
    >>> str(refusal("", "diptych embed", words, {"out": "PATH", "top": "INT"}, ["MODEL"]))
    "no flag of embed is called '--output'; did you mean '--out'?"
    """
    verb = prog.removeprefix("diptych ")
    for word in words:
        if name := _unknown(word, flags):
            return _no_flag(word, name, prog, flags, places)
    rows = list(_rows(box))
    text = " ".join(" ".join(rows).split())
    help_ = f"`{prog} --help` says more"
    if rows and rows[0].startswith("Missing from"):
        missing = [row.strip() for row in rows[1:] if re.match(r" {4}\S", row)]
        return ConfigError(f"{verb} needs {' and '.join(missing)}; {help_}")
    if text.startswith("Unrecognized options: "):
        left = text.partition(": ")[2]
        before = words[words.index(left) - 1] if left in words[1:] else ""
        if before.startswith("--") and not flags.get(before.lstrip("-"), "?").strip():
            return ConfigError(f"{before} takes no value, but {left} follows it; {help_}")
        return ConfigError(
            f"{verb} has no place for {left}: put a pattern into quotes, and a text of several "
            f"words; {help_}"
        )
    if found := _CHOICE.search(text):
        known = filter(None, re.findall(r"'([^']*)'", found[3]))
        return UnknownNameError(f"value of {found[2]}", found[1], known)
    if found := _MISSING.search(text):
        what = found[1] if found[1].startswith("-") else found[1].upper()
        values = "a value" if found[2] == "1" else f"{found[2]} values"
        return ConfigError(f"{verb} needs {values} for {what}; {help_}")
    if found := _VALUE.search(text):
        flag, why = found.groups()
        if not flag.startswith("-"):  # a check across flags, which names them
            return ConfigError(why)
        kind = _KINDS.get(flags.get(flag.lstrip("-"), "").rpartition("|")[2].strip())
        given = why.rpartition(": ")[2]
        return ConfigError(f"{flag} {given} must be {kind}" if kind else f"{flag}: {why}")
    return ConfigError(f"{verb}: {text or 'these arguments do not fit'}; {help_}")


def _unknown(word: str, flags: Collection[str]) -> str:
    """The name of a flag that isn't there; empty: it is one, or no flag."""
    name = word.partition("=")[0].lstrip("-").replace("_", "-")
    if not word.startswith("-") or not name or _NO_FLAG.match(word):
        return ""
    known = {*flags, "h", "help"}
    return "" if name in known or re.sub(r"(^|\.)no-", r"\1", name) in known else name


def _no_flag(
    word: str, name: str, prog: str, flags: Collection[str], places: Collection[str]
) -> ConfigError:
    flag, kind = word.partition("=")[0], f"flag of {prog.removeprefix('diptych ')}"
    for place in places:
        if name == place.strip("[].").lower():
            said = f"{place} stands without a flag: `{prog} {' '.join(places)}`"
            return UnknownNameError(kind, flag, flags, hint=said)
    near = [f"--{each}" for each in _near(name, flags)]
    hint = "" if near else f"`{prog} --help` lists them"
    known = [f"--{each}" for each in flags]
    error = UnknownNameError(kind, flag, known, near)
    return error if error.near else UnknownNameError(kind, flag, known, hint=hint)


def _near(name: str, flags: Collection[str]) -> list[str]:
    """By meaning, then by the last part of a setting's path, then by its beginning."""
    last = name.rpartition(".")[2]
    meant = [each for each in _MEANT.get(name, ()) if each in flags]
    parts = [each for each in flags if each.rpartition(".")[2] == last]
    begun = [each for each in flags if len(name) > 2 and each.startswith(name)]
    return [*meant, *sorted(parts, key=lambda each: each.count(".")), *begun]


def _rows(box: str) -> Iterator[str]:
    """What stands in the first part of the first box."""
    for line in box.splitlines():
        row = line.strip().removeprefix("│").removesuffix("│").rstrip().removeprefix(" ")
        if row.lstrip().startswith(("───", "╰")):
            return
        if row and not row.startswith("╭"):
            yield row
