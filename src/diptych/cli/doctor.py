"""diptych doctor A B"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from diptych.cli.parse import parse
from diptych.cli.pictures import pictures_of
from diptych.cli.show import Names, say, show
from diptych.config.ranges import Filled
from diptych.errors import ConfigError
from diptych.exit_codes import ExitCode

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.diagnosis import Cosines, Diagnosis


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Why two loads of "the same" model give other vectors.

    diptych doctor ViT-B-32.pt runs/mine
    diptych doctor exported open_clip:ViT-B-32:laion2b_s34b_b79k
    diptych doctor transformers:exported open_clip:exported-too
    diptych doctor weights.pt weights.pt --config ViT-B-32 ViT-B-32-quickgelu
    diptych doctor weights.pt        # beside what was published for its name or its sizes

    A line for each part that differs, in the order in which a model meets them: weights,
    architecture, activation, preprocessing, tokenizer, context length, precision, scale and bias;
    with the lowest cosine of some pictures' and texts' vectors before and after the part alone is
    exchanged. What the code of a load really does is measured, not read from what it says.

    Exit code 0: nothing differs; 1: something does.
    """

    a: Annotated[Positional[str], arg(metavar="A"), Filled("A")]
    """A run, a checkpoint, hf-hub:org/name, a name with published weights, open_clip:MODEL:TAG (or
    a file for TAG), open_clip:FOLDER, transformers:FOLDER."""
    b: Annotated[Positional[str], arg(metavar="B")] = ""
    """The other; without it A is compared with what was published."""
    config: tuple[str, ...] = ()
    """How what Diptych loads is built, where files don't say: a model's name or a JSON file, one
    for both or one each."""
    dtype: tuple[Literal["fp32", "bf16", "fp16"], ...] = ()
    """Precision of the towers, one for both or one each. By default fp32, and transformers' models
    as they are stored."""
    device: str | None = None
    """cpu, cuda or cuda:N; by default the GPU if there is one."""
    images: tuple[str, ...] = ()
    """Pictures or folders of them to compare vectors of, in place of four that are drawn."""
    texts: tuple[str, ...] = ()
    """Texts to compare vectors of, in place of six: plain, capitals, empty, Unicode, entities,
    long."""
    json: bool = False
    """Everything that was found, for other programs."""


def run(arguments: Sequence[str]) -> int:
    """Parse and do it; 1 if anything differs."""
    options = parse(Doctor, "doctor", arguments)
    configs, dtypes = _each(options.config, "--config"), _each(options.dtype, "--dtype")

    from diptych.diagnosis import diagnose, load_named
    from diptych.diagnosis.named import is_of_another_library

    others = [is_of_another_library(name) for name in (options.a, options.b)]
    if len(options.config) == 1 and not all(others):  # it is for what Diptych loads
        configs = tuple("" if other else options.config[0] for other in others)

    shown = _pictures(options.images)
    loads = [
        load_named(name, dtype, options.device, config or None)
        for name, dtype, config in zip((options.a, options.b), dtypes, configs, strict=True)
        if name
    ]
    found = diagnose(*loads, images=shown, texts=options.texts)
    if options.json:
        print(json.dumps(_record(found), indent=2))
    else:
        _show(found)
    return ExitCode.PARTLY if found.differences else ExitCode.DONE


def _each(values: Sequence[str], flag: str) -> tuple[str, str]:
    """One value for each of the two. Raises ConfigError for more."""
    if len(values) > 2:
        raise ConfigError(f"{flag} takes one value for both, or one each, not {len(values)}")
    return (values[0], values[-1]) if values else ("", "")


def _pictures(paths: Sequence[str]) -> "list[Image]":
    """Raises ImageError or DataError for what can't be read."""
    from PIL import Image

    from diptych.inputs import decode

    unread = list[str]()
    found = list(chain.from_iterable(pictures_of(path, unread) for path in paths))
    if unread:
        raise ConfigError(f"--images: {unread[0]}")
    return [Image.fromarray(decode(picture).permute(1, 2, 0).numpy()) for _, picture in found]


def _record(found: "Diagnosis") -> dict[str, object]:
    first, costliest = found.first, found.costliest
    return {
        **asdict(found),
        "cosines": _cosines(found.cosines),
        "differences": [
            {**asdict(each), "cosines": _cosines(each.cosines)} for each in found.differences
        ],
        "first": first and first.part,
        "costliest": costliest and costliest.part,
    }


def _cosines(cosines: "Cosines | None") -> dict[str, float] | None:
    return None if cosines is None else cosines._asdict()


def _show(found: "Diagnosis") -> None:
    say(f"A: {found.a}")
    say(f"B: {found.b}")
    if found.differences:
        table = Names("differs", "A", "B", "pictures", "texts")
        for each in found.differences:
            table.add_row(each.part, each.a, each.b, *_columns(each.cosines))
        table.add_row("all together", "", "", *_columns(found.cosines))
        show(table)
        say("pictures, texts: the lowest cosine with A's vectors where this part alone is B's;")
        say("—: it changes no vector, or can't be exchanged alone")
    say(_sentence(found))
    for remark in found.remarks:
        say(f"note: {remark}", error=True)


def _columns(cosines: "Cosines | None") -> tuple[str, str]:
    if cosines is None:
        return "—", "—"
    return f"{cosines.images:.6f}", f"{cosines.texts:.6f}"


def _sentence(found: "Diagnosis") -> str:
    first, costliest = found.first, found.costliest
    if first is None:
        return "nothing differs: the same weights, inputs and vectors"
    said = f"{first.part} differs first"
    if costliest is not None and costliest is not first:
        said += f"; {costliest.part} costs the most"
    return said
