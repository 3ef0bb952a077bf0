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
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from diptych.families.unireplknet.blocks import BRANCHES
from diptych.families.unireplknet.config import UniRepLKNetConfig
from diptych.models import build_tower
from diptych.weights.mapping import check_fit
from diptych.weights.state import Lazy, State

NORM_EPS = 1e-5
"""torch's, of batch norms."""

_MERGED = "stages.0.blocks.0.down.bias"
"""A name that only a deploy form has."""

Block = Mapping[str, Tensor]
"""A block's weights, by their names within it."""
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
    >>> config = UniRepLKNetConfig(
    ...     depths=(1, 1, 1, 1), widths=(8, 8, 8, 8), kernel_sizes=((3,), (13,), (13,), (13,))
    ... )
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
    means = (name for name in state if name.endswith(".running_mean"))
    counters = {name.replace("running_mean", "num_batches_tracked"): _ZERO for name in means}
    state = State(counters | state.lazies)
    if not config.deploy:
        return state, config
    scale = 1e-6 if "stages.0.blocks.0.scale" in state else None
    return deploy(state, replace(config, deploy=False, layer_scale=scale))


_ZERO = Lazy(
    torch.empty((), dtype=torch.long, device="meta"), partial(torch.zeros, (), dtype=torch.long)
)


def _merges(kernel: int) -> dict[str, Callable[[Block], Tensor]]:
    """What is made anew of a block, and how."""
    merges: dict[str, Callable[[Block], Tensor]] = {
        "down.weight": _down_weight,
        "down.bias": _down_bias,
    }
    if kernel in BRANCHES:
        large = partial(_large_kernel, kernel=kernel)
        merges["mix.dense.weight"] = partial(_weight_of, large)
        merges["mix.dense.bias"] = partial(_bias_of, large)
    elif kernel:
        merges["mix.weight"] = partial(_weight_of, _small_kernel)
        merges["mix.bias"] = partial(_bias_of, _small_kernel)
    return merges


def _weight_of(merge: Callable[[Block], Affine], block: Block) -> Tensor:
    return merge(block)[0]


def _bias_of(merge: Callable[[Block], Affine], block: Block) -> Tensor:
    return merge(block)[1]


def _lazy(block: State, make: Callable[[Block], Tensor], shape: torch.Size) -> Lazy:
    dtype = torch.promote_types(block.shapes["down.weight"].dtype, torch.float32)
    return Lazy(torch.empty(shape, dtype=dtype, device="meta"), lambda: make(block).to(dtype))


def _large_kernel(block: Block, kernel: int) -> Affine:
    """The mixer and the norm behind it as one convolution."""
    weight, bias = _after(_norm(block, "mix.dense_norm"), block["mix.dense.weight"])
    # All branches read the same map, and convolution is linear in its kernel:
    # sum_i (w_i * x + b_i) = (sum_i w_i) * x + sum_i b_i, once the kernels are of one size.
    for size, dilation in BRANCHES[kernel]:
        branch = f"mix.branches.{size}_{dilation}"
        dense = _dense(block[f"{branch}.conv.weight"], dilation, kernel)
        more = _after(_norm(block, f"{branch}.norm"), dense)
        weight, bias = weight + more[0], bias + more[1]
    return _after(_norm(block, "mix_norm"), weight, bias)


def _small_kernel(block: Block) -> Affine:
    return _after(_norm(block, "mix_norm"), block["mix.weight"])


def _down_weight(block: Block) -> Tensor:
    # a s W: a factor of each output channel, a row of the matrix.
    return _down_norm(block)[0][:, None] * block["down.weight"]


def _down_bias(block: Block) -> Tensor:
    # a (t + s W b): the response norm's bias b is the same at every position, so what the matrix
    # makes of it is a constant. It must go: the deploy form's response norm has no bias.
    scale, shift = _down_norm(block)
    return scale * (block["down.weight"].double() @ block["response_norm.bias"].double()) + shift


def _down_norm(block: Block) -> Affine:
    """The last norm's scale and shift, with layer scale: a s and a t."""
    scale, shift = _norm(block, "down_norm")
    if "scale" not in block:
        return scale, shift
    return block["scale"] * scale, block["scale"] * shift


def _norm(block: Block, name: str) -> Affine:
    """A batch norm's scale and shift, in float64; what they are multiplied with is so, too.

    In float32 each product would round, and the sum of six branches would add the errors up.
    """
    gain, bias, mean, variance = (
        block[f"{name}.{part}"].double()
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / (variance + NORM_EPS).sqrt()
    return scale, bias - scale * mean


def _after(norm: Affine, weight: Tensor, bias: Tensor | float = 0.0) -> Affine:
    """A layer and then a norm, as one layer."""
    scale, shift = norm
    # s (W * x + c) + t = (s W) * x + (s c + t); s belongs to an output channel, the first dimension
    # of a kernel.
    return scale.view(-1, *[1] * (weight.ndim - 1)) * weight, scale * bias + shift


def _dense(
    weight: Float[Tensor, "width 1 size size"], dilation: int, kernel: int
) -> Float[Tensor, "width 1 kernel kernel"]:
    """The dense kernel of a dilated convolution: zeros between its numbers, and around."""
    # A convolution of size k and dilation d reads every d-th position, d (k - 1) + 1 in all: it is
    # one of that size with d - 1 zeros between its numbers (arXiv:2311.15599, §3.1).
    dense = weight.new_zeros(len(weight), 1, kernel, kernel)
    # Both are centred: what the smaller one lacks at each side stays zero.
    start = kernel // 2 - dilation * (weight.shape[-1] // 2)
    spread = slice(start, kernel - start, dilation)
    dense[:, :, spread, spread] = weight
    return dense
