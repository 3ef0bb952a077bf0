"""Text towers that transformers builds."""

import inspect
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from diptych.errors import ConfigError
from diptych.families.huggingface.config import HuggingFaceTextConfig
from diptych.families.huggingface.options import check_options
from diptych.models.foreign import count_flops, repeated_blocks
from diptych.models.tower import TokenKind, Tower, TowerOutput


class HuggingFaceText(Tower[HuggingFaceTextConfig]):
    """A `transformers` text encoder, pooled over the tokens that aren't padding, and a linear
    projection.

    The trunk keeps transformers' initialisation. Raises ConfigError for a model type that
    transformers doesn't know.
    """

    def __init__(self, config: HuggingFaceTextConfig, embed_dim: int):
        from transformers import MODEL_MAPPING, AutoConfig
        from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

        super().__init__()
        self.config = config
        check_options(config.model_type, config.options)
        trunk_config = AutoConfig.for_model(config.model_type, **config.options)
        kind = type(trunk_config)
        mapping = (
            MODEL_FOR_TEXT_ENCODING_MAPPING
            if kind in MODEL_FOR_TEXT_ENCODING_MAPPING
            else MODEL_MAPPING
        )
        encoder: Any = mapping[kind]
        # A pooling head would never be read.
        pooling = "add_pooling_layer" in inspect.signature(encoder.__init__).parameters
        self.trunk: Any = encoder(trunk_config, **({"add_pooling_layer": False} if pooling else {}))
        self.width = trunk_config.hidden_size
        self.blocks = list(repeated_blocks(self.trunk))
        self.projection = nn.Linear(self.width, embed_dim, bias=False)

    @classmethod
    def build(
        cls, config: HuggingFaceTextConfig, embed_dim: int | None, device: torch.device
    ) -> "HuggingFaceText":
        """With the values that transformers gives its trunk."""
        cls.check_projection(config, embed_dim)
        assert embed_dim is not None
        with torch.device(device):
            return cls(config, embed_dim)

    def init(self) -> None:
        """projection.weight: N(0, 1 / width). The trunk was filled by transformers."""
        nn.init.normal_(self.projection.weight, std=self.width**-0.5)

    def forward(self, x: Int[Tensor, "batch length"], tokens: TokenKind = "raw") -> TowerOutput:
        """Ids, padded with `config.pad_id`, to the trunk's last features as tokens, their mean or
        the first of them as the feature, and the pooled vector. There are only raw tokens."""
        if x.shape[1] > self.config.context_length:
            raise ConfigError(
                f"{x.shape[1]} tokens; this tower takes at most {self.config.context_length}"
            )
        real = x != self.config.pad_id
        states = self.trunk(input_ids=x, attention_mask=real.long()).last_hidden_state
        if self.config.pool == "cls":
            feature = states[:, 0]
        else:
            # The mean over real tokens; a row of padding alone has the mean 0, not 0 / 0.
            weight = real / real.sum(dim=1, keepdim=True).clamp(min=1)
            feature = (weight.to(states.dtype)[:, None] @ states)[:, 0]
        return TowerOutput(self._select(states, tokens), feature, self.projection(feature))

    def flops(self) -> int:
        """Counted while one caption of full length runs through."""
        ids = torch.full((1, self.config.context_length), self.config.pad_id + 1)
        return count_flops(self, ids.to(self.projection.weight.device))
