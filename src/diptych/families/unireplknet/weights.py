"""What a UniRepLKNet's weights tell; its two forms."""

from collections.abc import Mapping

from torch import Tensor

from diptych.config import Activation
from diptych.errors import CheckpointError
from diptych.families.unireplknet.config import UniRepLKNetConfig, published_kernels
from diptych.families.unireplknet.deploy import deploy, in_form
from diptych.weights.mapping import count_numbers
from diptych.weights.state import State
from diptych.weights.tower import TowerWeights


class UniRepLKNetWeights(TowerWeights):
    """Of a large-kernel ConvNet, in training or deploy form. It has no position table: pictures may
    have any size."""

    sizes = ("image_size",)
    not_compared = ("layer_scale",)
    has_deploy_form = True

    def infer(
        self, shapes: Mapping[str, Tensor], activation: Activation
    ) -> UniRepLKNetConfig | None:
        """Shapes tell everything but the size of the pictures: 224 pixels are assumed."""
        if "stages.0.down.conv_1.weight" not in shapes:
            return None
        first, second, third, fourth = (
            count_numbers(shapes, f"stages.{i}.blocks.") for i in range(4)
        )
        depths = (first, second, third, fourth)
        try:
            a, b, c, d = (len(shapes[f"stages.{i}.blocks.0.down.weight"]) for i in range(4))
        except KeyError as error:
            raise CheckpointError(f"{error.args[0]} is missing") from error
        kernels = tuple(_kernels(shapes, stage, depth) for stage, depth in enumerate(depths))
        return UniRepLKNetConfig(
            depths=depths,
            widths=(a, b, c, d),
            kernel_sizes=() if kernels == published_kernels(depths) else kernels,
            layer_scale=1e-6 if "stages.0.blocks.0.scale" in shapes else None,
            projection_bias="projection.bias" in shapes,
            deploy="stages.0.blocks.0.down.bias" in shapes,
        )

    def in_form(self, state: State, config: UniRepLKNetConfig) -> tuple[State, UniRepLKNetConfig]:
        """See `deploy.in_form`."""
        return in_form(state, config)

    def deploy(self, state: State, config: UniRepLKNetConfig) -> tuple[State, UniRepLKNetConfig]:
        """See `deploy.deploy`."""
        return deploy(state, config)


def _kernels(shapes: Mapping[str, Tensor], stage: int, depth: int) -> tuple[int, ...]:
    """The sides of a stage's convolutions; 0: a block has none."""
    sides: list[int] = []
    for block in range(depth):
        mix = f"stages.{stage}.blocks.{block}.mix."
        weight = shapes.get(f"{mix}dense.weight", shapes.get(f"{mix}weight"))
        sides.append(0 if weight is None else weight.shape[-1])
    return tuple(sides)
