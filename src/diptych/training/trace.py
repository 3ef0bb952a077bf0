"""What a training step does, without doing it: on tensors that have shapes and no numbers.

The run's own objective goes forward and backward under torch's `FakeTensorMode`, and its own
optimiser takes a step. Every tensor is there as it would be, at no cost, and is counted.
"""

import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._pytree import tree_leaves

from diptych.batch import Batch, HiddenPatches, HiddenView, Taught, TextLengths
from diptych.config import ClipConfig, Run, TowerConfig
from diptych.config.serialize import override, to_dict
from diptych.distributed import Peers, data_parallel
from diptych.errors import ConfigError
from diptych.inputs import Preprocess
from diptych.models import build
from diptych.objectives import Objective
from diptych.optim import build_optimizer
from diptych.training.assemble import described, objective_of, parameter_groups, parts_of
from diptych.training.step import autocast
from diptych.training.storages import Kept, Live
from diptych.training.teachers import teacher_configs

_DEEP = 40
"""Blocks of both towers from which a trace would take long: inner blocks are alike, so such towers
are traced with two and three of them."""
_UNIFORM = 2
_Models = tuple[ClipConfig, ...]
"""The model that is trained, and its teachers."""
_Place = tuple[int, str]
"""Which of the models, and which tower."""


class Trace(NamedTuple):
    """One forward and backward pass over a micro-batch, and a step of the optimiser. Bytes are
    those of one process that holds everything."""

    weights: int
    """Bytes of the weights."""
    gradients: int
    """Bytes of the gradients, of what is trained."""
    optimizer: int
    """Bytes of the optimiser's state after a step."""
    inputs: int
    """Bytes of pictures and captions."""
    kept: int
    """Bytes that the forward pass keeps for the backward pass: what autograd saves, once each, but
    for weights and inputs."""
    passing: int
    """Bytes at the most, at any time of the two passes: weights, inputs, what is kept, gradients so
    far, and what is there for a moment."""
    stepping: int
    """Bytes at the most while the optimiser steps, its state without the average's."""
    block: int
    """Bytes of the largest block's weights."""
    forward: int
    """FLOPs of towers, heads and teachers, forward, as torch counts them: a multiply-add is two."""
    again: int
    """Of them, those that are done once more where there are micro-batches; 0: the loss contrasts
    no samples, so none are."""
    both: int
    """FLOPs forward and backward; with activations recomputed where the run says so."""


def trace(run: Run, pairs: int) -> Trace:
    """Follow a step of `run` over a micro-batch of `pairs`, with captions of full length and, of
    pictures in their own aspect, the run's largest budget of patches. The
    contrast of pairs is left out: it depends on everybody's.

    Raises ConfigError for an objective whose shapes depend on what stands in the captions.

    >>> from diptych.config import ModelConfig, Run
    >>> from diptych.training.trace import trace
    >>> step = trace(Run(model=ModelConfig(name="tiny"), steps=1), pairs=2)
    >>> step.weights == step.gradients, step.optimizer // step.weights
    (True, 2)
    """
    teachers = teacher_configs(run)
    models = (described(run, teachers), *teachers)
    depths = dict[_Place, int]()
    for number, config in enumerate(models):
        depths[number, "image"], depths[number, "text"] = _depth(config.image), _depth(config.text)
    locked = run.model.image.unlocked_layers or run.model.text.unlocked_layers
    if sum(depths.values()) < _DEEP or min(depths.values()) <= _UNIFORM or locked:
        return _trace(run, models, pairs)
    for place in depths:
        models = _with_depth(models, place, _UNIFORM)
    found = base = _trace(run, models, pairs)
    for place, depth in depths.items():
        deeper = _trace(run, _with_depth(models, place, _UNIFORM + 1), pairs)
        rows = zip(found, base, deeper, strict=True)
        found = Trace(*(whole + (depth - _UNIFORM) * (more - less) for whole, less, more in rows))
    return found


def _depth(config: TowerConfig) -> int:
    """Of a tower whose blocks are alike; 0: they aren't."""
    layers = to_dict(config).get("layers")
    return layers if isinstance(layers, int) else 0


def _with_depth(models: _Models, place: _Place, layers: int) -> _Models:
    number, side = place
    deep = override(models[number], f"{side}.layers", layers)
    return (*models[:number], deep, *models[number + 1 :])


