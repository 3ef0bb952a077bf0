"""Captions of all lengths through ViT-B/32's text tower: in pieces of like length beside the batch
padded to 77 tokens and to its longest caption, forward and backward; and `Encoder.embed_texts`
beside open_clip."""

import random
from collections.abc import Iterator
from functools import partial

import open_clip
import torch
from torch import Tensor

from benchmarks.compare import Row, seconds
from benchmarks.towers import WORDS, models, throughput
from diptych import Encoder
from diptych.batch import TextLengths
from diptych.models import Clip

COUNTS = (64, 256)
"""Captions of a training batch."""
TEXTS = 1024


def mixed_captions(count: int, seed: int = 0) -> list[str]:
    """Lengths of web captions: median 12 tokens, mean 14, 95 % up to 31, 50 at the most."""
    draw, found = random.Random(seed), list[str]()
    for _ in range(count):
        words = min(48, max(1, round(draw.lognormvariate(2.3, 0.65))))
        found.append(" ".join(draw.choices(WORDS, k=words)))
    return found


def rows() -> Iterator[Row]:
    ours, theirs = models()
    encoder = Encoder(ours)
    for precision in ("fp32", "bf16"):
        for count in COUNTS:
            yield from _training(encoder, precision, count)
    texts = mixed_captions(TEXTS)
    tokenize = open_clip.get_tokenizer("ViT-B-32")

    def other() -> Tensor:
        vectors = list[Tensor]()
        with torch.no_grad():
            for start in range(0, TEXTS, 256):
                ids = tokenize(texts[start : start + 256])
                vectors.append(theirs.encode_text(ids, normalize=True))
        return torch.cat(vectors)

    gap = (encoder.embed_texts(texts) - other()).abs().max()
    mine, peer = seconds(partial(encoder.embed_texts, texts), other)
    yield throughput(f"embed_texts, fp32, {TEXTS} captions", TEXTS, mine, peer, f"{gap:.1e}")


def _training(encoder: Encoder, precision: str, count: int) -> Iterator[Row]:
    model, tokenizer = encoder.model.train(), encoder.tokenizer
    encoded = [tokenizer.encode(text) for text in mixed_captions(count)]
    lengths = TextLengths.of(list(map(len, encoded)))
    full, trimmed = tokenizer.pad(encoded, 77), tokenizer.pad(encoded)
    weights = torch.randn(count, model.config.embed_dim)

    def step(ids: Tensor, lengths: TextLengths | None = None) -> tuple[Tensor, Tensor]:
        """The vectors, and the gradient of the first block's first matrix."""
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            vectors = model.encode_text(ids, normalize=True, lengths=lengths)
        (vectors * weights).sum().backward()
        return vectors.detach(), _gradient(model)

    (vectors, gradient), (other, their_gradient) = step(full, lengths), step(full)
    check = f"{(vectors - other).abs().max():.1e}, gradient "
    check += f"{(gradient - their_gradient).abs().max() / their_gradient.abs().max():.1e}"
    times = seconds(
        partial(step, trimmed, lengths), partial(step, full), partial(step, trimmed), rounds=7
    )
    for beside, peer in zip(("77 tokens", "its longest caption"), times[1:], strict=True):
        name = f"text tower, forward and backward, {precision}, batch {count}, in pieces"
        yield throughput(f"{name} (beside ours padded to {beside})", count, times[0], peer, check)


def _gradient(model: Clip) -> Tensor:
    gradient = next(model.text.blocks[0].parameters()).grad
    assert gradient is not None
    return gradient.clone()
