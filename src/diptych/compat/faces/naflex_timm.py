"""timm's towers for pictures of their own aspect, as open_clip's main branch has them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from diptych.compat.faces.naflex import as_packed, check_patches, check_whole, patches_of
from diptych.compat.timm_model import TimmModel


class NaflexTimmModel(TimmModel):
    """A `TimmModel` of a `NaFlexVit`, which takes what `compat.faces.naflex` says, pixels of whole
    patches, and pictures as Diptych's own transform packs them.

    >>> import torch
    >>> from diptych.compat.faces.naflex_timm import NaflexTimmModel
    >>> sizes = {"embed_dim": 16, "depth": 1, "num_heads": 2, "enable_patch_interpolator": True}
    >>> model = NaflexTimmModel(
    ...     "naflexvit_base_patch16_siglip", 16, pool="map", proj="none", model_kwargs=sizes
    ... )
    >>> model(torch.zeros(1, 3, 32, 48)).shape
    torch.Size([1, 16])
    """

    def get_patch_size(self) -> tuple[int, int]:
        """In pixels."""
        height, width = self.trunk.get_patch_size()
        return height, width

    def given(self, x: Any) -> Any:
        """As timm's trunk takes it. Raises ConfigError for pixels that aren't whole patches, and
        for patches of another length."""
        side, _ = self.get_patch_size()
        if isinstance(x, Mapping):
            check_patches(x, side)
            return {**x, "patches": x["patches"].to(self.dtype)}
        if x.shape[3] == side:
            return patches_of(x.to(self.dtype), side)
        check_whole(x, side)
        return super().given(x)

    def pixels(self, x: Tensor | Mapping[str, Any]) -> Tensor:
        """As Diptych's own tower takes it."""
        side, _ = self.get_patch_size()
        return as_packed(x, side, self.trunk.embeds.pos_embed_interp_mode).to(self.dtype)
