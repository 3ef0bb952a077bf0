"""A tower as a program: what `torch.export` makes of it, for any number of pictures or texts."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from diptych.config import ClipConfig
from diptych.config.model import Side
from diptych.errors import CheckpointError, first_line
from diptych.models import Clip
from diptych.models.clip import unit

SIDES: tuple[Side, ...] = get_args(Side)
INPUTS: dict[Side, str] = {"image": "image", "text": "text"}
OUTPUT = "vectors"
_ROWS = 2
"""Of the example that a tower is traced with: one row would be taken for all there ever are."""
_MOST_ROWS = 1 << 20


class ImageVectors(nn.Module):
    """Normalised pixels to unit vectors."""

    def __init__(self, model: Clip):
        super().__init__()
        self.tower = model.image

    def forward(
        self, image: Float[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """The vectors, of length 1."""
        return unit(self.tower(image, tokens="none").pooled)


class TextVectors(nn.Module):
    """Token ids, padded to one length, to unit vectors."""

    def __init__(self, model: Clip):
        super().__init__()
        self.tower = model.text

    def forward(self, text: Int[Tensor, "batch length"]) -> Float[Tensor, "batch embed_dim"]:
        """The vectors, of length 1. Ids of 32 bits are what other programs hand over."""
        return unit(self.tower(text.long(), tokens="none").pooled)


def vectors_of(model: Clip, side: Side) -> nn.Module:
    """The tower with what makes its vectors unit vectors."""
    return (ImageVectors(model) if side == "image" else TextVectors(model)).eval()


def example(config: ClipConfig, side: Side, rows: int = _ROWS) -> Tensor:
    """What a tower may be called with: seeded noise, or ids that stand for nothing."""
    generator = torch.Generator().manual_seed(rows)
    if side == "image":
        size = config.image.image_size
        return torch.randn(rows, 3, size, size, generator=generator)
    shape = (rows, config.text.context_length)
    most = config.text.vocabulary or 8
    return torch.randint(1, most, shape, generator=generator, dtype=torch.int32)


def program(vectors: nn.Module, config: ClipConfig, side: Side) -> ExportedProgram:
    """The tower's program. The number of rows is free; so is the length of texts where padding
    doesn't count, and the size of pictures where the tower takes any. Raises CheckpointError for a
    tower that no program can be made of, naming it.

    >>> import torch
    >>> from diptych import models, pretrained
    >>> from diptych.export.programs import program, vectors_of
    >>> model = models.build(pretrained.get("tiny")).eval()
    >>> made = program(vectors_of(model, "text"), model.config, "text")
    >>> made.module()(torch.tensor([[49406, 320, 49407]], dtype=torch.int32)).shape
    torch.Size([1, 128])
    """
    if side == "image" and config.image.native:
        raise CheckpointError(
            f"the image tower ({type(config.image).__name__}) can't be exported: it interpolates "
            "its positions to each picture's own grid (NaFlex), which no fixed program does; "
            "export a model that takes squares"
        )
    try:
        with others_warnings(), torch.no_grad():
            return torch.export.export(
                vectors, (example(config, side),), dynamic_shapes=(_free(config, side),)
            )
    except Exception as error:  # whatever the compiler raises of a tower of anybody's
        raise CheckpointError(f"the {side} tower can't be exported: {said_of(error)}") from error


def _free(config: ClipConfig, side: Side) -> dict[int, Any]:
    """The dimensions of a tower's input that are no constants."""
    rows = {0: Dim("batch", min=1, max=_MOST_ROWS)}
    if side == "image":
        return rows | {2: Dim.AUTO, 3: Dim.AUTO}  # constants where the tower asks for its own size
    if config.text.padding != "ignored":
        return rows
    return rows | {1: Dim("length", min=3, max=config.text.context_length)}


@contextmanager
def others_warnings() -> Generator[None, None, None]:
    """Within, what other libraries warn of themselves isn't shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def said_of(error: BaseException) -> str:
    """What a library says went wrong, in a line: its own cause where it only says that it failed.

    >>> from diptych.export.programs import said_of
    >>> said_of(ValueError("no such operator\\nmany lines of advice"))
    'no such operator'
    """
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
