"""What stands behind the blocks of a tower of ours while it runs."""

from collections.abc import Collection
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from diptych.compat.parts.stack import taken_indices
from diptych.models import Tower


@runtime_checkable
class GivesIntermediates(Protocol):
    """timm's models."""

    def forward_intermediates(self, x: Tensor, **options: Any) -> Any: ...


class Stages(NamedTuple):
    """The blocks' outputs: grids, or tokens with class tokens in front."""

    found: list[Tensor]
    class_count: int
    side: int | None
    """Of the grid of patches."""

    def class_tokens(self) -> list[Tensor]:
        """[batch, class tokens, width] of each."""
        return [each[:, : self.class_count] for each in self.found]

    def form(self, norm: nn.Module | None, layout: str) -> dict[str, Any]:
        """`image_intermediates`, grids (`layout` NCHW) or tokens (NLC), behind `norm`. Raises
        AssertionError for another layout."""
        grids = self.side is None
        if layout not in (("NCHW",) if grids else ("NCHW", "NLC")):
            raise AssertionError("Output format must be NCHW" + ("." if grids else " or NLC."))
        if grids:
            return {"image_intermediates": self.found}
        tokens = [each if norm is None else norm(each) for each in self.found]
        patches = [each[:, self.class_count :] for each in tokens]
        if layout == "NCHW":
            patches = [each.transpose(1, 2).unflatten(2, (self.side, -1)) for each in patches]
        return {"image_intermediates": [each.contiguous() for each in patches]}


def stages_of(
    tower: Tower[Any], visual: Any, pixels: Tensor, indices: int | Collection[int] | None
) -> Stages:
    """Run the tower and keep what the blocks of `indices` give: of a ResNet the stem and the four
    stages."""
    outputs: dict[int, Tensor] = {}
    hooks: list[Any] = []

    def keep(i: int, module: nn.Module, before: bool = False) -> None:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Any = None) -> None:
            outputs[i] = inputs[0] if before else output

        register = module.register_forward_pre_hook if before else module.register_forward_hook
        hooks.append(register(hook))

    if tower.grid is None:
        stages = [visual.layer1, visual.layer2, visual.layer3, visual.layer4]
        keep(0, stages[0][0], before=True)
        ends = [(i, stage[-1]) for i, stage in enumerate(stages, 1)]
    else:
        ends = list(enumerate(tower.blocks))
    for i, block in ends:
        keep(i, block)
    try:
        tower(pixels, tokens="raw")
    finally:
        for hook in hooks:
            hook.remove()
    chosen = taken_indices(len(outputs), indices)
    found = [outputs[i] for i in sorted(set(chosen))]
    return Stages(found, tower.class_tokens, tower.grid)
