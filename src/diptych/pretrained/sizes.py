"""Parameters and operations of published models, counted once: to list them, none has to be built,
and neither torch nor the library of a tower is imported."""

import functools
import json
from pathlib import Path

_FILE = Path(__file__).with_name("sizes.json")


def sizes(name: str) -> dict[str, tuple[int, int]]:
    """Of the model of this name, `all`, and of each of its towers: the parameters, and the
    operations for one picture, one caption of full length, or both; a multiply-add counts two.
    Empty for a model of somebody else's package.

    >>> from diptych import pretrained
    >>> pretrained.sizes("mobileclip2-s0")["image"], pretrained.sizes("acme-s")
    ((11406976, 4785307648), {})
    """
    return {part: (count[0], count[1]) for part, count in _recorded().get(name, {}).items()}


@functools.cache
def _recorded() -> dict[str, dict[str, list[int]]]:
    return json.loads(_FILE.read_text())
