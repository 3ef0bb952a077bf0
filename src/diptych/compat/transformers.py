"""Exported EVA-CLIP folders in transformers.

    from diptych.compat.transformers import EvaClipModel

    model = EvaClipModel.from_pretrained(folder)

The folder is what `diptych convert SRC --to transformers` writes. It carries a module that imports
these two classes, so that `AutoModel.from_pretrained(folder, trust_remote_code=True)` finds them in
a process that never imported Diptych; nothing is registered with transformers.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.clip.modeling_clip import CLIPOutput

from diptych.checkpoints import load_model
from diptych.compat.model import OpenClipModel
from diptych.compat.transformers_config import EvaClipConfig
from diptych.errors import ConfigError
from diptych.families.eva.layouts import transformers as eva_transformers
from diptych.models import Clip

__all__ = ["EvaClipConfig", "EvaClipModel"]

_WITHOUT_MEANING = {
    "_commit_hash",
    "_from_auto",
    "adapter_kwargs",
    "cache_dir",
    "code_revision",
    "force_download",
    "local_files_only",
    "low_cpu_mem_usage",
    "revision",
    "token",
    "trust_remote_code",
    "use_safetensors",
    "weights_only",
}
"""About fetching; a local folder is read strictly, safely and in little memory anyway."""


class EvaClipModel(PreTrainedModel):
    """An EVA-CLIP model of two towers, with `encode_image` and `encode_text` as BAAI's remote code
    names them."""

    config_class = EvaClipConfig
    main_input_name = "pixel_values"

    def __init__(self, config: EvaClipConfig, clip: Clip):
        super().__init__(config)
        self.model = OpenClipModel(clip)

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        config: EvaClipConfig | None = None,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        device_map: str | None = None,
        **options: Any,
    ) -> "EvaClipModel":
        """The model in a local folder, in evaluation mode; `device_map` may name one device. Raises
        CheckpointError for a folder that can't be read, ConfigError for other options."""
        if unknown := [
            name for name, value in options.items() if value and name not in _WITHOUT_MEANING
        ]:
            raise ConfigError(f"{unknown[0]} has no counterpart in Diptych; leave it out")
        chosen = _dtype(dtype or torch_dtype)
        device = device_map if device_map not in (None, "auto") else "cpu"
        clip = load_model(pretrained_model_name_or_path, dtype=chosen, device=device).model
        return cls(
            config or EvaClipConfig.from_pretrained(pretrained_model_name_or_path), clip
        ).eval()

    def save_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, save_directory: str | Path, **_: Any
    ) -> None:
        """The folder again, which must not exist yet."""
        clip = self.model.clip
        eva_transformers.export(Path(save_directory), clip.config, clip.state_dict())

    def encode_image(self, image: Tensor) -> Tensor:
        """Vectors of pixels [batch, 3, size, size]; not of unit length."""
        return self.model.encode_image(image)

    def encode_text(self, text: Tensor) -> Tensor:
        """Vectors of ids [batch, length]; not of unit length. The first of the highest ids ends a
        text."""
        return self.model.encode_text(text)

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """`encode_image`, as transformers' CLIPModel calls it."""
        return self.encode_image(pixel_values)

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """`encode_text`, as transformers' CLIPModel calls it. No token sees a later one: the mask
        has no meaning."""
        return self.encode_text(input_ids)

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> CLIPOutput:
        """Logits both ways, and unit vectors."""
        images, texts, _ = self.model(pixel_values, input_ids)
        logits = self.model.logits(images, texts)
        return CLIPOutput(
            logits_per_image=logits,
            logits_per_text=logits.T,
            image_embeds=images,
            text_embeds=texts,
        )


def _dtype(chosen: torch.dtype | str | None) -> torch.dtype | None:
    """transformers' `dtype`, by its name too; None: as the weights are."""
    if chosen is None or chosen == "auto":
        return None
    found = getattr(torch, chosen, None) if isinstance(chosen, str) else chosen
    if not isinstance(found, torch.dtype):
        raise ConfigError(
            f"dtype={chosen!r} is none of torch's; write float32, float16 or bfloat16"
        )
    return found
