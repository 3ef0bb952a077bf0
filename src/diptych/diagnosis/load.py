"""One way in which somebody has loaded a model: what a diagnosis asks of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from diptych.config import ClipConfig
from diptych.encoder import Encoder
from diptych.errors import ConfigError
from diptych.weights.leftovers import left_behind


@dataclass(frozen=True, kw_only=True)
class Load:
    """A model as some code has loaded it, ours or another library's: its weights under our names,
    and functions that do what that code does.

    `of` makes one of an `Encoder`, `diptych.diagnosis.peers` those of open_clip and transformers;
    any other code's are given by hand.

    >>> from diptych import Encoder, models, pretrained
    >>> from diptych.diagnosis import Load
    >>> load = Load.of(Encoder(models.build(pretrained.get("tiny")), name="mine"))
    >>> load.name, load.ids(["a cat"]).shape
    ('mine', torch.Size([1, 32]))
    """

    name: str
    config: ClipConfig
    """How its towers are built, as its files say it."""
    weights: Mapping[str, Tensor]
    """Under our names, in the precision in which the towers compute."""
    pixels: Callable[[Image.Image], Tensor]
    """A picture as the image tower's input, [3, height, width]."""
    ids: Callable[[list[str]], Tensor]
    """Texts as the text tower's input, [texts, length]."""
    encode_image: Callable[[Tensor], Tensor]
    """[batch, 3, height, width] to vectors, of any length."""
    encode_text: Callable[[Tensor], Tensor]
    """[batch, length] to vectors, of any length."""
    remarks: Sequence[str] = ()
    """What was assumed or left out when it was loaded."""

    @classmethod
    def of(cls, encoder: Encoder) -> "Load":
        """That of an `Encoder`, its texts padded to the context. Raises ConfigError for a tower
        alone."""
        if missing := encoder.config.missing:
            raise ConfigError(
                f"{encoder.name} has no {missing} tower, and whole models are compared: give both "
                "as whole models"
            )
        tokenizer, model, where = encoder.tokenizer, encoder.model, encoder.device
        precision = next(model.image.parameters()).dtype

        return cls(
            name=encoder.name,
            config=encoder.config,
            weights=model.state_dict(),
            pixels=encoder.preprocess,
            ids=lambda texts: tokenizer(texts, tokenizer.context_length),
            encode_image=lambda pixels: model.encode_image(pixels.to(where, precision)),
            encode_text=lambda ids: model.encode_text(ids.to(where)),
            remarks=_remarks(encoder.provenance),
        )

    @property
    def dtype(self) -> torch.dtype:
        """Of the image tower's matrices: norms may be more precise."""
        image = (tensor for name, tensor in self.weights.items() if name.startswith("image."))
        return max(image, key=Tensor.numel).dtype


def _remarks(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    assumed = provenance.get("assumed", "")
    said = f"its file doesn't say how it is built; assumed: {assumed}" if assumed else ""
    return tuple(filter(None, (said, left_behind(provenance))))
