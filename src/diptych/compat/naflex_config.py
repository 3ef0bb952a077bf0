"""How batches of pictures of their own aspect are made, as open_clip's main branch says it: each
has patches of one size, at most so many of each picture, and as many pictures as a budget allows
(NaFlex: Tschannen et al. 2025, arXiv:2502.14786).

https://github.com/mlfoundations/open_clip, src/open_clip/naflex_config.py
"""

from collections.abc import Sequence
from dataclasses import dataclass

from diptych.errors import ConfigError

PatchSize = int | tuple[int, int]
_SEQ_LENS = (128, 256, 576, 784, 1024)
"""Patches of a picture, at most: one of these for each batch."""


@dataclass(frozen=True, kw_only=True)
class NaFlexDataConfig:
    """Sizes that were checked, which `resolve` makes.

    >>> from diptych.compat.naflex_config import NaFlexDataConfig
    >>> config = NaFlexDataConfig.resolve(seq_lens=[128, 256], seq_len_probs=[3.0, 1.0])
    >>> config.train_seq_len_probs, config.eval_config
    ((0.75, 0.25), ((16, 16), 256))
    >>> config.resolve_max_tokens_per_batch(batch_size=32)
    8192
    """

    train_patch_sizes: tuple[tuple[int, int], ...]
    """Pixels, (height, width): one of these for each batch."""
    train_patch_size_probs: tuple[float, ...] | None
    """How often each; None: equally."""
    train_seq_lens: tuple[int, ...]
    train_seq_len_probs: tuple[float, ...] | None
    train_num_image_tokens: int | None
    """Patches of an epoch; None: it is counted in samples."""
    max_tokens_per_batch: int | None
    """None: as many as the batch size has of the longest."""
    batch_divisor: int
    """Of how many pictures a batch is a multiple."""
    eval_patch_size: tuple[int, int]
    eval_seq_len: int
    model_patch_size: tuple[int, int] | None = None
    """Of the model's own patches; None: nobody says."""
    supports_patch_interpolation: bool = False
    """Whether the model takes patches of other sizes, by resizing its own weights."""

    @classmethod
    def resolve(
        cls,
        patch_sizes: Sequence[PatchSize] | None = None,
        patch_size_probs: Sequence[float] | None = None,
        seq_lens: Sequence[int] | None = None,
        seq_len_probs: Sequence[float] | None = None,
        train_num_image_tokens: int | None = None,
        max_tokens_per_batch: int | None = None,
        batch_divisor: int = 8,
        eval_patch_size: PatchSize | None = None,
        eval_seq_len: int | None = None,
        model_patch_size: PatchSize | None = None,
        supports_patch_interpolation: bool = False,
    ) -> "NaFlexDataConfig":
        """What isn't said is open_clip's. Raises ConfigError for what doesn't fit."""
        sizes = tuple(_pair(size) for size in (patch_sizes or (16,)))
        lengths = tuple(seq_lens or _SEQ_LENS)
        evaluated = sizes[0] if eval_patch_size is None else _pair(eval_patch_size)
        _positive("NaFlex sequence lengths", *lengths, eval_seq_len)
        _positive("NaFlex train image tokens", train_num_image_tokens)
        _positive("NaFlex max tokens per batch", max_tokens_per_batch)
        _positive("NaFlex batch divisor", batch_divisor)
        return cls(
            train_patch_sizes=sizes,
            train_patch_size_probs=_shares(patch_size_probs, len(sizes), "patch-sizes"),
            train_seq_lens=lengths,
            train_seq_len_probs=_shares(seq_len_probs, len(lengths), "seq-lens"),
            train_num_image_tokens=train_num_image_tokens,
            max_tokens_per_batch=max_tokens_per_batch,
            batch_divisor=batch_divisor,
            eval_patch_size=evaluated,
            eval_seq_len=eval_seq_len or max(lengths),
            model_patch_size=None if model_patch_size is None else _pair(model_patch_size),
            supports_patch_interpolation=supports_patch_interpolation,
        )

    @property
    def variable_patch_size(self) -> bool:
        """Whether batches have patches of different sizes."""
        return len(self.train_patch_sizes) > 1

    @property
    def eval_config(self) -> tuple[tuple[int, int], int]:
        """A patch's size, and how many of a picture, where a model is measured."""
        return self.eval_patch_size, self.eval_seq_len

    @property
    def eval_patch_shape(self) -> tuple[int, ...]:
        """Of one patch where a model is measured: its numbers in a row, or [height, width, 3]."""
        height, width = self.eval_patch_size
        return (height, width, 3) if self.eval_is_spatial else (height * width * 3,)

    @property
    def eval_is_spatial(self) -> bool:
        """Whether patches where a model is measured are [height, width, 3]: if they are known to be
        of another size than its own."""
        return self.model_patch_size not in (None, self.eval_patch_size)

    def is_spatial(self, patch_size: tuple[int, int]) -> bool:
        """Whether patches of this size are [height, width, 3] in training, from which a model can
        resize them: where they aren't of its own size, or where there are several and nobody says
        its own."""
        if self.model_patch_size is None:
            return self.variable_patch_size
        return patch_size != self.model_patch_size

    def resolve_max_tokens_per_batch(self, batch_size: int, per_row_text_tokens: int = 0) -> int:
        """The budget; what isn't said is `batch_size` pictures of the longest, each with so many
        tokens of text."""
        longest = max(self.train_seq_lens) + per_row_text_tokens
        return self.max_tokens_per_batch or batch_size * longest


def _shares(given: Sequence[float] | None, count: int, name: str) -> tuple[float, ...] | None:
    """Probabilities that sum to 1. Raises ConfigError for others than `count`, and below 0."""
    if given is None:
        return None
    if len(given) != count:
        raise ConfigError(
            f"NaFlex has {len(given)} probabilities of {name}; they must match {name} length, "
            f"{count}"
        )
    total = float(sum(given))
    if min(given) < 0 or not 0 < total < float("inf"):
        raise ConfigError(f"NaFlex probabilities of {name} must be non-negative, one above 0")
    return tuple(each / total for each in given)


def _pair(size: PatchSize) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    _positive("a NaFlex patch size", height, width)
    return height, width


def _positive(name: str, *values: int | None) -> None:
    for value in values:
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be 1 or more, and one is {value}")
