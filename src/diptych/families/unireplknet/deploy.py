"""The deploy form of a trained ConvNet: what is linear in evaluation becomes one convolution (Ding
et al. 2024, arXiv:2311.15599, and 2021, arXiv:2101.03697).

With a batch norm's scale s = gain / sqrt(variance + eps) and its shift t = bias - s mean, in
evaluation

    norm(W * x) = s W * x + t

A dilated convolution is a dense one with zeros between its numbers, and sums of convolutions are
convolutions. The response norm's bias b passes through the matrix behind it, and layer scale a
through everything:

    a norm(W (x + b)) = a s W x + a (t + s W b)
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from diptych.families.unireplknet.config import UniRepLKNetConfig
from diptych.families.unireplknet.model import BRANCHES
from diptych.models import build_tower
from diptych.weights.mapping import check_fit
from diptych.weights.state import Lazy, State

NORM_EPS = 1e-5
"""torch's, of batch norms."""

_MERGED = "stages.0.blocks.0.down.bias"
"""A name that only a deploy form has."""

Affine = tuple[Tensor, Tensor]
"""A weight and a bias, or a scale and a shift; in float64."""


def deploy(state: State, config: UniRepLKNetConfig) -> tuple[State, UniRepLKNetConfig]:
    """The tower in deploy form: the same vectors in evaluation, without batch norms, branches and
    layer scale.

    `state` has the names of the tower alone (`State.part("image.")`), with or without projection.
    It is computed in float64 and rounded once, when a tensor is asked for, to the kernel's kind of
    numbers or to float32 if that is finer. A tower in deploy form comes back as it is. Raises
    CheckpointError if the state doesn't fit the configuration.

    >>> from diptych.families.unireplknet.deploy import deploy
    >>> from diptych.weights.state import State
    >>> from diptych.families.unireplknet import UniRepLKNetConfig
    >>> from diptych.models import build_tower
    >>> config = UniRepLKNetConfig(depths=(1, 1, 1, 1), widths=(8, 8, 8, 8), kernel_sizes=((3,), (13,), (13,), (13,)))
    >>> tower = build_tower(config, 6)
    >>> tower.init()
    >>> state, merged = deploy(State.of(tower.state_dict()), config)
    >>> build_tower(merged, 6).load_state_dict(state)
    <All keys matched successfully>
    """
    if config.deploy:
        return state, config
    shapes = state.shapes
    embed_dim = len(shapes["projection.weight"]) if "projection.weight" in shapes else None
    check_fit(shapes, build_tower(config, embed_dim, "meta").state_dict())
    merged = replace(config, deploy=True, layer_scale=None)
    expected, lazies = build_tower(merged, embed_dim, "meta").state_dict(), dict(state.lazies)
    for i, kernels in enumerate(config.kernels):
        for j, kernel in enumerate(kernels):
            prefix = f"stages.{i}.blocks.{j}."
            block = state.part(prefix)
            for name, make in _merges(kernel).items():
                lazies[f"{prefix}{name}"] = _lazy(block, make, expected[f"{prefix}{name}"].shape)
    return State({name: lazies[name] for name in expected}), merged


def in_form(state: State, config: UniRepLKNetConfig) -> tuple[State, UniRepLKNetConfig]:
    """The tower of `state`, in whichever form that is, in the one that `config` asks for: a
    training form is merged for a deploy form. What is merged already can't be taken apart: it stays
    so, and the configuration says it.

    Counters of batch norms, which not every file keeps, begin at 0. Raises as `deploy`.
    """
    if _MERGED in state:
        return state, replace(config, deploy=True, layer_scale=None)
    counters = {
        f"{norm}.num_batches_tracked": Lazy(torch.empty((), dtype=torch.long, device="meta"), _zero)
        for norm, _, part in (name.rpartition(".") for name in state)
        if part == "running_mean"
    }
    state = State(counters | state.lazies)
    if not config.deploy:
        return state, config
    scale = 1e-6 if "stages.0.blocks.0.scale" in state else None
    return deploy(state, replace(config, deploy=False, layer_scale=scale))


def _zero() -> Tensor:
    return torch.zeros((), dtype=torch.long)


def _merges(kernel: int) -> dict[str, Callable[[Mapping[str, Tensor]], Tensor]]:
    """What is made anew of a block, and how."""
    merges = {"down.weight": _down_weight, "down.bias": _down_bias}
    if kernel in BRANCHES:
        return merges | {
            "mix.dense.weight": lambda block: _large_kernel(block, kernel)[0],
            "mix.dense.bias": lambda block: _large_kernel(block, kernel)[1],
        }
    if kernel:
        merges |= {
            "mix.weight": lambda block: _small_kernel(block)[0],
            "mix.bias": lambda block: _small_kernel(block)[1],
        }
    return merges


def _lazy(block: State, make: Callable[[Mapping[str, Tensor]], Tensor], shape: torch.Size) -> Lazy:
    dtype = torch.promote_types(block.shapes["down.weight"].dtype, torch.float32)
    return Lazy(torch.empty(shape, dtype=dtype, device="meta"), lambda: make(block).to(dtype))


def _large_kernel(block: Mapping[str, Tensor], kernel: int) -> Affine:
    weight, bias = _after(_norm(block, "mix.dense_norm"), block["mix.dense.weight"])
    for size, dilation in BRANCHES[kernel]:
        branch = f"mix.branches.{size}_{dilation}"
        more = _after(
            _norm(block, f"{branch}.norm"), _dense(block[f"{branch}.conv.weight"], dilation, kernel)
        )
        weight, bias = weight + more[0], bias + more[1]
    return _after(_norm(block, "mix_norm"), weight, bias)


def _small_kernel(block: Mapping[str, Tensor]) -> Affine:
    return _after(_norm(block, "mix_norm"), block["mix.weight"])


def _down_weight(block: Mapping[str, Tensor]) -> Tensor:
    return _down_norm(block)[0][:, None] * block["down.weight"]


def _down_bias(block: Mapping[str, Tensor]) -> Tensor:
    scale, shift = _down_norm(block)
    return scale * (block["down.weight"].double() @ block["response_norm.bias"].double()) + shift


def _down_norm(block: Mapping[str, Tensor]) -> Affine:
    """The last norm's scale and shift, with layer scale."""
    scale, shift = _norm(block, "down_norm")
    if "scale" not in block:
        return scale, shift
    return block["scale"] * scale, block["scale"] * shift


def _norm(block: Mapping[str, Tensor], name: str) -> Affine:
    """A batch norm's scale and shift, in float64; what they are multiplied with is so, too."""
    gain, bias, mean, variance = (
        block[f"{name}.{part}"].double()
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / (variance + NORM_EPS).sqrt()
    return scale, bias - scale * mean


def _after(norm: Affine, weight: Tensor, bias: Tensor | float = 0.0) -> Affine:
    """A layer and then a norm, as one layer."""
    scale, shift = norm
    return scale.view(-1, *[1] * (weight.ndim - 1)) * weight, scale * bias + shift


def _dense(
    weight: Float[Tensor, "width 1 size size"], dilation: int, kernel: int
) -> Float[Tensor, "width 1 kernel kernel"]:
    """The dense kernel of a dilated convolution: zeros between its numbers, and around."""
    dense = weight.new_zeros(len(weight), 1, kernel, kernel)
    start = kernel // 2 - dilation * (weight.shape[-1] // 2)
    spread = slice(start, kernel - start, dilation)
    dense[:, :, spread, spread] = weight
    return dense
