"""The text tower and the decoder of recent language models' blocks, as open_clip has them."""

from dataclasses import dataclass, field, replace
from typing import Literal

from diptych.components import ADDED
from diptych.config import DecoderConfig, TextTowerConfig
from diptych.config.modern import ModernSizes
from diptych.config.ranges import Context, Count, Layers, Some, Width, check_ids
from diptych.config.two_pass import TwoPassDecoderConfig
from diptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ModernTextConfig(ModernSizes, TextTowerConfig):
    """A text transformer that sees no padding, and has no table of positions."""

    implementation = "diptych.families.modern.text:ModernTextTower"
    weights = "diptych.families.modern.weights:ModernTextWeights"
    decoded = "normed"

    context_length: Context = 256
    causal: bool = True
    """Whether a token sees itself and those before it alone; without, all but the padding."""
    reading: Literal["end", "mean", "query"] = "end"
    """Where the vector is read. `end`: at the first `end_id`, or the last token where there is
    none. `mean`: of all tokens but the padding. `query`: what a learned query reads of them."""
    start_id: Count | None = 50259
    """Which ids a text begins and ends with, and which is padding. The defaults are those behind
    tiktoken's `r50k_base`; None: there is none."""
    end_id: Count | None = 50257
    pad_id: Count | None = 50258
    still_padding: bool = True
    """Whether the vector of padding is 0 and stays so: not where `pad_id` is a word, too."""
    registers: Count = 0
    """Learned tokens before the text, which are no part of it (arXiv:2309.16588)."""
    pre_norm: bool = False
    """A norm between the words' table and the first block."""
    projection: bool = True
    """A linear map to the shared space."""
    projection_bias: bool = False
    variable_text: bool = False
    """Whether open_clip's loaders pad texts to the longest of a batch, and not to the context. No
    number depends on it."""

    def __post_init__(self):
        super().__post_init__()
        if self.reading == "end" and self.end_id is None:
            raise ConfigError(
                "a text that is read at its end needs the id of that: end_id (eos_id in open_clip)"
            )
        ids = {"start_id": self.start_id, "end_id": self.end_id, "pad_id": self.pad_id}
        check_ids(self.vocab_size, **ids)

    @property
    def vocabulary(self) -> int:
        """`vocab_size`."""
        return self.vocab_size

    @property
    def read_at(self) -> int | None:
        """`end_id`, where the text is read there."""
        return self.end_id if self.reading == "end" else None

    @property
    def bounds(self) -> tuple[int, int] | None:
        """`start_id` and `end_id`, where both are said."""
        if self.start_id is None or self.end_id is None:
            return None
        return self.start_id, self.end_id

    @property
    def sees_ahead(self) -> bool:
        """Not where it is `causal`."""
        return not self.causal

    def with_vocabulary(self, size: int) -> "ModernTextConfig":
        """With this `vocab_size`."""
        return replace(self, vocab_size=size)


@dataclass(frozen=True, kw_only=True)
class ModernDecoderConfig(ModernSizes, DecoderConfig):
    """Blocks that read the text so far and, each `step`-th of them, the picture's tokens."""

    implementation = "diptych.families.modern.decoder:ModernDecoder"
    weights = "diptych.families.modern.weights:ModernDecoderWeights"

    context_length: Context = 256
    step: Some = 1
    """Of so many blocks the first one reads pictures."""
    start_id: Count | None = 50259
    end_id: Count | None = 50257
    pad_id: Count | None = 50258
    """As the text tower has them; open_clip writes them here, too."""

    def __post_init__(self):
        super().__post_init__()
        if self.step > max(1, self.layers):
            raise ConfigError(f"step {self.step} is above layers {self.layers}")


@dataclass(frozen=True, kw_only=True)
class TwoPassTextConfig(ModernTextConfig):
    """MaMMUT's texts of these blocks: for the contrast each token sees all others, and for captions
    those before it, and what readers in the blocks (`TwoPassReadersConfig`) find in pictures."""

    implementation = "diptych.families.modern.two_pass:TwoPassTextTower"
    decoded = "normed"

    context_length: Context = 77
    causal: bool = False
    reading: Literal["end", "mean", "query"] = "mean"
    still_padding: bool = False
    projection: bool = False

    def __post_init__(self):
        super().__post_init__()
        for name in ("causal", "still_padding", "registers"):
            if getattr(self, name):
                raise ConfigError(f"{name}: MaMMUT's texts of modern blocks have none of it")

    @property
    def sees_ahead(self) -> bool:
        """Not in the pass of captions."""
        return False


@dataclass(frozen=True, kw_only=True)
class TwoPassReadersConfig(ModernSizes, TwoPassDecoderConfig):
    """What reads pictures in a `TwoPassTextConfig`'s blocks, and writes captions; perceptrons are
    the blocks' alone."""

    implementation = "diptych.families.modern.two_pass:TwoPassReaders"
    weights = "diptych.families.modern.weights:TwoPassReadersWeights"

    tied: bool = field(default=False, metadata=ADDED)
    """Whether logits are made by the text tower's table of words, and the decoder has no matrix of
    its own for them (Press & Wolf 2017, arXiv:1608.05859)."""
    context_length: Context = 77
    vocab_size: Width = 50260
    width: Width = 512
    layers: Layers = 12
