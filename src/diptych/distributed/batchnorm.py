"""Batch statistics over all peers, on any device (Ioffe & Szegedy 2015, arXiv:1502.03167).

torch's own SyncBatchNorm exists for GPUs only. With ours two processes equal one on a CPU too.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from diptych.distributed.peers import Peers


class OwnBatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation by this process's samples alone, also where others share theirs.

    >>> import torch
    >>> from diptych.distributed import OwnBatchNorm1d
    >>> OwnBatchNorm1d(2)(torch.eye(2)).shape
    torch.Size([2, 2])
    """


def share_batch_statistics(module: nn.Module, peers: Peers) -> None:
    """Let every batch normalisation within `module`, save `OwnBatchNorm1d`, use the statistics of
    all peers' samples, in place.

    Weights, buffers and their names stay as they are.
    """
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, OwnBatchNorm1d):
                setattr(parent, name, _shared(child, peers))


def _shared(norm: _BatchNorm, peers: Peers) -> nn.Module:
    if peers.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    return _SharedBatchNorm(norm, peers)


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
        if not self.training:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        others = [dim for dim in range(x.ndim) if dim != 1]
        shape = [-1 if dim == 1 else 1 for dim in range(x.ndim)]
        count = x.numel() / x.shape[1] * self._peers.size
        mean = _SumOverPeers.apply(x.sum(others), self._peers) / count
        centred = x - mean.view(shape)
        variance = _SumOverPeers.apply(centred.square().sum(others), self._peers) / count
        self._record(mean.detach(), variance.detach() * count / (count - 1))
        scaled = centred * (torch.rsqrt(variance + self.eps) * self.weight).view(shape)
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
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(unbiased_variance, share)


class _SumOverPeers(torch.autograd.Function):
    """The sum over processes; each one's gradient is the sum of everybody's."""

    @staticmethod
    def forward(ctx, local: Tensor, peers: Peers) -> Tensor:
        ctx.peers = peers
        return peers.sum(local)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.peers.sum(gradients[0].contiguous()), None
