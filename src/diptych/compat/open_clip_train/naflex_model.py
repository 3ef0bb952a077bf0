"""What batches of patches must know of the model that takes them.

https://github.com/mlfoundations/open_clip, src/open_clip_train/naflex_data.py
"""

from collections.abc import Callable
from typing import Any

from diptych.compat.naflex_config import NaFlexDataConfig, PatchSize
from diptych.compat.open_clip_train.naflex_patches import Patches, as_patches
from diptych.errors import ConfigError


def get_naflex_model_patch_size(model: Any) -> tuple[int, int] | None:
    """(height, width) of the patches of the model's image tower; None: it doesn't say.

    >>> from diptych import compat
    >>> from diptych.compat.open_clip_train.naflex_data import get_naflex_model_patch_size
    >>> model = compat.create_model("ViT-B-16-SigLIP2-naflex", device="meta", load_weights=False)
    >>> get_naflex_model_patch_size(model)
    (16, 16)
    """
    visual = getattr(model, "visual", None)
    for part in (visual, getattr(visual, "trunk", None)):
        if (said := getattr(part, "get_patch_size", None)) is not None:
            size = said()
            return (size, size) if isinstance(size, int) else tuple(size)
    return None


def get_naflex_model_image_seq_len(model: Any) -> int | None:
    """The most patches of a picture; None: the model doesn't say."""
    return getattr(getattr(model, "visual", None), "image_seq_len", None)


def get_naflex_model_supports_patch_interpolation(model: Any) -> bool:
    """Whether the model takes patches of other sizes than its own: Diptych's towers for pictures of
    their own aspect do, and timm's where they were asked for it."""
    visual = getattr(model, "visual", None)
    if (said := getattr(visual, "supports_patch_interpolation", None)) is not None:
        return bool(said)
    embeds: Any = getattr(getattr(visual, "trunk", None), "embeds", None)
    resizes = getattr(embeds, "patch_interpolator", None) is not None
    # A norm of a patch's numbers wants as many as there always are.
    return resizes and bool(embeds.is_linear) and embeds.norm_input is None


def create_naflex_data_config_from_args(
    args: Any,
    default_patch_size: PatchSize | None = None,
    default_eval_seq_len: int | None = None,
    supports_patch_interpolation: bool | None = None,
) -> NaFlexDataConfig:
    """What `naflex_patch_sizes`, `naflex_seq_lens` and their like say among arguments; the model's
    own sizes where they say nothing. Raises ConfigError for patches of other sizes than
    `default_patch_size`, the model's own, where it is said that it takes none."""
    said = vars(args)
    sizes, lengths = said.get("naflex_patch_sizes"), said.get("naflex_seq_lens")
    if sizes is None and default_patch_size is not None:
        sizes = [default_patch_size]
    made = NaFlexDataConfig.resolve(
        patch_sizes=sizes,
        patch_size_probs=said.get("naflex_patch_size_probs"),
        seq_lens=lengths,
        seq_len_probs=said.get("naflex_seq_len_probs"),
        train_num_image_tokens=said.get("naflex_num_train_image_tokens"),
        max_tokens_per_batch=said.get("naflex_max_tokens_per_batch"),
        batch_divisor=said.get("naflex_batch_divisor", 8),
        eval_seq_len=default_eval_seq_len if lengths is None else None,
        model_patch_size=default_patch_size,
        supports_patch_interpolation=bool(supports_patch_interpolation),
    )
    known = default_patch_size is not None and supports_patch_interpolation is not None
    others = [size for size in made.train_patch_sizes if made.is_spatial(size)]
    if known and others and not supports_patch_interpolation:
        raise ConfigError(
            f"the model's patches are of {made.model_patch_size} pixels, and it does not have "
            f"patch interpolation enabled/supported: leave {others} out of naflex_patch_sizes"
        )
    return made


class _Spatial:
    """A transform to patches that aren't rows."""

    def __init__(self, transform: Callable[[Any], Any], patch_size: tuple[int, int]):
        self.transform, self.patch_size = transform, patch_size

    def __call__(self, picture: Any) -> Patches:
        return as_patches(self.transform(picture), self.patch_size, spatial=True)


def create_naflex_eval_transform(
    transform_factory: Any, naflex_data_config: NaFlexDataConfig
) -> tuple[Callable[[Any], Any], int, tuple[int, int]]:
    """The transform where a model is measured, the most patches of a picture, and a patch's size.
    Raises ConfigError for what isn't a factory of such transforms."""
    if not getattr(transform_factory, "is_naflex_eval_transform_factory", False):
        raise ConfigError(
            "NaFlex evaluation needs a factory of transforms, called with max_seq_len and "
            "patch_size"
        )
    size, seq_len = naflex_data_config.eval_config
    transform = transform_factory(max_seq_len=seq_len, patch_size=size)
    if naflex_data_config.eval_is_spatial:
        transform = _Spatial(transform, size)
    return transform, seq_len, size
