"""Pictures to captions."""

from torch import Tensor

from diptych.errors import ConfigError
from diptych.inputs import Tokenizer
from diptych.models import Clip
from diptych.models.beams import Limits, NextLogits, search


def limits_of(model: Clip, tokenizer: Tokenizer, most: int, least: int, beams: int) -> Limits:
    """How long captions are. Raises ConfigError for a model that writes none, and for numbers that
    don't fit."""
    if model.decoder is None:
        raise ConfigError("this model writes no captions; CoCa's do, such as coca-vit-l-14")
    context = min(model.decoder.config.context_length, model.config.text.context_length)
    if not 1 < most <= context:
        raise ConfigError(f"most {most}: a caption has from 2 to {context} tokens at the most")
    if not 0 <= least < most:
        raise ConfigError(f"least {least} must lie from 0 to {most - 1}, below most")
    if beams < 1:
        raise ConfigError(f"beams {beams} must be at least 1")
    start, *_, end = tokenizer.encode("")
    return Limits(start=start, end=end, least=least, most=most)


def write(
    model: Clip, pixels: Tensor, tokenizer: Tokenizer, beams: int, limits: Limits
) -> list[str]:
    """The caption of each of a batch of pictures, normalised and where the model is, which is in
    evaluation mode."""
    found = search(next_logits_of(model, pixels), len(pixels), beams, limits)
    return [tokenizer.decode(ids).strip() for ids in found]


def next_logits_of(model: Clip, pixels: Tensor) -> NextLogits:
    """What foretells the next token of texts about these pictures, which it reads once."""
    read = model.read_pictures(pixels)

    def next_logits(ids: Tensor) -> Tensor:
        return model.next_tokens(ids.to(pixels.device), read, last=True)[:, 0]

    return next_logits
