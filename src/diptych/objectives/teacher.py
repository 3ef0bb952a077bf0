"""A trained model within an objective, whose answers are targets."""

from typing import Any

import torch
from torch import Tensor, nn

from diptych.batch import Batch
from diptych.config import ClipConfig
from diptych.errors import ConfigError
from diptych.inputs import Preprocess
from diptych.models import Clip, TokenKind, Tower, TowerOutput


class Teacher(nn.Module):
    """A model that isn't trained: in evaluation mode, without gradients, whatever becomes of the
    objective that it is a part of.

    It is sharded with the objective, and goes to its device; it is no part of a checkpoint, which
    names it (`run.json`) and doesn't repeat it. So its weights are in no `state_dict`.

    It sees the same crop as the model that it teaches, made of the same levels by its own mean and
    deviation, and resized where its pictures have another size (bicubic; smaller ones with
    antialiasing).

    `text`: whether its text tower is kept, too.

    >>> import torch
    >>> from diptych import pretrained
    >>> from diptych.batch import Batch
    >>> from diptych.models import build
    >>> from diptych.objectives import Teacher
    >>> teacher = Teacher(build(pretrained.get("tiny")))
    >>> batch = Batch(images=(torch.zeros(2, 3, 64, 64, dtype=torch.uint8),), texts=(),
    ...               index=torch.arange(2), normalise=lambda levels: levels / 255)
    >>> seen = teacher.see(batch.ready(), tokens="projected")
    >>> seen.tokens.shape, seen.pooled.shape, seen.pooled.requires_grad
    (torch.Size([2, 9, 128]), torch.Size([2, 128]), False)
    """

    logit_scale: Tensor
    """Of [1]: the logarithm of the factor on its cosine similarities."""
    normal: Tensor
    """What its pictures' levels are multiplied by, and what is added: [2, 3, 1, 1]."""

    def __init__(self, model: Clip, text: bool = True):
        super().__init__()
        self.config = model.config
        if model.config.image.native:
            raise ConfigError(
                f"a {type(model.config.image).__name__} can't teach: it takes pictures of their "
                "own aspect, and teachers are shown squares"
            )
        self.image = model.image
        self.text = model.text if text else None
        self.register_buffer("logit_scale", model.logit_scale.detach().clone())
        preprocess = Preprocess(model.config.preprocess, model.config.image.image_size)
        self.register_buffer("normal", preprocess.scale_and_shift(torch.device("cpu")).clone())
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Teacher":
        """It stays in evaluation mode."""
        return super().train(False)

    def state_dict(self, *args: Any, destination: Any = None, **options: Any) -> Any:
        """Nothing: a checkpoint doesn't repeat it. Its tensors are in `tensors`."""
        return {} if destination is None else destination

    def tensors(self) -> dict[str, Tensor]:
        """Its parameters and buffers, by name."""
        return dict(self.named_parameters()) | dict(self.named_buffers())

    @property
    def towers(self) -> list[Tower[Any]]:
        """Those that it keeps."""
        return [self.image] if self.text is None else [self.image, self.text]

    @torch.no_grad()
    def see(self, batch: Batch, view: int = 0, tokens: TokenKind = "none") -> TowerOutput:
        """What its image tower makes of a view of the batch's pictures. Raises ConfigError for a
        batch that doesn't have them as levels."""
        if batch.levels is None:
            raise ConfigError(
                "a teacher needs a batch's pictures as levels (uint8), with `normalise`: those "
                "that were normalised for one model aren't another's"
            )
        return self.image(self.pixels(batch.levels[view]), tokens)

    @torch.no_grad()
    def read(self, batch: Batch, view: int = 0, tokens: TokenKind = "none") -> TowerOutput:
        """What its text tower makes of a view of the batch's captions; see `check_texts`."""
        assert self.text is not None
        ids, lengths = batch.texts[view], batch.lengths_of(view)
        if lengths is None or self.config.text.padding != "ignored":
            return self.text(ids, tokens)
        return self.text(ids, tokens, lengths)

    def pixels(self, levels: Tensor) -> Tensor:
        """Its image tower's input: levels UInt8[batch, 3, size, size], its own way."""
        scale, shift = self.normal.float()
        sized = resized(levels, self.config.image.image_size).float()
        return sized.mul_(scale).add_(shift).to(self.logit_scale.dtype)

    def check_texts(self, student: ClipConfig) -> None:
        """Raises ConfigError unless it reads the ids that are made for the model which it
        teaches."""
        own = self.config
        same = own.tokenizer == student.tokenizer and own.text.vocabulary == student.text.vocabulary
        if not same:
            raise ConfigError(
                f"the teacher's tokenizer ({own.tokenizer.kind}, {own.text.vocabulary} ids) isn't "
                f"the model's ({student.tokenizer.kind}, {student.text.vocabulary} ids), so it "
                "would read other words: choose a teacher or a model with the other's tokenizer"
            )
        theirs, length = student.text.context_length, own.text.context_length
        if length < theirs or (own.text.padding == "seen" and length != theirs):
            raise ConfigError(
                f"the teacher reads texts of {length} tokens, and the model's have {theirs}: "
                "choose a model or a teacher with the other's context"
            )


def resized(levels: Tensor, side: int) -> Tensor:
    """Square levels UInt8[batch, 3, size, size] as those of `side` x `side`."""
    if levels.shape[-1] == side:
        return levels
    found = nn.functional.interpolate(
        levels.float(), (side, side), mode="bicubic", antialias=side < levels.shape[-1]
    )
    return found.round_().clamp_(0, 255).to(torch.uint8)  # bicubic overshoots
