"""Examples in docstrings (`>>>`) as blocks of code, which Markdown would take for quotations."""

import re
from typing import Any

import griffe

_PROMPT = re.compile(r"^ *>>> ")


def fenced(text: str) -> str:
    """The text with its examples, each up to the next empty line, as fenced blocks."""
    paragraphs = re.split(r"\n{2,}", text)
    for place, paragraph in enumerate(paragraphs):
        if _PROMPT.match(paragraph):
            paragraphs[place] = f"```pycon\n{paragraph}\n```"
    return "\n\n".join(paragraphs)


class Examples(griffe.Extension):
    """Does it to all docstrings that mkdocstrings shows."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """What griffe calls for each object that it has read."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
