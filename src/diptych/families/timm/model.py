"""Image towers that timm builds."""

import functools
import math
from collections import OrderedDict
from typing import Any, assert_never

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.errors import ConfigError
from diptych.families.timm.config import TimmConfig
from diptych.models.foreign import count_flops, foreign_build, repeated_blocks, said
from diptych.models.shapes import shapes_only
from diptych.models.tower import TokenKind, Tower, TowerOutput

_MEANS = ("avg", "avgmax", "max")
"""Pools of timm's before whose result a ViT's last norm stands where nothing else is said."""


class TimmTower(Tower[TimmConfig]):
    """A `timm` model without its classifier, and a projection of what the classifier would have
    read.

    The trunk keeps timm's initialisation. Raises ConfigError for a name that timm doesn't know, and
    for a classifier that is more than a linear layer where it is to be the projection.
    """

    always_projects = False

    def __init__(self, config: TimmConfig, embed_dim: int | None):
        super().__init__()
        self.config = config
        classes = embed_dim if config.projection == "classifier" else None
        self.trunk: Any = build_trunk(config, classes or 0)
        self.width = self.trunk.num_features
        self.blocks = list(repeated_blocks(self.trunk))
        self.projection = self._projection(embed_dim)

    def _projection(self, embed_dim: int | None) -> nn.Module:
        width = self.trunk.head_hidden_size
        if embed_dim is None:
            return nn.Identity()
        match self.config.projection:
            case "linear":
                return nn.Linear(width, embed_dim, bias=False)
            case "classifier":
                return self._taken_classifier()
            case "mlp":
                hidden = 2 * embed_dim
                up, down = nn.Linear(width, hidden), nn.Linear(hidden, embed_dim, bias=False)
                return nn.Sequential(OrderedDict(up=up, activation=nn.GELU(), down=down))
            case "none":
                if width != embed_dim:
                    raise ConfigError(
                        f"the features of timm's {self.config.name} are {width} wide; without a "
                        f"projection embed_dim must be that, and it is {embed_dim}"
                    )
                return nn.Identity()
            case _:
                assert_never(self.config.projection)

    def _taken_classifier(self) -> nn.Linear:
        """The trunk's classifier, taken out of it: a projection is called by one name everywhere,
        and what is done to trunks isn't done to it."""
        made = self.trunk.get_classifier()
        if not isinstance(made, nn.Linear):
            raise ConfigError(
                f"the classifier of timm's {self.config.name} is no linear layer alone, and can't "
                'be the projection; set projection to "linear"'
            )
        where = next(name for name, module in self.trunk.named_modules() if module is made)
        parent, _, name = where.rpartition(".")
        setattr(self.trunk.get_submodule(parent), name, nn.Identity())
        return made

    @classmethod
    def build(cls, config: TimmConfig, embed_dim: int | None, device: torch.device) -> "TimmTower":
        """With the values that timm gives its trunk."""
        with torch.device(device):
            return cls(config, embed_dim)

    def init(self) -> None:
        """The projection's matrices: N(0, 1 / fan in), biases 0. The trunk was filled by timm."""
        for module in self.projection.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                    nn.init.zeros_(module.bias)

    def forward(
        self, x: Float[Tensor, "batch 3 height wide"], tokens: TokenKind = "raw"
    ) -> TowerOutput:
        """Pixels to the trunk's last features as tokens, what its classifier would have read as the
        feature, and the pooled vector. There are only raw tokens."""
        features = self.trunk.forward_features(x)
        feature = self.trunk.forward_head(features, pre_logits=True)
        seen = self._tokens(features)
        return TowerOutput(self._select(seen, tokens), feature, self.projection(feature))

    def _tokens(self, features: Tensor) -> Float[Tensor, "batch tokens width"]:
        if features.ndim == 3:
            return features
        # A grid, channels first as in most models, or last as in Swin.
        channels_last = features.shape[3] == self.width
        return features.flatten(1, 2) if channels_last else features.flatten(2).transpose(1, 2)

    def read_tokens(
        self, pixels: Float[Tensor, "batch 3 height wide"]
    ) -> tuple[Tensor, Tensor, int]:
        """Of a grid, the trunk's last features. Of tokens, what the last block gets: behind it a
        class token may be all that is read. What is more than a square of them comes first."""
        taken: list[Tensor] = []
        hook = self.blocks[-1].register_forward_pre_hook(
            lambda block, inputs: taken.append(inputs[0])
        )
        features = self.trunk.forward_features(pixels)
        hook.remove()
        if features.ndim == 4:
            # Taken apart and put together again, so that the vector depends on the tokens.
            tokens, shape = self._tokens(features), features.shape
            rows = tokens if shape[3] == self.width else tokens.transpose(1, 2)
            taken, features = [tokens], rows.reshape(shape)
        feature = self.trunk.forward_head(features, pre_logits=True)
        [tokens] = taken
        return tokens, self.projection(feature), tokens.shape[1] - math.isqrt(tokens.shape[1]) ** 2

    @property
    def feature_width(self) -> int:
        """Some trunks have a layer between their features and the classifier."""
        return self.trunk.head_hidden_size

    def flops(self) -> int:
        """Counted while one picture runs through."""
        size = self.config.image_size
        device = next(self.parameters()).device
        return count_flops(self, torch.zeros(1, 3, size, size, device=device))


def build_trunk(config: TimmConfig, classes: int = 0) -> Any:
    """timm's model, with a classifier for so many classes. Raises ConfigError for a name that timm
    doesn't know, and for options that it can't build."""
    import timm
    from timm.utils.model import reparameterize_model

    if not timm.is_model(config.name):
        near = timm.list_models(f"{config.name[:6]}*")[:3]
        raise ConfigError(
            f"timm has no model {config.name!r}" + (f"; near are {', '.join(near)}" if near else "")
        )
    options = config.arguments
    if fixed_size(config.name) is not None:
        options.setdefault("img_size", config.image_size)
    with foreign_build(f"timm's {config.name} with {said(options)}"):
        trunk = timm.create_model(config.name, num_classes=classes, **options)
    return reparameterize_model(trunk, inplace=True) if config.deploy else trunk


def fixed_size(name: str) -> int | None:
    """The side of the pictures for which timm builds this model where nothing else is asked for;
    None: it takes pictures of any size."""
    import timm

    published = timm.get_pretrained_cfg(name)
    if published is None or not published.fixed_input_size:
        return None
    return int(published.input_size[-1])


def is_naflex(name: str) -> bool:
    """Whether timm builds this model of patches of pictures of their own aspect."""
    from timm.models import is_model_in_modules

    return bool(is_model_in_modules(name, ["naflexvit"]))


@functools.cache
def kept_norm(name: str, pool: str) -> dict[str, bool]:
    """The option of a ViT whose last norm stands before or behind the pool as timm has it of the
    model's own pool, where that isn't what timm takes for this one; nothing of others."""
    import timm
    from timm.models import is_model_in_modules

    if not is_model_in_modules(name, ["vision_transformer", "vision_transformer_hybrid"]):
        return {}
    with shapes_only():
        behind = not isinstance(timm.create_model(name).fc_norm, nn.Identity)
    return {} if behind == (pool in _MEANS) else {"fc_norm": behind}


def trunk_width(config: TimmConfig) -> int:
    """Of the trunk's tokens, which only timm can tell. Raises as `build_trunk`."""
    with shapes_only():
        return int(build_trunk(config).num_features)
