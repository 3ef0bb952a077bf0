"""Pages of the command line: what each verb's whole help says, and that of a recipe."""

import contextlib
import io
import os

from diptych.cli import VERBS, main

WIDTH = 100
_COMMANDS = {verb: [verb, "--help-all"] for verb in VERBS}
_COMMANDS |= {
    "train": ["train", "--help"],
    "train RECIPE": ["train", "clip-vit-b-32", "--help-all"],
    "benchmark": ["benchmark", "objectives", "--help-all"],
    "benchmark runs": ["benchmark", "runs", "--help"],
    "plan": ["plan", "--help"],
}
"""Title of a page -> the words behind `diptych` that print it."""


def names() -> list[str]:
    """The titles, in the order of the navigation."""
    return sorted(_COMMANDS, key=lambda name: (list(VERBS).index(name.split()[0]), name))


def page_of(name: str) -> str:
    """Where its page stands in the site."""
    return f"command-line/{name.replace(' ', '-').lower()}.md"


def text_of(name: str) -> str:
    """The page: what the verb does, and its help."""
    words, verb = _COMMANDS[name], name.split()[0]
    return (
        f"# diptych {name}\n\n{VERBS[verb][0].upper()}{VERBS[verb][1:]}.\n\n"
        f"```text\n$ diptych {' '.join(words)}\n{printed(words)}```\n"
    )


def printed(words: list[str]) -> str:
    """What `diptych WORDS` prints."""
    before = os.environ.get("COLUMNS", "")
    os.environ["COLUMNS"] = str(WIDTH)
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            main(words)
    finally:
        os.environ["COLUMNS"] = before or "80"
    out.seek(0)
    return out.read()
