"""From an exported folder to a model."""

from pathlib import Path
from typing import Any, NamedTuple

from diptych.config import ClipConfig
from diptych.config.model import Side
from diptych.errors import CheckpointError, UnknownNameError
from diptych.export.kinds import KINDS
from diptych.export.programs import SIDES
from diptych.export.tower import ExportedTower, Program
from diptych.inputs import Tokenizer, tokenizer_of
from diptych.models import Clip, Tower
from diptych.models.absent import AbsentTower
from diptych.weights.exported import META, Exported, read


def padding_tokenizer(config: ClipConfig, folder: str | Path) -> Tokenizer:
    """The model's tokenizer, which pads texts to the context where the program takes no others."""
    tokenizer = tokenizer_of(config, folder)
    tokenizer.whole_length = config.text.padding != "ignored"
    return tokenizer


class LoadedExport(NamedTuple):
    """A model whose towers another runtime computes, and what its folder says."""

    model: Clip
    about: Exported
    tokenizer: Tokenizer


def load_exported(folder: str | Path) -> LoadedExport:
    """The model in an exported folder, whose towers give unit vectors, on the CPU.

    Raises DamagedError for files that aren't as they were written, CheckpointError for a folder
    that its runtime can't run, and for one of torch.export: `torch.export.load` would evaluate
    what is written in it.
    """
    folder = Path(folder).expanduser()
    about = read(folder)
    if about.kind not in KINDS:
        raise UnknownNameError("kind of exported model", about.kind, KINDS)
    if not KINDS[about.kind].safe:
        raise CheckpointError(
            f"{folder} holds programs of torch.export, which torch.export.load reads by evaluating "
            "expressions in them: load the file yourself where you trust it, or export the model "
            "to onnx or openvino"
        )
    tokenizer = padding_tokenizer(about.config, folder)
    return LoadedExport(opened(folder, about), about, tokenizer)


def opened(folder: Path, about: Exported) -> Clip:
    """The model of a folder that is known to be as it was written."""
    kind = KINDS[about.kind]
    towers: dict[Side, Tower[Any]] = {}
    for side in SIDES:
        config = about.config.image if side == "image" else about.config.text
        name = kind.files[side]
        if about.config.missing == side:
            towers[side] = AbsentTower(config, None)
        elif name not in about.files:
            raise CheckpointError(f"{folder / META} lists no {name}, the {side} tower's program")
        else:
            digest = about.files[name]["sha256"]
            program = Program(kind.open, folder / name)
            towers[side] = ExportedTower(config, program, digest, about.kind)
    model = Clip(about.config, towers["image"], towers["text"])
    model.requires_grad_(False)
    model.logit_scale.fill_(about.scale)
    if model.logit_bias is not None and about.bias is not None:
        model.logit_bias.fill_(about.bias)
    return model.eval()
