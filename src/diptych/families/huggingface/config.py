"""Text towers of the `transformers` library."""

from dataclasses import dataclass, field
from typing import Any, Literal

from diptych.components import ADDED
from diptych.config import TextTowerConfig
from diptych.config.ranges import Context, Count, Width, check_ids
from diptych.errors import ConfigError

_SEEING = frozenset({"convbert", "nystromformer", "yoso"})
"""Model types whose numbers depend on padding in spite of an attention mask: by convolutions,
landmarks and hashes over all places."""

TokenPool = Literal["mean", "max", "cls", "eos"]
"""How one vector of a text is made of its tokens."""
Pool = Literal[TokenPool, "head"]


@dataclass(frozen=True, kw_only=True)
class HuggingFaceTextConfig(TextTowerConfig):
    """Any text encoder of the `transformers` library, pooled and projected to the shared space."""

    implementation = "diptych.families.huggingface.model:HuggingFaceText"
    weights = "diptych.families.huggingface.weights:HuggingFaceTextWeights"

    model_type: str
    """transformers' model type, such as `bert`, `roberta`, `xlm-roberta`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Fields of that model's configuration."""
    context_length: Context = 77
    pool: Pool = "mean"
    """`mean`: over the tokens that are not padding; `max`: the greatest of these in each place of
    the vector. `cls`: the first token. `eos`: the last one that is not padding. `head`: the trunk's
    own pooling layer (BERT's and its kin's, over the first)."""
    pad_id: Count = 0
    projection: Literal["linear", "mlp", "none"] = field(default="linear", metadata=ADDED)
    """`mlp`: two matrices, with GELU between them, of half the sum of both widths. `none`: the
    trunk's width is the shared space's, or `token_width` where that is given."""
    token_width: Width | None = field(default=None, metadata=ADDED)
    """Before they are pooled, the trunk's last features go through a layer norm and a matrix with
    bias to this width: that of the text tower from whose vectors they were learned (AltCLIP,
    arXiv:2211.06679, §3.1). None: they stay as they are."""
    variable_text: bool = field(default=False, metadata=ADDED)
    """Whether open_clip's loaders pad texts to the longest of a batch, and not to the context. No
    number depends on it."""

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.vocabulary, int):  # another type is for transformers to refuse
            check_ids(self.vocabulary, pad_id=self.pad_id)
        if self.token_width is not None and self.pool == "head":
            raise ConfigError(
                "pool 'head' is the trunk's own, of features as wide as it is; with token_width "
                f"{self.token_width} the pool must be mean, max, cls or eos"
            )

    @property
    def padding(self) -> Literal["ignored", "seen"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `TextTowerConfig.padding`."""
        return "seen" if self.model_type in _SEEING else "ignored"

    @property
    def vocabulary(self) -> int | None:
        """Of the options; None: they don't say it."""
        return self.options.get("vocab_size")
