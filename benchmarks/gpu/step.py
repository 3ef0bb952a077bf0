"""A training step of one model: Diptych's own loop beside open_clip's step written out, bfloat16,
pictures and captions on the device already."""

import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from benchmarks.gpu import inner
from benchmarks.gpu.setting import Row, Setting, captions, lacks
from diptych import pretrained
from diptych.config import ClipConfig, ClipObjectiveConfig


class Peer(NamedTuple):
    """What a model is measured beside."""

    name: str
    """In open_clip."""
    pairs: int
    """Of a step, if they fit."""
    goal: float
    """The share of a bfloat16 product's FLOPs that we want to reach."""


PEERS = {
    "vit-b-32": Peer("ViT-B-32", 1024, 0.40),
    "vit-b-16": Peer("ViT-B-16", 512, 0.40),
    "vit-l-14": Peer("ViT-L-14", 192, 0.55),
    "eva02-clip-l-14": Peer("EVA02-L-14", 160, 0.55),
}
"""By our name."""
WARM, STEPS = 3, 10


def steps(setting: Setting) -> Iterator[Row]:
    """Pairs a second, share of the measured product's FLOPs (MFU), memory."""
    pairs, best = setting.pick(4, PEERS[setting.model].pairs), setting.teraflops()
    lack = lacks("open_clip", f"{setting.model}, open_clip")
    once = setting.toy and setting.model != "vit-b-32"  # one that compiles is rehearsal enough
    for compiled in (False,) if once else (False, True):
        how = "compiled" if compiled else "eager"
        for title, whole in (("77 tokens", True), ("real lengths", False)):
            ours = _ours(setting, compiled, whole)
            yield _row(f"Diptych, {how}, {title}", ours, pairs, setting, best)
        theirs = _theirs(setting, compiled)
        yield lack or _row(f"open_clip, {how}, 77 tokens", theirs, pairs, setting, best)
    parts = _ours(setting, compiled=False, whole=True, parts=4)
    yield _row("Diptych, eager, four micro-batches", parts, pairs, setting, best)


Measure = Callable[[int], tuple[inner.Steps, int]]
"""Pairs a step -> what steps took, and FLOPs of a pair."""


def _row(title: str, measure: Measure, pairs: int, setting: Setting, best: float) -> Row:
    """Of as many pairs as fit: halved where memory runs out."""
    while True:
        try:
            steps, flops = measure(pairs)
            break
        except Exception as error:  # Diptych's own says the same of another class
            if "memory" not in str(error) or pairs < 4:
                raise
            pairs //= 2
        finally:
            torch.compiler.reset()
            setting.free()
    tflops = 3 * flops * pairs / steps.each / 1e12
    row = {"name": f"{setting.model}, {title}", "pairs": pairs, "ms": steps.each * 1e3}
    row |= {"pairs_per_s": pairs / steps.each, "tflops": tflops, "mfu": tflops / best}
    row |= {"goal": PEERS[setting.model].goal, "peak_gib": steps.peak_gib}
    return row | {"first_steps_s": steps.first}


def _config(setting: Setting) -> ClipConfig:
    config = pretrained.get(setting.model)
    return inner.shallow(config) if setting.toy else config


def _ours(setting: Setting, compiled: bool, whole: bool, parts: int = 1) -> Measure:
    config, objective = _config(setting), ClipObjectiveConfig()

    def measure(pairs: int) -> tuple[inner.Steps, int]:
        micro = 0 if parts == 1 else max(1, pairs // parts)
        run = inner.run_of(config, pairs, compile=compiled, micro_batch=micro)
        batches = [inner.batch_of(config, objective, pairs, seed, whole) for seed in range(2)]
        lengths = [batch.lengths_of(0) for batch in batches]
        known = [length for each in lengths if each for length in each.host]
        tokens = round(statistics.mean(known)) if known else config.text.context_length
        warm, steps = setting.pick((1, 1), (WARM, STEPS))
        found = inner.time_steps(run, batches, setting, warm, steps)
        return found, inner.flops_of(config, tokens)

    return measure


def _theirs(setting: Setting, compiled: bool) -> Measure:
    config, name = _config(setting), PEERS[setting.model].name
    side = config.image.image_size

    def measure(pairs: int) -> tuple[inner.Steps, int]:
        import open_clip

        with setting.device:  # drawn on the device: seconds, not a minute
            model: Any = open_clip.create_model(name, precision="fp32", device=setting.device)
        model.train()
        for owner, blocks in _blocks(model):
            if setting.toy:
                setattr(owner, blocks, getattr(owner, blocks)[:1])
            for block in getattr(owner, blocks) if compiled else ():
                block.compile()  # one by one, as ours: a graph of the whole takes minutes
        loss, parameters = open_clip.ClipLoss(), [*model.parameters()]
        optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.2},
                {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=1e-4,
            betas=(0.9, 0.98),
            eps=1e-6,
            fused=True,
        )
        batches = [
            (torch.randn(pairs, 3, side, side, device=setting.device), captions(pairs, seed=seed))
            for seed in range(2)
        ]
        batches = [(images, ids.to(setting.device)) for images, ids in batches]

        def step(number: int) -> None:
            images, ids = batches[number % 2]
            optimizer.zero_grad()
            with torch.autocast(setting.device.type, torch.bfloat16):
                total = loss(*model(images, ids)[:3])
            total.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))

        return inner.timed(step, setting, *setting.pick((1, 1), (WARM, STEPS))), inner.flops_of(
            config, config.text.context_length
        )

    return measure


def _blocks(model: Any) -> list[tuple[Any, str]]:
    """Where open_clip's image and text tower have their blocks."""
    if hasattr(model.visual, "trunk"):  # timm's
        return [(model.visual.trunk, "blocks"), (model.text.transformer, "resblocks")]
    return [(model.visual.transformer, "resblocks"), (model.transformer, "resblocks")]


CHECKS = (steps,)
