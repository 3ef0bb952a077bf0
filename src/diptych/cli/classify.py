"""diptych classify MODEL cat.jpg --names cat dog"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from diptych.cli.options import Compute
from diptych.cli.parse import parse
from diptych.cli.show import show
from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Classify(Compute):
    """Which of some names fits a picture.

    diptych classify MODEL cat.jpg dog.jpg --names cat dog
    """

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """A run, a checkpoint, hf-hub:org/name, or a name with published weights."""
    images: Annotated[Positional[tuple[str, ...]], arg(metavar="PICTURE...")] = ()
    """Paths."""
    names: tuple[str, ...]
    """What it could be."""
    templates: tuple[str, ...] = ("simple",)
    """The names are put into them: a set (name, simple, openai-7), or templates such as 'a photo of
    a {}.'."""
    top: int = 5
    """Names shown for each picture."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    options = parse(Classify, "classify", arguments)
    if not options.images:
        raise ConfigError(
            "say at least one picture: `diptych classify MODEL PICTURE --names cat dog`"
        )

    from rich.table import Table
    from rich.text import Text

    from diptych.datasets import templates

    encoder = options.load(options.model)
    chosen = list[str]()
    for choice in options.templates:
        chosen += templates(choice)
    table = Table("picture", "name", "probability", box=None)
    for image, shares in zip(
        options.images, encoder.classify(options.images, options.names, chosen)
    ):
        best = sorted(shares.items(), key=lambda item: -item[1])[: options.top]
        for place, (name, share) in enumerate(best):
            table.add_row(Text(image if place == 0 else ""), Text(name), f"{share:.1%}")
    show(table)
