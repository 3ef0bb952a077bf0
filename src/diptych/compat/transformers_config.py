"""The configuration that transformers reads from an exported EVA-CLIP folder."""

from typing import Any

from transformers import PretrainedConfig


class EvaClipConfig(PretrainedConfig):
    """config.json as `diptych convert --to transformers` writes it for EVA towers: see
    docs/formats.md."""

    model_type = "eva_clip"

    def __init__(
        self,
        vision_config: dict[str, Any] | None = None,
        text_config: dict[str, Any] | None = None,
        projection_dim: int = 512,
        **more: Any,
    ):
        super().__init__(**more)
        self.vision_config, self.text_config, self.projection_dim = (
            vision_config or {},
            text_config or {},
            projection_dim,
        )
