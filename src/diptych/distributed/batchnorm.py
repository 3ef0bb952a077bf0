"""Synchronised batch normalisation: statistics over all peers, on any device (Ioffe & Szegedy 2015,
arXiv:1502.03167).

torch's own SyncBatchNorm exists for GPUs only. With ours two processes equal one on a CPU too.
"""

from typing import Any

import torch
from torch import Tensor, nn

# The common base of BatchNorm1d, 2d and 3d has no public name.
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from diptych.distributed.peers import Peers
from diptych.errors import ConfigError

_KNOWN = (_BatchNorm.forward, nn.SyncBatchNorm.forward)
"""What norms do that do nothing beside it."""


class OwnBatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation by this process's samples alone, also where others share theirs.

    >>> import torch
    >>> from diptych.distributed import OwnBatchNorm1d
    >>> OwnBatchNorm1d(2)(torch.eye(2)).shape
    torch.Size([2, 2])
    """


def share_batch_statistics(module: nn.Module, peers: Peers) -> None:
    """Synchronised batch normalisation: every one within `module`, save `OwnBatchNorm1d`, uses the
    statistics of all peers' samples, in place.

    Weights, buffers and their names stay as they are; modules within a norm go on behind it. Raises
    ConfigError for a norm with a forward of its own and no modules.
    """
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, OwnBatchNorm1d):
                setattr(parent, name, _shared(child, peers))


def _shared(norm: _BatchNorm, peers: Peers) -> nn.Module:
    behind = list(norm.named_children())
    if type(norm).forward not in _KNOWN and not behind:
        raise ConfigError(
            f"several processes can't share the batch statistics of a {type(norm).__name__}, which "
            "has a forward of its own: put what it does beside the norm into a module behind it"
        )
    on_gpu = peers.device.type == "cuda"
    shared = (
        nn.SyncBatchNorm.convert_sync_batchnorm(norm) if on_gpu else _SharedBatchNorm(norm, peers)
    )
    if behind:  # timm's norms have their activation within, and call it last
        for name, child in behind:
            shared.add_module(name, child)
        shared.register_forward_hook(_go_on)
    return shared


def _go_on(norm: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """A forward hook: the modules within a norm, behind it."""
    for child in norm.children():
        output = child(output)
    return output


class _SharedBatchNorm(_BatchNorm):
    def __init__(self, norm: _BatchNorm, peers: Peers):
        super().__init__(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
        )
        self.weight, self.bias, self.training = norm.weight, norm.bias, norm.training
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self._peers = peers

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.ndim > 1

    def forward(self, input: Tensor) -> Tensor:
        """y = weight * (x - mean) / sqrt(variance + eps) + bias, channel by channel (dimension 1),
        with the mean and the variance of all peers' samples."""
        if not self.training:
            return super().forward(input)
        # Sums over many samples lose digits in half precision.
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        others = [dim for dim in range(x.ndim) if dim != 1]
        shape = [-1 if dim == 1 else 1 for dim in range(x.ndim)]
        count = x.numel() / x.shape[1] * self._peers.size
        # Two passes, the mean first: sum(x^2) / n - mean^2 would cancel where the mean is large
        # beside the deviation. The sums over peers pass gradients, as each sample moves everybody's
        # result.
        mean = _SumOverPeers.apply(x.sum(others), self._peers) / count
        centred = x - mean.view(shape)
        variance = _SumOverPeers.apply(centred.square().sum(others), self._peers) / count
        # Samples are normalised by the biased variance (divided by n); the running one, which
        # stands for the population at inference, is unbiased (n - 1), as in torch.
        self._record(mean.detach(), variance.detach() * count / (count - 1))
        gain = torch.rsqrt(variance + self.eps)
        if not self.affine:
            return (centred * gain.view(shape)).to(input.dtype)
        scaled = centred * (gain * self.weight).view(shape)
        return (scaled + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _record(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        if (
            self.num_batches_tracked is None
            or self.running_mean is None
            or self.running_var is None
        ):
            return
        self.num_batches_tracked += 1
        # Without a momentum the running statistics are the plain mean over all steps so far.
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(unbiased_variance, share)


class _SumOverPeers(torch.autograd.Function):
    """The sum over processes, an all-reduce with gradient: y_p = sum_q x_q on every process p, so
    dL/dx_q = sum_p dL/dy_p, which is the all-reduce of the gradients."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, peers: Peers) -> Tensor:
        ctx.peers = peers
        return peers.sum(local)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.peers.sum(gradients[0].contiguous()), None
