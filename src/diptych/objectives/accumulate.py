"""Micro-batches: the gradient of one big batch, in the memory of a small one."""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from diptych.batch import Batch, sent
from diptych.distributed import Peers, unsynchronised
from diptych.errors import ConfigError
from diptych.objectives.base import Cotangents, Features, Losses, Objective
from diptych.objectives.features import sent_in_parts


def accumulate(
    objective: Objective,
    wrapped: nn.Module,
    micro_batches: Sequence[Batch],
    peers: Peers,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    scale_loss: Callable[[Tensor], Tensor] = lambda loss: loss,
) -> Losses:
    """Add the gradient of the loss of all `micro_batches` together to every parameter's `.grad`.

    A contrastive loss isn't a sum over micro-batches: each pair needs all the others. So
    (GradCache, Gao et al. 2021, arXiv:2101.06983): the features of every micro-batch without a
    graph; one loss of them all, and its gradients; then each micro-batch again, with the same
    dropout masks, for the gradients of the towers. It costs a forward pass more. A loss that is a
    mean over samples' own terms (`Objective.contrasts`) needs none of it: micro-batches add up.

    `wrapped`: the objective as `data_parallel` gave it; gradients are averaged over the peers once,
    in the last backward pass. `autocast`: makes the context in which the towers compute.
    `scale_loss`: is given the loss, and gives what is differentiated (float16's loss scaling). The
    losses returned are those of all micro-batches together, detached and unscaled.

    Raises ConfigError where a tower in training takes statistics over its batch: micro-batches have
    others.

    >>> import torch
    >>> from diptych import pretrained
    >>> from diptych.batch import Batch
    >>> from diptych.config import ClipObjectiveConfig
    >>> from diptych.distributed import Peers
    >>> from diptych.models import build
    >>> from diptych.objectives import accumulate, build_objective
    >>> objective = build_objective(ClipObjectiveConfig(), build(pretrained.get("tiny"))).eval()
    >>> batch = Batch(images=(torch.rand(4, 3, 48, 48),), texts=(torch.arange(12).view(4, 3),),
    ...               index=torch.arange(4))
    >>> whole = accumulate(objective, objective, [batch], Peers())
    >>> halves = accumulate(objective, objective, [batch.rows(0, 2), batch.rows(2, 4)], Peers())
    >>> torch.testing.assert_close(halves.total, whole.total)
    """
    if len(micro_batches) == 1:
        with autocast():
            losses = wrapped(micro_batches[0], peers)
        scale_loss(losses.total).backward()
        return losses._replace(total=losses.total.detach())
    _refuse_batch_statistics(objective)
    if not objective.contrasts:
        counts = [objective.terms(batch) for batch in micro_batches]
        return _add_up(wrapped, micro_batches, counts, peers, autocast, scale_loss)
    # One: features, without a graph. Two: dloss/dfeatures. Three: the chain rule's other half,
    # dfeatures/dweights, a micro-batch at a time; the sum over samples is the whole gradient.
    # All within calls of the wrapped objective: sharded parameters are whole there.
    with unsynchronised(wrapped):
        features, targets, states = _features(objective, wrapped, micro_batches, peers, autocast)
        losses, cotangents = wrapped(
            lambda: _contrast(objective, features, targets, peers, autocast, scale_loss)
        )
    for i, (batch, state, cotangent) in enumerate(
        zip(micro_batches, states, cotangents, strict=True), 1
    ):
        last = i == len(micro_batches)
        # The gradients belong to the features of the first pass: dropout and dropped patches must
        # be the same ones. All but the last backward pass add up locally, and what goes over the
        # wire goes once.
        with _replayed(state, peers.device), nullcontext() if last else unsynchronised(wrapped):
            with autocast():
                product = wrapped(batch, peers, cotangent).total
            product.backward()
    return losses


def _add_up(
    wrapped: nn.Module,
    micro_batches: Sequence[Batch],
    counts: Sequence[int],
    peers: Peers,
    autocast: Callable[[], AbstractContextManager[Any]],
    scale_loss: Callable[[Tensor], Tensor],
) -> Losses:
    """Of a loss that is a mean over terms: each micro-batch counts by everybody's terms in it."""
    terms = peers.sum(sent(torch.tensor(counts, dtype=torch.float64), peers.device))
    total, metrics = torch.zeros((), device=peers.device), dict[str, Tensor]()
    for i, (batch, share) in enumerate(zip(micro_batches, terms / terms.sum()), 1):
        with nullcontext() if i == len(micro_batches) else unsynchronised(wrapped):
            with autocast():
                losses = wrapped(batch, peers)
            part = losses.total * share.to(losses.total.dtype)
            scale_loss(part).backward()
        assert not losses.carry  # what is to be kept of a step isn't a mean
        total = total + part.detach()
        for name, value in losses.metrics.items():
            metrics[name] = metrics.get(name, 0) + value * share.to(value.dtype)
    return Losses(total, metrics)


