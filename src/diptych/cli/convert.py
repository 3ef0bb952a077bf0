"""diptych convert SRC --to transformers --out DIR"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from tyro.conf import Positional, arg

from diptych.cli.parse import parse
from diptych.cli.show import say
from diptych.config.ranges import Filled
from diptych.writable import check_file


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Weights from one layout to another. The source's layout is detected, and the result is read
    back and compared.

    diptych convert ViT-B-32.pt --to transformers --out vit-b-32
    """

    source: Annotated[Positional[str], arg(metavar="SRC"), Filled("SRC")]
    """A checkpoint file or folder, a run, hf-hub:org/name, or a name with published weights."""
    to: str = "native"
    """The layout to write: native, open-clip, openai, transformers, eva, declip, mobileclip, pe,
    or unireplknet (the image tower alone, as its authors' code loads it); or one that an installed
    package adds."""
    out: str
    """The folder to write; for openai, eva, declip, mobileclip, pe and unireplknet, the file."""
    config: str = ""
    """Where the weights don't say enough about themselves: the model's name, or a JSON file that
    describes it."""
    accept_guess: bool = False
    """Convert weights that don't say how they are built by what their shapes suggest."""
    deploy: bool = False
    """Merge an image tower that has a deploy form: the same vectors, faster; it can't
    be taken back."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    options = parse(Convert, "convert", arguments)

    check_file(options.out, "--out")
    from diptych.checkpoints import convert
    from diptych.distributed import refuse_many

    refuse_many("diptych convert")

    written = convert(
        options.source,
        options.to,
        options.out,
        config=options.config or None,
        deploy=options.deploy,
        accept_guess=options.accept_guess,
        say=partial(say, error=True),
    )
    say(written)
