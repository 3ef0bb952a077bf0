"""Text towers that transformers builds."""

import inspect
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from diptych.batch import TextLengths
from diptych.errors import ConfigError
from diptych.families.huggingface.config import HuggingFaceTextConfig
from diptych.families.huggingface.options import check_options
from diptych.models.foreign import count_flops, repeated_blocks
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.nn.text_pieces import cut, cut_by_length, pad, restored


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

    def forward(
        self,
        x: Int[Tensor, "batch length"],
        tokens: TokenKind = "raw",
        lengths: TextLengths | None = None,
    ) -> TowerOutput:
        """Ids, padded with `config.pad_id`, to the trunk's last features as tokens, their mean or
        the first of them as the feature, and the pooled vector. There are only raw tokens.

        Given `lengths`, the trunk is called on a few groups of rows of like length
        (`nn/text_pieces.py`), and rows come back in their order; what tokens are behind the end is
        then not said.
        """
        longest = x.shape[1]
        if longest > self.config.context_length:
            raise ConfigError(
                f"{longest} tokens; this tower takes at most {self.config.context_length}"
            )
        if lengths is None:
            states, feature = self._read(x)
        else:
            order = lengths.device.argsort(descending=True, stable=True)
            parts = cut(x[order], cut_by_length(lengths.host, longest))
            read = [self._read(part) for part in parts]
            states = restored(pad([part for part, _ in read], longest), order)
            feature = restored(torch.cat([part for _, part in read]), order)
        return TowerOutput(self._select(states, tokens), feature, self.projection(feature))

    def _read(self, x: Int[Tensor, "batch length"]) -> tuple[Tensor, Tensor]:
        """The trunk's last features, and what is pooled of them."""
        real = x != self.config.pad_id
        states = self.trunk(input_ids=x, attention_mask=real.long()).last_hidden_state
        if self.config.pool == "cls":
            return states, states[:, 0]
        # The mean over real tokens; a row of padding alone has the mean 0, not 0 / 0.
        weight = real / real.sum(dim=1, keepdim=True).clamp(min=1)
        return states, (weight.to(states.dtype)[:, None] @ states)[:, 0]

    def flops(self) -> int:
        """Counted while one caption of full length runs through."""
        ids = torch.full((1, self.config.context_length), self.config.pad_id + 1)
        return count_flops(self, ids.to(self.projection.weight.device))