class _RandomState(NamedTuple):
    cpu: Tensor
    device: Tensor | None


def _random_state(device: torch.device) -> _RandomState:
    return _RandomState(
        torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    )


@contextmanager
def _replayed(state: _RandomState, device: torch.device) -> Generator[None, None, None]:
    """Draw the same random numbers as after `state`; afterwards the generators are where they were
    before."""
    with torch.random.fork_rng([device] if state.device is not None else []):
        torch.set_rng_state(state.cpu)
        if state.device is not None:
            torch.cuda.set_rng_state(state.device, device)
        yield


@torch.no_grad()
def _features(
    objective: Objective,
    wrapped: nn.Module,
    micro_batches: Sequence[Batch],
    peers: Peers,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> tuple[list[Features], list[Features], list[_RandomState]]:
    """Each micro-batch's features, its targets, and the random state that they were drawn with."""
    features, targets, states = list[Features](), list[Features](), list[_RandomState]()
    for batch in micro_batches:
        states.append(_random_state(peers.device))
        # A context each: autocast keeps the weights' casts until its end, and these know of no
        # gradient.
        with autocast():
            mine, given = wrapped(partial(objective.asked, batch.ready(), peers))
        features.append(mine)
        targets.append(given)
    return features, targets, states


def _contrast(
    objective: Objective,
    features: list[Features],
    targets: list[Features],
    peers: Peers,
    autocast: Callable[[], AbstractContextManager[Any]],
    scale_loss: Callable[[Tensor], Tensor],
) -> tuple[Losses, list[Cotangents]]:
    """The loss of all micro-batches together, and its gradients cut up again; those of parameters
    that the loss uses itself (scale, bias, heads) go with the last micro-batch."""
    whole = _joined(features)
    # Features without their towers' graph are leaves, at which autograd stops: dloss/dfeatures is
    # what it gives there. Labels and masks are features, too, but have no gradient.
    leaves = {name: x.requires_grad_() for name, x in whole.items() if x.is_floating_point()}
    parameters = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    # What each micro-batch sent has come while the next were computed.
    arriving = {
        name: sent_in_parts(x, [part[name] for part in features]) for name, x in whole.items()
    }
    with autocast():
        losses = objective.loss(arriving | _joined(targets), peers)
    used = _gradients(scale_loss(losses.total), leaves | parameters)
    # A feature's row belongs to one sample, so its gradient goes to that sample's micro-batch.
    sizes = [len(next(iter(part.values()))) for part in features]
    parts = {name: used[name].split(sizes) for name in leaves if name in used}
    cotangents = list[Cotangents]()
    for i in range(len(sizes)):
        cotangents.append(Cotangents({name: rows[i] for name, rows in parts.items()}, {}))
    # With the last, and only there: it is the one backward pass in which DDP averages, and in it
    # DDP expects every parameter's gradient, also of those that no tower uses.
    cotangents[-1].parameters.update({name: used[name] for name in parameters if name in used})
    return losses._replace(total=losses.total.detach()), cotangents


def _joined(parts: Sequence[Features]) -> Features:
    """The features of all micro-batches, as those of one batch."""
    joined: Features = {}
    for name in parts[0]:
        joined[name] = torch.cat([part[name] for part in parts])
    return joined


def _gradients(loss: Tensor, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The gradients of `loss` by name, of those inputs that it depends on."""
    found = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True)
    # An input that isn't used has None, of which torch's own annotation doesn't know.
    pairs = zip(inputs, cast(tuple[Tensor | None, ...], found), strict=True)
    return {name: gradient for name, gradient in pairs if gradient is not None}


def _refuse_batch_statistics(objective: Objective) -> None:
    for name, tower in (("image", objective.model.image), ("text", objective.model.text)):
        if tower.batch_statistics:
            raise ConfigError(
                f"the {name} tower has batch normalisation, whose statistics over a micro-batch "
                "aren't those over the batch: leave --micro-batch 0"
            )
