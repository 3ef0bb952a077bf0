"""Text towers of the `transformers` library."""

from dataclasses import dataclass, field
from typing import Any, Literal

from diptych.config import TextTowerConfig
from diptych.config.ranges import Context, Count

_SEEING = frozenset({"convbert", "nystromformer", "yoso"})
"""Model types whose numbers depend on padding in spite of an attention mask: by convolutions,
landmarks and hashes over all places."""


@dataclass(frozen=True, kw_only=True)
class HuggingFaceTextConfig(TextTowerConfig):
    """Any text encoder of the `transformers` library, pooled and projected to the shared space."""

    implementation = "diptych.families.huggingface.model:HuggingFaceText"

    model_type: str
    """transformers' model type, such as `bert`, `roberta`, `xlm-roberta`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Fields of that model's configuration."""
    context_length: Context = 77
    pool: Literal["mean", "cls"] = "mean"
    """`mean`: over the tokens that are not padding."""
    pad_id: Count = 0

    @property
    def padding(self) -> Literal["ignored", "seen"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `TextTowerConfig.padding`."""
        return "seen" if self.model_type in _SEEING else "ignored"
