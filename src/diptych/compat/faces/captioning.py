"""Captions by open_clip's options: searched, or drawn word by word.

https://github.com/mlfoundations/open_clip, src/open_clip/coca_model.py
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from diptych.config import ClipConfig
from diptych.errors import ConfigError, UnknownNameError
from diptych.inputs.tokenizer import pad_rows
from diptych.models.beams import Limits, NextLogits, search

KINDS = ("beam_search", "top_p", "top_k")
"""What `generation_type` may be."""


class Choice(NamedTuple):
    """How the next word is drawn."""

    kind: str
    """top_k: among so many; top_p: among the likeliest, which together have this share."""
    top_k: int
    top_p: float
    temperature: float
    """Logits are divided by it: the smaller, the likelier are the likeliest."""
    repetition_penalty: float
    """What logits of words of the text so far lose: positive ones are divided by it, negative ones
    multiplied (Keskar et al. 2019, arXiv:1909.05858, §4.1)."""


def limits_of(
    config: ClipConfig, bounds: tuple[int, int], least: int, lengths: tuple[int, int | None]
) -> Limits:
    """Of captions between the ids `bounds`; `lengths`: `seq_len` and `max_seq_len`. Raises
    ConfigError for a model that writes none, and for numbers that don't fit."""
    if config.decoder is None:
        raise ConfigError("this model writes no captions; CoCa's do, such as coca-vit-l-14")
    context = min(config.decoder.context_length, config.text.context_length)
    most, window = lengths
    if most > context:
        raise ConfigError(f"seq_len {most} is above {context}, the model's context_length")
    if window is not None and window < most:
        raise ConfigError(f"max_seq_len {window} is below seq_len {most}; leave it out")
    if not 0 <= least < most:
        raise ConfigError(f"min_seq_len {least} must lie from 0 to {most - 1}, below seq_len")
    return Limits(*bounds, least=least, most=most)


def prompt_of(
    text: Int[Tensor, "*batch length"] | None, valid: Tensor | None, pictures: int
) -> Int[Tensor, "texts kept"] | None:
    """The texts to go on from, without the padding that `valid` says is behind all of them alike.
    Raises ConfigError where it isn't, and for other than one text to a picture.

    >>> import torch
    >>> from diptych.compat.faces.captioning import prompt_of
    >>> prompt_of(torch.tensor([5, 6, 0]), torch.tensor([1, 1, 0]), pictures=1)
    tensor([[5, 6]])
    """
    if text is None:
        return None
    rows = text if text.ndim > 1 else text[None]
    if len(rows) != pictures:
        raise ConfigError(f"{len(rows)} texts to go on from and {pictures} pictures")
    if valid is None:
        return rows
    real = valid.bool().reshape(rows.shape)
    kept = int(real[0].sum())
    if not kept or not torch.equal(real, torch.arange(rows.shape[1]).expand_as(real) < kept):
        raise ConfigError(
            "texts to go on from must have the same valid length, with their padding behind them "
            "(text_valid); write for each length apart"
        )
    return rows[:, :kept]


def searched(
    next_logits: NextLogits, pictures: int, beams: tuple[int, int], limits: Limits, pad_id: int
) -> Int[Tensor, "batch length"]:
    """Captions by beam search: `beams` in all, and in how many groups, which find the same."""
    each = max(1, beams[0] // max(1, beams[1]))
    return pad_rows(search(next_logits, pictures, each, limits), pad_id)


def draw(
    next_logits: NextLogits,
    text: Int[Tensor, "texts length"],
    choice: Choice,
    limits: Limits,
    pad_id: int,
    whole: bool = False,
) -> Int[Tensor, "texts longer"]:
    """Texts that go on from these, by torch's generator as open_clip draws from it: an end or
    padding ends a text, and the last place is the end's. `whole`: up to the most.

    >>> import torch
    >>> from diptych.compat.faces.captioning import Choice, draw
    >>> from diptych.models.beams import Limits
    >>> def next_logits(ids):  # 1 after 0, 2 after 1, 3 (the end) after 2
    ...     return 9 * torch.eye(5)[(ids[:, -1] + 1).clamp(max=3)]
    >>> choice = Choice("top_k", top_k=1, top_p=0.1, temperature=1.0, repetition_penalty=1.0)
    >>> draw(next_logits, torch.tensor([[0], [2]]), choice, Limits(0, 3, least=1, most=9), 4)
    tensor([[0, 1, 2, 3],
            [2, 3, 4, 4]])
    """
    while text.shape[1] < limits.most:
        ended = (text[:, -1] == limits.end) | (text[:, -1] == pad_id)
        words = torch.full((len(text), 1), pad_id, device=text.device)
        if ended.all() and not whole:
            break
        if not ended.all():
            going = text[~ended]
            logits = next_logits(text)[~ended].float()
            if text.shape[1] < limits.least:
                logits[:, limits.end] = -torch.inf
            shares = F.softmax(_kept(logits, going, choice) / choice.temperature, dim=-1)
            last = text.shape[1] + 1 == limits.most
            words[~ended] = limits.end if last else torch.multinomial(shares, 1)
        text = torch.cat([text, words], dim=1)
    return text


def _kept(
    logits: Float[Tensor, "texts vocabulary"], text: Int[Tensor, "texts length"], choice: Choice
) -> Float[Tensor, "texts vocabulary"]:
    """The logits of the words among which is drawn, less what repetition costs; -inf of others."""
    penalty = choice.repetition_penalty
    said = logits.gather(1, text)
    logits = logits.scatter(1, text, torch.where(said < 0, said * penalty, said / penalty))
    if choice.kind == "top_k":
        least = logits.topk(min(choice.top_k, logits.shape[1])).values[:, -1:]
        return logits.masked_fill(logits < least, -torch.inf)
    # From the unlikeliest on, those go that together have at most the share that is left out.
    ordered, places = logits.sort()
    out = ordered.softmax(-1).cumsum(-1) <= 1 - choice.top_p
    out[:, -1] = False
    return logits.masked_fill(out.scatter(1, places, out), -torch.inf)


def check(choice: Choice, text: Any, stopping_criteria: Any) -> None:
    """Raises UnknownNameError for another `generation_type`, and ConfigError for what open_clip
    passes over, or Diptych hasn't."""
    if choice.kind not in KINDS:
        raise UnknownNameError("generation_type", choice.kind, KINDS)
    if stopping_criteria is not None:
        raise ConfigError("stopping_criteria have no counterpart in Diptych; say seq_len")
    for name, value in (("temperature", choice.temperature), ("top_k", choice.top_k)):
        if value <= 0:
            raise ConfigError(f"{name} {value} must be above 0")
    if not 0 <= choice.top_p <= 1:
        raise ConfigError(f"top_p {choice.top_p} must lie from 0 to 1")
    if choice.repetition_penalty <= 0:
        raise ConfigError(f"repetition_penalty {choice.repetition_penalty} must be above 0")
    if choice.kind == "beam_search":
        for name, given in (
            ("text", text is not None),
            ("repetition_penalty", choice.repetition_penalty != 1),
        ):
            if given:
                raise ConfigError(
                    f"{name} doesn't go with beam_search; say generation_type='top_k' or 'top_p'"
                )
