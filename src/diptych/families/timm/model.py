"""Image towers that timm builds."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.errors import ConfigError
from diptych.families.timm.config import TimmConfig
from diptych.models.foreign import count_flops, repeated_blocks
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
        self.blocks = list(repeated_blocks(self.trunk))
        self.projection = nn.Linear(self.trunk.head_hidden_size, embed_dim, bias=False)

    @classmethod
    def build(cls, config: TimmConfig, embed_dim: int | None, device: torch.device) -> "TimmTower":
        """With the values that timm gives its trunk."""
        cls.check_projection(config, embed_dim)
        assert embed_dim is not None
        with torch.device(device):
            return cls(config, embed_dim)

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
        return count_flops(
            self, torch.zeros(1, 3, size, size, device=self.projection.weight.device)
        )
