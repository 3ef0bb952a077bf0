"""CLIP's ResNet part by part by open_clip's names: `model.visual`.

https://github.com/mlfoundations/open_clip, src/open_clip/modified_resnet.py
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.compat.parts.locks import (
    Group,
    NamedGroups,
    groups_of,
    lock_groups,
    locked_norms,
    named_groups,
)
from diptych.compat.parts.stack import check_impl, taken_indices
from diptych.compat.utils import feature_take_indices as feature_take_indices
from diptych.compat.utils import freeze_batch_norm_2d as freeze_batch_norm_2d
from diptych.errors import ConfigError
from diptych.families.clip.config import ResNetConfig
from diptych.models.recompute import recompute

R = TypeVar("R", bound="ModifiedResNet")


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 around a shortcut; a stride is an average pool before a convolution of stride 1
    (see `families/clip/resnet.py`, which says why).

    >>> import torch
    >>> from diptych.compat.modified_resnet import Bottleneck
    >>> Bottleneck(16, planes=8, stride=2)(torch.zeros(1, 16, 4, 4)).shape
    torch.Size([1, 32, 2, 2])
    """

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1):
        super().__init__()
        out = planes * self.expansion
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1, self.act1 = nn.BatchNorm2d(planes), nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2, self.act2 = nn.BatchNorm2d(planes), nn.ReLU()
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, out, 1, bias=False)
        self.bn3, self.act3 = nn.BatchNorm2d(out), nn.ReLU()
        self.stride = stride
        self.downsample: nn.Sequential | None = None
        if stride > 1 or inplanes != out:
            shortcut: dict[str, nn.Module] = OrderedDict()
            shortcut["-1"] = nn.AvgPool2d(stride)
            shortcut["0"] = nn.Conv2d(inplanes, out, 1, bias=False)
            shortcut["1"] = nn.BatchNorm2d(out)
            self.downsample = nn.Sequential(OrderedDict(shortcut))

    def forward(self, x: Float[Tensor, "batch inplanes height wide"]) -> Tensor:
        """[batch, inplanes, h, w] -> [batch, 4 * planes, h / stride, w / stride]."""
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.avgpool(self.act2(self.bn2(self.conv2(y))))
        y = self.bn3(self.conv3(y))
        return self.act3(y + (x if self.downsample is None else self.downsample(x)))


class AttentionPool2d(nn.Module):
    """A map to a vector: attention with one query, the map's mean; then a projection to
    `output_dim` (None: as wide as the map).

    >>> import torch
    >>> from diptych.compat.modified_resnet import AttentionPool2d
    >>> AttentionPool2d(2, embed_dim=16, num_heads=2, output_dim=6)(torch.zeros(1, 16, 2, 2)).shape
    torch.Size([1, 6])
    """

    def __init__(
        self, spacial_dim: int, embed_dim: int, num_heads: int, output_dim: int | None = None
    ):
        """`spacial_dim`: places along the map's side."""
        super().__init__()
        std = embed_dim**-0.5
        self.positional_embedding = nn.Parameter(torch.randn(spacial_dim**2 + 1, embed_dim) * std)
        self.k_proj = nn.Linear(embed_dim, embed_dim)
        self.q_proj = nn.Linear(embed_dim, embed_dim)
        self.v_proj = nn.Linear(embed_dim, embed_dim)
        self.c_proj = nn.Linear(embed_dim, output_dim or embed_dim)
        self.num_heads = num_heads

    def forward(
        self, x: Float[Tensor, "batch embed_dim height wide"]
    ) -> Float[Tensor, "batch output_dim"]:
        """The vectors of maps."""
        x = x.flatten(2).transpose(1, 2)
        # The mean goes through as a token of its own, with a position: the first.
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)
        x = x + self.positional_embedding.to(x.dtype)
        # [batch, tokens, width] -> [batch, heads, tokens, channels of a head]
        q, k, v = (
            linear(y).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for linear, y in ((self.q_proj, x[:, :1]), (self.k_proj, x), (self.v_proj, x))
        )
        return self.c_proj(F.scaled_dot_product_attention(q, k, v).flatten(1))