def _trace(run: Run, models: _Models, pairs: int) -> Trace:
    objective = _objective(run, models)
    blocks = [block for part in parts_of(objective, run).towers for block in part.units]
    for teacher in objective.teachers:
        teacher.pixels(torch.zeros(1, 3, 1, 1, dtype=torch.uint8))  # makes constants that are kept
    with FakeTensorMode(allow_non_fake_inputs=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fused kernels that a CPU lacks
        _without_numbers(objective)
        batch = _batch(objective, run, pairs)
        optimizer = build_optimizer(run.optim, parameter_groups(objective, run))
        inputs = [*batch.images, *batch.texts, *(batch.levels or ())]
        for shown in batch.taught:
            inputs += [shown.images, shown.texts]
        there = [*objective.parameters(), *objective.buffers(), *inputs]
        kept, live = Kept(there), Live(there)
        try:
            with live:
                features = _forward(objective, batch, run, kept)
                again = live.flops if objective.contrasts else 0
                _ask_teachers(objective, batch, run)
                forward = live.flops
                _backward(features)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise ConfigError(
                f"a step of {type(run.objective).__name__} can't be planned: its shapes depend on "
                "what stands in the captions; plan the towers with --objective clip"
            ) from error
        del features
        passing = live.restart()
        trained = [p for p in objective.parameters() if p.requires_grad]
        with live:
            for parameter in trained:  # the scale's, which the contrast gives, and the like
                if parameter.grad is None:
                    parameter.grad = torch.empty_like(parameter)
            optimizer.step()
        states = [tree_leaves(state) for state in optimizer.state.values()]
        return Trace(
            weights=_size(objective.parameters()),
            gradients=_size(trained),
            optimizer=_size(t for state in states for t in state if isinstance(t, Tensor)),
            inputs=_size(inputs),
            kept=kept.size,
            passing=passing,
            stepping=live.restart(),
            block=max((_size(block.parameters()) for block in blocks), default=0),
            forward=forward,
            again=again,
            both=live.flops,
        )


def _objective(run: Run, models: _Models) -> Objective:
    model, *teachers = (build(config, device="meta") for config in models)
    objective = objective_of(model, run, teachers)
    data_parallel(objective, Peers(), parts=parts_of(objective, replace(run, compile=False)))
    return objective


def _without_numbers(objective: Objective) -> None:
    """Under FakeTensorMode: parameters and buffers on `meta` become ones that say they are on a
    CPU, where autocast and attention choose their kernels."""
    made = dict[int, Any]()  # a parameter that stands in two places stays one
    for module in objective.modules():
        for name, parameter in module.named_parameters(recurse=False):
            new = nn.Parameter(
                torch.empty(parameter.shape, dtype=parameter.dtype), parameter.requires_grad
            )
            setattr(module, name, made.setdefault(id(parameter), new))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))


def _batch(objective: Objective, run: Run, pairs: int) -> Batch:
    views, config = objective.views, objective.model.config
    length, shape = config.text.context_length, (pairs, 3, *_picture(config, run))
    texts = tuple(torch.zeros(pairs, length, dtype=torch.long) for _ in views.text)
    levels = tuple(torch.empty(shape, dtype=torch.uint8) for _ in views.image)
    return Batch(
        images=tuple(torch.empty(shape) for _ in views.image),
        levels=levels if objective.teachers else None,
        hidden=_hidden(views.hidden, pairs),
        texts=texts,
        taught=_shown(objective, pairs) if views.taught else (),
        index=torch.zeros(pairs, dtype=torch.long),
        mlm_labels=texts[0] if "masked" in views.text else None,
        lengths=_lengths(objective, pairs),
    )


def _picture(config: ClipConfig, run: Run) -> tuple[int, int]:
    """Height and width of a picture; of one in its own aspect, of the run's largest budget."""
    how = config.preprocess
    how = replace(how, patches=max(run.data.patches, default=how.patches))
    preprocess = Preprocess(how, config.image.image_size)
    return preprocess.height, preprocess.wide


def _lengths(objective: Objective, pairs: int) -> tuple[TextLengths, ...] | None:
    """Of captions that a decoder learns to write, whose number of tokens they say; towers don't
    need them of captions of full length."""
    decoder = objective.model.decoder
    if decoder is None or not decoder.trained:
        return None
    full = TextLengths.of([objective.model.config.text.context_length] * pairs)
    return (full,) * len(objective.views.text)


def _shown(objective: Objective, pairs: int) -> tuple[Taught, ...]:
    """To each teacher."""
    found = list[Taught]()
    for config in (teacher.config for teacher in objective.teachers):
        side, length = config.image.image_size, config.text.context_length
        levels = torch.empty(pairs, 3, side, side, dtype=torch.uint8)
        found.append(Taught(levels, torch.zeros(pairs, length, dtype=torch.long)))
    return tuple(found)


def _hidden(view: HiddenView | None, pairs: int) -> HiddenPatches | None:
    if view is None:
        return None
    places = torch.zeros(pairs, view.side**2, dtype=torch.bool)
    return HiddenPatches(places, (view.count,) * pairs)


def _forward(objective: Objective, batch: Batch, run: Run, kept: Kept) -> list[Tensor]:
    """The features through which gradients come."""
    with autocast(run.precision, torch.device("cpu"))(), kept.watching():
        features = objective.features(batch)
    return [x for x in features.values() if x.requires_grad]


def _ask_teachers(objective: Objective, batch: Batch, run: Run) -> None:
    if objective.teachers:
        with autocast(run.precision, torch.device("cpu"))():
            objective.targets(batch)


def _backward(features: list[Tensor]) -> None:
    torch.autograd.backward(features, [torch.ones_like(x) for x in features])


def _size(tensors: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors)
