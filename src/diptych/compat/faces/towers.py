"""Towers of ours with open_clip's face, where open_clip builds them of another library's parts or
not at all: `model.visual` and `model.text`."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.compat.faces.naflex import as_packed
from diptych.compat.faces.names import VISUAL
from diptych.compat.faces.stages import GivesIntermediates, stages_of
from diptych.compat.faces.tower import OpenClipTower
from diptych.compat.parts.locks import (
    lock_depths,
    locked_norms,
)
from diptych.config import ClipConfig
from diptych.errors import ConfigError
from diptych.models import Tower

K = TypeVar("K")


@runtime_checkable
class _Grouped(Protocol):
    """timm's models, which say by what layers they are unlocked."""

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]: ...


@runtime_checkable
class _Embedding(Protocol):
    """timm's `NaFlexEmbeds`."""

    pos_embed_interp_mode: str


class OpenClipVisual(OpenClipTower):
    """`model.visual`. Pixels are cast to the precision of the weights."""

    def __init__(self, tower: Tower[Any], config: ClipConfig, ours: str = "image."):
        """`ours`: what its names begin with here."""
        super().__init__(tower, config, ours, VISUAL)
        self.output_dim = config.embed_dim
        """Width of the pooled vectors."""
        size = config.image.image_size
        self.image_size = (size, size)
        """In pixels."""
        self.input_resolution = size
        """The same, as OpenAI's models say it."""
        if config.image.native:
            side = config.preprocess.patch_size
            self.patch_size = (side, side)
        if tower.grid is not None:
            self.grid_size = (tower.grid, tower.grid)
            """Patches along the sides."""
            self.patch_size = (size // tower.grid, size // tower.grid)

    def forward(self, x: Float[Tensor, "batch 3 height width"] | Mapping[str, Any]) -> Any:
        """Pooled vectors of pixels, or (pooled, tokens): the tokens are the patches'. A tower for
        pictures of their own aspect also takes what `compat.faces.naflex` says, and pixels of whole
        patches, and gives by name `pooled`, `patch_tokens` and `patch_valid`, [batch, patches],
        which of these there are (None: all)."""
        pixels = self.pixels(x)
        if not (self.output_tokens and self._place[0].image.native):
            return super().forward(pixels)
        pooled, tokens = self.pool_with_tokens(pixels)
        squares = not isinstance(x, Mapping) and pixels.shape != x.shape
        valid = None if squares else self.tower.real_patches(pixels)
        return {"pooled": pooled, "patch_tokens": tokens, "patch_valid": valid}

    def get_patch_size(self) -> tuple[int, int]:
        """In pixels, of a tower of patches."""
        return self.patch_size

    @property
    def supports_patch_interpolation(self) -> bool:
        """Whether patches by name may be of another size."""
        return self._place[0].image.native

    def pixels(self, x: Float[Tensor, "batch 3 height width"] | Mapping[str, Any]) -> Tensor:
        """Pictures as the tower of Diptych's takes them. Raises ConfigError for patches that are
        given to a tower of squares."""
        how = self._place[0].preprocess
        if how.resize == "native":
            x = as_packed(x, how.patch_size, self._resizing)
        elif isinstance(x, Mapping):
            raise ConfigError("this tower takes squares of pixels, and no patches by name")
        return x.to(self.dtype)

    @property
    def _resizing(self) -> Any:
        """How timm resizes the kernel of such a tower: as its table of positions."""
        of_timm = self._of_timm(_Embedding)
        return of_timm.pos_embed_interp_mode if of_timm else self.tower.config.interpolation

    def lock(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze all but the last groups of layers, and with `freeze_bn_stats` their batch norms'
        statistics. What stands behind another library's trunk stays as it is, as in open_clip."""
        trunk = self._parameters_of("trunk.")
        if not trunk:
            self._lock_groups(unlocked_groups)
        elif not unlocked_groups:
            lock_depths([(parameter, 0) for _, parameter in trunk], 0, 0)
        else:
            depths = self._depths(trunk)
            lock_depths(depths, max(depth for _, depth in depths), unlocked_groups)
        if freeze_bn_stats:
            self._still = locked_norms(self.tower)
            self.train(self.training)

    def _depths(self, trunk: list[tuple[str, nn.Parameter]]) -> list[tuple[nn.Parameter, int]]:
        found: list[tuple[nn.Parameter, int]] = []
        module = self._of_timm(_Grouped)
        if module is None:
            for depth, names in enumerate(self.tower.layer_groups()):
                found += [(parameter, depth) for name, parameter in trunk if name in names]
            return found
        from timm.models import group_parameters

        # By open_clip's names: a classifier that is our projection counts among the trunk's there.
        group: Callable[..., Any] = group_parameters
        groups = group(self.trunk, module.group_matcher(), return_values=True)
        for depth, parameters in groups.items():
            found += [(parameter, int(depth)) for parameter in parameters]
        return found

    def _of_timm(self, kind: type[K]) -> K | None:
        """timm's model, where the tower has one and it is of this kind. `trunk` would be its parts
        alone where its classifier is our projection."""
        return next((module for module in self.tower.modules() if isinstance(module, kind)), None)

    def forward_intermediates(
        self,
        x: Float[Tensor, "batch 3 height width"],
        indices: int | Collection[int] | None = None,
        stop_early: bool = False,
        normalize_intermediates: bool = False,
        intermediates_only: bool = False,
        output_fmt: str = "NCHW",
        output_extra_tokens: bool = False,
    ) -> dict[str, Any]:
        """What the blocks of `indices` give, or a convolutional tower's stages; see
        `compat.faces.intermediates.forward_intermediates`."""
        x = x.to(self.dtype)
        trunk = self._of_timm(GivesIntermediates)
        if trunk is not None:
            options = {"return_prefix_tokens": True} if output_extra_tokens else {}
            found = trunk.forward_intermediates(
                x,
                indices=indices,
                norm=normalize_intermediates,
                stop_early=stop_early,
                output_fmt=output_fmt,
                intermediates_only=True,
                **options,
            )
            apart = output_extra_tokens and bool(found) and isinstance(found[0], tuple)
            output = {"image_intermediates": [each[0] for each in found] if apart else found}
            if apart:
                output["image_intermediates_prefix"] = [each[1] for each in found]
        else:
            stages = stages_of(self.tower, self, x, indices)
            normed = normalize_intermediates and "trunk.norm.weight" in self.state_dict()
            output = stages.form(self.trunk.norm if normed else None, output_fmt)
            if output_extra_tokens and self.tower.class_tokens:
                output["image_intermediates_prefix"] = stages.class_tokens()
        return output if intermediates_only else output | {"image_features": self.pool(x)}


class OpenClipText(OpenClipTower):
    """`model.text`."""

    def __init__(self, tower: Tower[Any], config: ClipConfig, prefix: str):
        super().__init__(tower, config, "text.", prefix, beside=not prefix)
        self.context_length = config.text.context_length
        """Ids of a text at the most."""
        self.vocab_size = config.text.vocabulary
        """Different ids; None: only the library that the tower comes from can tell."""

    def forward(self, x: Int[Tensor, "batch length"]) -> Tensor | tuple[Tensor, Tensor]:
        """Pooled vectors of ids, or (pooled, tokens)."""
        return super().forward(x)

    def lock(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """Freeze all but the last groups of layers, whose norms are layers like others."""
        self._lock_groups(unlocked_layers)

    def forward_intermediates(self, text: Tensor, **options: Any) -> dict[str, Any]:
        """Raises ConfigError: open_clip gives none of such a tower."""
        raise ConfigError(
            f"a {type(self.tower).__name__} gives no intermediates; ask for the image's alone"
        )
