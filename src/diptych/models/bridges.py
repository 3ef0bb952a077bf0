"""Towers that other libraries build: any `timm` image model, any Hugging Face text encoder."""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diptych.config import HuggingFaceTextConfig, TimmConfig
from diptych.errors import ConfigError
from diptych.models.tower import TokenKind, Tower, TowerOutput


class TimmTower(Tower[TimmConfig]):
    """A `timm` model without its classifier, and a linear projection of what the classifier would
    have read.

    The trunk keeps timm's initialisation. Raises ConfigError for a name that timm doesn't know.
    """

    def __init__(self, config: TimmConfig, embed_dim: int):
        import timm

        super().__init__()
        self.config = config
        if not timm.is_model(config.name):
            near = timm.list_models(f"{config.name[:6]}*")[:3]
            raise ConfigError(
                f"timm has no model {config.name!r}"
                + (f"; near are {', '.join(near)}" if near else "")
            )
        published = timm.get_pretrained_cfg(config.name)
        fixed = published is not None and published.fixed_input_size
        options: dict[str, Any] = (
            {"img_size": config.image_size} if fixed else {}
        ) | config.options
        self.trunk: Any = timm.create_model(config.name, num_classes=0, **options)
        self.width = self.trunk.num_features
        self.blocks = list(_repeated(self.trunk))
        self.projection = nn.Linear(self.trunk.head_hidden_size, embed_dim, bias=False)

    def init(self) -> None:
        """projection.weight: N(0, 1 / fan in). The trunk was filled by timm."""
        nn.init.normal_(self.projection.weight, std=self.projection.in_features**-0.5)

    def forward(
        self, x: Float[Tensor, "batch 3 height wide"], tokens: TokenKind = "raw"
    ) -> TowerOutput:
        """Pixels to the trunk's last features as tokens, what its classifier would have read as the
        feature, and the pooled vector. There are only raw tokens."""
        features = self.trunk.forward_features(x)
        feature = self.trunk.forward_head(features, pre_logits=True)
        if features.ndim == 4:  # a grid, channels first as in most models, or last as in Swin
            channels_last = features.shape[3] == self.width
            features = (
                features.flatten(1, 2) if channels_last else features.flatten(2).transpose(1, 2)
            )
        return TowerOutput(self._select(features, tokens), feature, self.projection(feature))

    @property
    def feature_width(self) -> int:
        """Some trunks have a layer between their features and the classifier."""
        return self.projection.in_features

    def flops(self) -> int:
        """Counted while one picture runs through."""
        size = self.config.image_size
        return _count(self, torch.zeros(1, 3, size, size, device=self.projection.weight.device))


class HuggingFaceText(Tower[HuggingFaceTextConfig]):
    """A `transformers` text encoder, pooled over the tokens that aren't padding, and a linear
    projection.

    The trunk keeps transformers' initialisation. Raises ConfigError for a model type that
    transformers doesn't know."""

    def __init__(self, config: HuggingFaceTextConfig, embed_dim: int):
        from transformers import MODEL_MAPPING, AutoConfig
        from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

        super().__init__()
        self.config = config
        try:
            trunk_config = AutoConfig.for_model(config.model_type, **config.options)
        except ValueError as error:
            raise ConfigError(f"transformers has no model type {config.model_type!r}") from error
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
        self.blocks = list(_repeated(self.trunk))
        self.projection = nn.Linear(self.width, embed_dim, bias=False)

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
        return _count(self, ids.to(self.projection.weight.device))


def _repeated(module: nn.Module) -> Iterator[nn.Module]:
    """The members of the innermost containers whose members are all of one class and have parts
    themselves."""
    for child in module.children():
        inner = list(_repeated(child))
        parts = list(child.children())
        same = len({type(part) for part in parts}) == 1 and any(parts[0].children())
        if not inner and same and isinstance(child, nn.ModuleList | nn.Sequential):
            inner = parts
        yield from inner


def _count(tower: Tower, example: Tensor) -> int:
    training = tower.training
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tower.eval()(example)
    tower.train(training)
    return counter.get_total_flops()
