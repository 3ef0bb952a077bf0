"""Which of transformers' models a config.json describes, and whether any layout reads that."""

import re
from collections.abc import Mapping
from typing import Any

from diptych.errors import CheckpointError
from diptych.families import layouts
from diptych.weights.layout import WeightSource
from diptych.weights.read import read_json

_TOWER = re.compile("_(vision|text)_model$")
"""Behind the kind of a model whose tower lies alone."""


def check_kind(content: Mapping[str, Any], name: str) -> None:
    """Raises CheckpointError for the `content` of a file called `name` that describes a model of
    transformers' that no layout reads; what says no kind passes.

    >>> from diptych.checkpoints.kinds import check_kind
    >>> check_kind({"model_type": "blip"}, "config.json")
    Traceback (most recent call last):
    ...
    diptych.errors.CheckpointError: config.json describes a 'blip' model, which Diptych doesn't \
read; of transformers' models it reads altclip, chinese_clip, clip, eva_clip, genlip, metaclip_2, \
siglip, siglip2, tipsv2
    """
    kind, known = content.get("model_type"), set[str]()
    for layout in layouts():
        known |= set(layout.model_types)
    if kind is not None and _TOWER.sub("", str(kind)) not in known:
        raise CheckpointError(
            f"{name} describes a {kind!r} model, which Diptych doesn't read; of transformers' "
            f"models it reads {', '.join(sorted(known))}"
        )


def check_beside(source: WeightSource, config_file: str | None = None) -> None:
    """The same of the `config_file` beside weights, where there is one; None: of any such."""
    files = {layout.config_file for layout in layouts() if layout.model_types}
    for name in files if config_file is None else files & {config_file}:
        if (file := source.file.parent / name).is_file():
            content = read_json(file)
            try:
                check_kind(content, name)
            except CheckpointError as error:
                raise CheckpointError(f"{source.path}: {error}") from error
