"""Transforms of pictures of their own aspect for loops of one's own, which timm makes (NaFlex), as
`aug_cfg`'s word `naflex` asks for them.

https://github.com/mlfoundations/open_clip, src/open_clip/transform.py
"""

# timm says no types of its own.
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
# pyright: reportUnknownVariableType=false

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diptych.compat.naflex_config import PatchSize
from diptych.config import PreprocessConfig
from diptych.errors import ConfigError


@dataclass(frozen=True)
class PatchTransforms:
    """A transform for each size of batches: a call says how many patches a picture has at the most,
    and of how many pixels a patch is.

    In training a transform gives the crop, [3, height, width], whose sides aren't whole patches
    yet; else `patches` [patches, pixels x 3], `patch_coord` and `patch_valid`.

    >>> from PIL import Image
    >>> from diptych import compat
    >>> made = compat.image_transform(224, False, aug_cfg={"use_timm": True, "naflex": True})
    >>> made(max_seq_len=4, patch_size=16)(Image.new("RGB", (64, 32)))["patch_coord"].tolist()
    [[0, 0], [0, 1]]
    """

    preprocess: PreprocessConfig
    training: bool
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of timm's `create_transform`, in training."""

    @property
    def transform_kwargs(self) -> Mapping[str, Any]:
        """`options` by open_clip's name."""
        return self.options

    @property
    def is_naflex_transform_factory(self) -> bool:
        """As open_clip tells such transforms from those of squares."""
        return True

    @property
    def is_naflex_eval_transform_factory(self) -> bool:
        """Whether the transforms give patches."""
        return not self.training

    def __call__(self, max_seq_len: int, patch_size: PatchSize) -> Any:
        """The transform. Raises ConfigError where timm isn't installed."""
        try:
            from timm.data.transforms_factory import create_transform
        except ImportError as error:
            raise ConfigError("naflex=True needs timm: `pip install diptych[bridges]`") from error
        how, make = self.preprocess, create_transform
        return make(
            is_training=self.training,
            mean=how.mean,
            std=how.std,
            interpolation=how.interpolation,
            naflex=True,
            max_seq_len=max_seq_len,
            patch_size=patch_size,
            patchify=not self.training,
            **self.options,
        )
