"""Parameters and operations of published models whose towers another library builds: counting them
anew would take that library seconds for each."""

import functools
import json
from pathlib import Path

_FILE = Path(__file__).with_name("sizes.json")


def sizes(name: str) -> dict[str, tuple[int, int]]:
    """Of each tower of the model of this name, its parameters and its operations for one picture or
    one caption of full length; a multiply-add counts two. Empty: they aren't recorded.

    >>> from diptych import pretrained
    >>> pretrained.sizes("mobileclip2-s0")["image"][0], pretrained.sizes("vit-b-32")
    (11406976, {})
    """
    return {tower: (count[0], count[1]) for tower, count in _recorded().get(name, {}).items()}


@functools.cache
def _recorded() -> dict[str, dict[str, list[int]]]:
    return json.loads(_FILE.read_text())
