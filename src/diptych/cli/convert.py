"""diptych convert SRC --to transformers --out DIR, and --to onnx, which exports it"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from tyro.conf import Positional, arg

from diptych.cli.parse import parse
from diptych.cli.pictures import pictures_of, tell_left_out
from diptych.cli.show import say
from diptych.config.ranges import Filled, ShareOfSome
from diptych.errors import ConfigError, UnknownNameError
from diptych.writable import check_new


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Weights from one layout to another. The source's layout is detected, and the result is read
    back and compared.

    diptych convert ViT-B-32.pt --to transformers --out vit-b-32

    Or a model as programs of another runtime, which are run and compared with the model:

    diptych convert vit-b-32 --to onnx --int8 --pictures photos --out vit-b-32.onnx
    """

    source: Annotated[Positional[str], arg(metavar="SRC"), Filled("SRC")]
    """A checkpoint file or folder, a run, hf-hub:org/name, or a name with published weights."""
    to: str = "native"
    """The layout to write: native, open-clip, openai, transformers, eva, declip, mammut,
    mobileclip, pe, unireplknet, timm and genlip (the image tower alone, as their own code names
    it), one that an installed package adds; or what to export to: onnx, openvino, torch-export,
    immich (its folder for a model)."""
    out: str
    """The folder to write; for openai, eva, declip, mobileclip, pe and unireplknet, the file."""
    config: str = ""
    """Where the weights don't say enough about themselves: the model's name, timm's of an image
    tower, or a JSON file that describes it."""
    accept_guess: bool = False
    """Convert weights that don't say how they are built by what their shapes suggest."""
    deploy: bool = False
    """Merge an image tower that has a deploy form: the same vectors, faster; it can't
    be taken back. Exported models are always merged."""
    pictures: str = ""
    """Of an export: a folder, a shard or a picture to compare on, the first 256 pictures; without:
    noise."""
    int8: bool = False
    """Of an export: matrix products in eight bits."""
    min_cosine: ShareOfSome | None = None
    """Of an export: refuse it if a vector's cosine with the model's is lower; by default 0.9999,
    and with --int8 0.99."""


def run(arguments: Sequence[str]) -> None:
    """Parse and do it."""
    options = parse(Convert, "convert", arguments)

    check_new(options.out, "--out")
    from diptych.checkpoints.convert import convert, targets
    from diptych.distributed import refuse_many
    from diptych.export import KINDS

    refuse_many("diptych convert")
    if options.to in KINDS:
        _export(options)
        return
    if options.to not in targets():
        raise UnknownNameError("layout", options.to, [*targets(), *KINDS])
    _refuse_exports_flags(options)
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


def _export(options: Convert) -> None:
    from diptych.export import export

    unread = list[str]()
    found = pictures_of(options.pictures, unread) if options.pictures else None
    comparison = export(
        options.source,
        options.to,
        options.out,
        int8=options.int8,
        min_cosine=options.min_cosine,
        pictures=None if found is None else (picture for _, picture in found),
        config=options.config or None,
        accept_guess=options.accept_guess,
    )
    tell_left_out(unread, read=1)
    for line in comparison.lines():
        say(line)
    say(options.out)


def _refuse_exports_flags(options: Convert) -> None:
    """Raises ConfigError for flags that mean nothing where weights are converted."""
    given = {
        "--pictures": options.pictures,
        "--int8": options.int8,
        "--min-cosine": options.min_cosine is not None,
    }
    if unfit := [flag for flag, value in given.items() if value]:
        raise ConfigError(
            f"{', '.join(unfit)}: only for an export (--to onnx, openvino, torch-export or "
            "immich); weights keep their numbers"
        )
