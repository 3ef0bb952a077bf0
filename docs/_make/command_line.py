"""Pages of the command line: what each verb's whole help says, and that of a recipe."""

import contextlib
import io
import os
import re
import textwrap

from diptych.cli import VERBS, main
from diptych.cli.help import Flag, sections

_WIDTH = 100
COMMANDS = {verb: [verb, "--help-all"] for verb in VERBS}
COMMANDS |= {
    "train": ["train", "--help"],
    "train RECIPE": ["train", "clip-vit-b-32", "--help-all"],
    "benchmark": ["benchmark", "objectives", "--help-all"],
    "benchmark runs": ["benchmark", "runs", "--help"],
    "index": ["index", "--help"],
    "index export": ["index", "export", "--help-all"],
    "index import": ["index", "import", "--help-all"],
    "plan": ["plan", "--help"],
}
"""Title of a page -> the words behind `diptych` that print it."""


def names() -> list[str]:
    """The titles, in the order of the navigation."""
    return sorted(COMMANDS, key=lambda name: (list(VERBS).index(name.split()[0]), name))


def page_of(name: str) -> str:
    """Where its page stands in the site."""
    return f"command-line/{name.replace(' ', '-').lower()}.md"


def text_of(name: str) -> str:
    """The page: what the verb does, its usage and examples, and a table of each group of flags."""
    words, verb = COMMANDS[name], name.split()[0]
    about, _, boxes = printed(words).partition("\n\u256d")
    lines = [f"# diptych {name}", "", f"{VERBS[verb][0].upper()}{VERBS[verb][1:]}.", ""]
    lines += ["```text", f"$ diptych {' '.join(words)}", *_wrapped(about), "```"]
    for title, flags in sections(f"\u256d{boxes}"):
        lines += [
            "",
            f"## {title.capitalize()}",
            "",
            "| flag | what |",
            "| --- | --- |",
            *map(_row, flags),
        ]
    return "\n".join([*lines, ""])


def _row(flag: Flag) -> str:
    text = flag.text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
    return f"| `{flag.name}{flag.value}` | {text} |".replace("]|[", "]\\|[")


def _wrapped(about: str) -> list[str]:
    """Its lines; a long one, which tyro makes of a paragraph, in several."""
    found = list[str]()
    for line in re.sub(r"\n{3,}", "\n\n", about.rstrip()).splitlines():
        kept = {"replace_whitespace": False, "break_on_hyphens": False}
        found += textwrap.wrap(line, _WIDTH, subsequent_indent="    ", **kept) or [""]
    return found


def printed(words: list[str]) -> str:
    """What `diptych WORDS` prints."""
    before = os.environ.get("COLUMNS", "")
    os.environ["COLUMNS"] = str(_WIDTH)
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            main(words)
    finally:
        os.environ["COLUMNS"] = before or "80"
    out.seek(0)
    return out.read()
