"""The large-kernel ConvNet, in both of its forms."""

from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType

from diptych.config import ImageTowerConfig
from diptych.config.ranges import Factor, Grey, Layers, Pixels, Width
from diptych.errors import ConfigError

KERNELS = (0, 3, 5, 7, 9, 11, 13, 15, 17)
"""Of a block's depthwise convolution. 0: no positions are mixed. From 7 on, dilated branches are
trained beside it."""

_STEPS = {(2, 2, 6, 2): 1, (2, 2, 8, 2): 1, (3, 3, 18, 3): 2, (3, 3, 27, 3): 3}
"""Published depths, and every how many blocks of the third stage the kernel is large."""


@dataclass(frozen=True, kw_only=True)
class UniRepLKNetConfig(ImageTowerConfig):
    """UniRepLKNet: four stages of depthwise convolutions with kernels up to 13x13 (Ding et al.
    2024, arXiv:2311.15599).

    >>> from diptych.families.unireplknet import UniRepLKNetConfig
    >>> UniRepLKNetConfig(depths=(2, 2, 6, 2), widths=(40, 80, 160, 320)).kernels
    ((3, 3), (13, 13), (13, 13, 13, 13, 13, 13), (13, 13))
    """

    implementation = "diptych.families.unireplknet.model:UniRepLKNet"
    weights = "diptych.families.unireplknet.weights:UniRepLKNetWeights"
    retired = MappingProxyType({"stochastic_depth": 0.0})

    image_size: Pixels = 224
    """Side of the square input that preprocessing makes, in pixels. The tower has no position
    table: it takes any."""
    depths: tuple[Layers, Layers, Layers, Layers] = (3, 3, 27, 3)
    """Blocks of each stage."""
    widths: tuple[Width, Width, Width, Width] = (192, 384, 768, 1536)
    """Channels of each stage."""
    kernel_sizes: tuple[tuple[Grey, ...], ...] = ()
    """Of every block, by stage; empty: as published for these depths (see `kernels`)."""
    layer_scale: Factor | None = 1e-6
    """Initial gain of each residual branch (arXiv:2103.17239); None: no gains. Merged away in
    deploy form."""
    projection_bias: bool = False
    deploy: bool = False
    """Batch norms, dilated branches and layer scale are merged into the convolutions: the same
    function, faster. `unireplknet.deploy` makes this form of trained weights."""

    def __post_init__(self):
        super().__post_init__()
        if self.widths[0] % 2 or min(self.widths) < 4:
            raise ConfigError(f"widths {self.widths} must be at least 4, the first of them even")
        if not self.kernels:
            raise ConfigError(
                f"depths {self.depths} are not published ones, so kernel_sizes must be given"
            )
        if tuple(map(len, self.kernels)) != self.depths:
            raise ConfigError(f"kernel_sizes {self.kernel_sizes} don't fit depths {self.depths}")
        unknown = set(chain.from_iterable(self.kernels)) - set(KERNELS)
        if unknown:
            raise ConfigError(
                f"kernel size {min(unknown)} is not one of {', '.join(map(str, KERNELS))}"
            )

    @property
    def kernels(self) -> tuple[tuple[int, ...], ...]:
        """The kernel size of every block, by stage: `kernel_sizes` or the published ones: 3 in the
        first stage, 13 in the others, but in a long third stage 13 in every second or third block
        only."""
        return self.kernel_sizes or published_kernels(self.depths)


def published_kernels(depths: tuple[int, int, int, int]) -> tuple[tuple[int, ...], ...]:
    """The kernel sizes that UniRepLKNet's authors use at these depths (arXiv:2311.15599); empty for
    other depths."""
    if depths not in _STEPS:
        return ()
    step = _STEPS[depths]
    first, second, third, fourth = depths
    mixed = tuple(3 if block % step else 13 for block in range(third))
    return ((3,) * first, (13,) * second, mixed, (13,) * fourth)