class ModifiedResNet(nn.Module):
    """Three-convolution stem, four stages of bottlenecks, attention pool. What stands in its parts
    is what a call computes.

    >>> import torch
    >>> from diptych.compat.modified_resnet import ModifiedResNet
    >>> made = ModifiedResNet([1, 1, 1, 1], output_dim=6, heads=4, image_size=64, width=8)
    >>> made(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 6])
    """

    def __init__(
        self,
        layers: Sequence[int],
        output_dim: int,
        heads: int,
        image_size: int = 224,
        width: int = 64,
    ):
        """`layers`: blocks of each stage. `heads`: of the pool, which is 32 times `width` wide."""
        super().__init__()
        self.output_dim = output_dim
        """Width of the pooled vectors."""
        self.image_size = image_size
        """Side in pixels."""
        self.input_resolution = image_size
        """The same, as OpenAI's models say it."""
        self.output_tokens = False
        """There are none: a call refuses True."""
        half = width // 2
        # In the order in which they compute: programs run the children one after the other.
        self.conv1 = nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False)
        self.bn1, self.act1 = nn.BatchNorm2d(half), nn.ReLU()
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.bn2, self.act2 = nn.BatchNorm2d(half), nn.ReLU()
        self.conv3 = nn.Conv2d(half, width, 3, padding=1, bias=False)
        self.bn3, self.act3 = nn.BatchNorm2d(width), nn.ReLU()
        self.avgpool = nn.AvgPool2d(2)
        first, second, third, fourth = layers
        self.layer1: nn.Module = _stage(width, width, first, 1)
        self.layer2: nn.Module = _stage(4 * width, 2 * width, second, 2)
        self.layer3: nn.Module = _stage(8 * width, 4 * width, third, 2)
        self.layer4: nn.Module = _stage(16 * width, 8 * width, fourth, 2)
        self.attnpool: Any = AttentionPool2d(image_size // 32, 32 * width, heads, output_dim)
        self._still: list[str] = []
        self.init_parameters()

    @classmethod
    def of(cls: type[R], sizes: ResNetConfig, output_dim: int) -> R:
        """The tower of this configuration."""
        return cls(sizes.layers, output_dim, sizes.heads, sizes.image_size, sizes.width)

    def init_parameters(self) -> None:
        """The pool's matrices: N(0, 1 / width); each block's last gain: 0, so that it starts as its
        shortcut. The rest is as torch builds it."""
        pool = self.attnpool
        for linear in (pool.q_proj, pool.k_proj, pool.v_proj, pool.c_proj):
            nn.init.normal_(linear.weight, std=pool.c_proj.in_features**-0.5)
        for block in self._blocks():
            nn.init.zeros_(block.bn3.weight)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.conv1.weight.dtype

    def stem(
        self, x: Float[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        """The first three convolutions and the pool behind them."""
        for conv, norm, act in (
            (self.conv1, self.bn1, self.act1),
            (self.conv2, self.bn2, self.act2),
            (self.conv3, self.bn3, self.act3),
        ):
            x = act(norm(conv(x)))
        return self.avgpool(x)

    def forward(self, x: Float[Tensor, "batch 3 height wide"]) -> Any:
        """Pooled vectors, or what `attnpool` is now gives. Pixels are cast to the precision of the
        weights. Raises ConfigError with `output_tokens`."""
        if self.output_tokens:
            raise ConfigError("a ResNet's pool gives no tokens; leave output_tokens False")
        x = self.stem(x.to(self.dtype))
        for stage in self._stages():
            x = stage(x)
        return self.attnpool(x)

    def forward_intermediates(
        self,
        x: Float[Tensor, "batch 3 height wide"],
        indices: int | Collection[int] | None = None,
        stop_early: bool = False,
        normalize_intermediates: bool = False,
        intermediates_only: bool = False,
        output_fmt: str = "NCHW",
        output_extra_tokens: bool = False,
    ) -> dict[str, Any]:
        """`image_intermediates`, the maps behind the stem (0) and the stages of `indices`, and
        `image_features`, the pooled vectors. There is no norm and there are no class tokens. Raises
        AssertionError, as open_clip does, for another `output_fmt`."""
        if output_fmt != "NCHW":
            raise AssertionError("Output format must be NCHW.")
        steps = [self.stem, *self._stages()]
        chosen = taken_indices(len(steps), indices)
        # The pooled vectors are of all stages, however early the last map is that is asked for.
        last = max(chosen) if stop_early and intermediates_only else len(steps) - 1
        x, found = x.to(self.dtype), list[Tensor]()
        for i, step in enumerate(steps[: last + 1]):
            x = step(x)
            if i in chosen:
                found.append(x)
        output: dict[str, Any] = {"image_intermediates": found}
        return output if intermediates_only else output | {"image_features": self.attnpool(x)}

    def lock(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze all but the last groups of layers: the pool, each stage, the stem; with
        `freeze_bn_stats` the frozen batch norms' statistics, too."""
        lock_groups(self._groups(), unlocked_groups)
        if freeze_bn_stats:
            self._still = locked_norms(self)
            self.train(self.training)

    def layer_groups(self, pooler_in_head: bool = True) -> NamedGroups:
        """The same groups by name, the stem first; `pooler_in_head` has no meaning here."""
        return named_groups(self._groups(), has_projection=True)

    def _groups(self) -> list[Group]:
        stem = [self.conv1, self.bn1, self.conv2, self.bn2, self.conv3, self.bn3]
        return groups_of(stem, self._stages(), [], [self.attnpool])

    def train(self, mode: bool = True) -> "ModifiedResNet":
        """As torch has it, but that frozen statistics of batch norms stay."""
        super().train(mode)
        for name in self._still:
            self.get_submodule(name).eval()
        return self

    def set_grad_checkpointing(self, enable: bool = True, impl: str = "inline") -> None:
        """Compute blocks again in the backward pass; `impl`: see `stack.check_impl`."""
        check_impl(impl)
        recompute(self._blocks(), enable)

    def _stages(self) -> list[nn.Module]:
        return [self.layer1, self.layer2, self.layer3, self.layer4]

    def _blocks(self) -> list[Bottleneck]:
        found: list[Bottleneck] = []
        for stage in self._stages():
            found += [block for block in stage.children() if isinstance(block, Bottleneck)]
        return found


def _stage(channels: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    """Blocks of which the first has the stride."""
    made = [Bottleneck(channels, planes, stride)]
    made += [Bottleneck(planes * Bottleneck.expansion, planes) for _ in range(1, blocks)]
    return nn.Sequential(*made)
