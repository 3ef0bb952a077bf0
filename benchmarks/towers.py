"""ViT-B/32: pictures and texts through the towers, and a training step. One state dict in both."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import open_clip
import torch

from benchmarks.compare import Row, seconds
from benchmarks.gpu.setting import lengths_of
from diptych.batch import Batch
from diptych.checkpoints import load_model
from diptych.config import ClipObjectiveConfig, OptimConfig
from diptych.distributed import Peers
from diptych.inputs import build_tokenizer
from diptych.models import Clip
from diptych.objectives import build_objective
from diptych.optim import build_optimizer, decay_groups

WORDS = (
    "a",
    "photo",
    "of",
    "the",
    "small",
    "red",
    "dog",
    "cat",
    "on",
    "table",
    "near",
    "old",
    "house",
    "with",
    "tree",
)


def captions(count: int) -> list[str]:
    """Captions of 5 to 24 words, as long as those of web pictures."""
    generator = torch.Generator().manual_seed(0)

    def draw(limit: int) -> int:
        return int(torch.randint(limit, (1,), generator=generator))

    found = list[str]()
    for _ in range(count):
        length = 5 + draw(20)
        found.append(" ".join(WORDS[draw(len(WORDS))] for _ in range(length)))
    return found


def models() -> tuple[Clip, open_clip.CLIP]:
    """The same weights in open_clip's model and in ours."""
    theirs = open_clip.create_model("ViT-B-32").eval()
    assert isinstance(theirs, open_clip.CLIP)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.pt"
        torch.save(theirs.state_dict(), file)
        ours = load_model(str(file)).model.eval()
    return ours, theirs


def rows() -> Iterator[Row]:
    ours, theirs = models()
    tokenizer = build_tokenizer(ours.config.tokenizer, 77)
    for precision in ("fp32", "bf16"):
        # Not inference_mode: under it autocast makes open_clip three times slower, and its
        # documentation uses no_grad.
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            for count in (1, 32):
                pixels, texts = torch.randn(count, 3, 224, 224), captions(count)
                short, long = tokenizer(texts), tokenizer(texts, pad_to=77)
                for side, mine, other in (
                    (
                        "image",
                        partial(ours.encode_image, pixels),
                        partial(theirs.encode_image, pixels),
                    ),
                    ("text", partial(ours.encode_text, short), partial(theirs.encode_text, long)),
                ):
                    gap = (mine() - other()).abs().max()
                    title = f"{side} tower, {precision}, batch {count}"
                    times = seconds(mine, other)
                    yield throughput(title, count, times[0], times[1], f"{gap:.1e}")
    yield from _training_step(ours.train(), theirs.train(), tokenizer)


def _training_step(ours, theirs, tokenizer, count: int = 16) -> Iterator[Row]:
    pixels, texts = torch.randn(count, 3, 224, 224), captions(count)
    ids = tokenizer(texts)
    batch = Batch(
        images=(pixels,), texts=(ids,), index=torch.arange(count), lengths=(lengths_of(ids),)
    )
    long = tokenizer(texts, pad_to=77)
    objective = build_objective(ClipObjectiveConfig(), ours)
    optimizer = build_optimizer(OptimConfig(), decay_groups(objective, frozenset(), 0.2))
    their_loss = open_clip.ClipLoss()
    their_optimizer = torch.optim.AdamW(
        theirs.parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2
    )

    def our_loss() -> torch.Tensor:
        return objective(batch, Peers()).total

    def other_loss() -> torch.Tensor:
        return their_loss(*theirs(pixels, long))

    def step(loss, optimizer):
        with torch.autocast("cpu", torch.bfloat16):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    with torch.no_grad():
        gap = abs(float(our_loss()) - float(other_loss()))
    mine, other = seconds(
        lambda: step(our_loss, optimizer), lambda: step(other_loss, their_optimizer)
    )
    yield throughput(f"training step, bf16, batch {count}", count, mine, other, f"loss {gap:.1e}")


def throughput(name: str, count: int, mine: float, other: float, gap: str) -> Row:
    """Samples per second of either, from the seconds that `count` of them take."""
    return Row(
        name=name,
        unit="/s",
        ours=count / mine,
        theirs=count / other,
        higher_is_better=True,
        check=f"differ by {gap}",
    )
