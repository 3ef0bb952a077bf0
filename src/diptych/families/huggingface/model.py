"""Text towers that transformers builds."""

from collections import OrderedDict
from typing import Any, assert_never

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.batch import TextLengths
from diptych.errors import ConfigError
from diptych.families.huggingface.config import HuggingFaceTextConfig, Pool, TokenPool
from diptych.families.huggingface.options import (
    check_options,
    model_class,
    takes_pooling_layer,
)
from diptych.models.foreign import count_flops, foreign_build, repeated_blocks, said
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.nn.text_pieces import cut, cut_by_length, pad, restored


class HuggingFaceText(Tower[HuggingFaceTextConfig]):
    """A `transformers` text encoder, pooled over the tokens that aren't padding, and a projection.
    Of a model that also decodes, it is the encoder alone.

    The trunk keeps transformers' initialisation. Raises ConfigError for a model type that
    transformers doesn't know, and where transformers isn't installed.
    """

    def __init__(
        self,
        config: HuggingFaceTextConfig,
        trunk: Any,
        projection: nn.Module,
        transform: nn.Module | None = None,
    ):
        super().__init__()
        self.config = config
        self.trunk, self.width = trunk, config.token_width or trunk.config.hidden_size
        self.blocks = list(repeated_blocks(self.trunk))
        self.transform = nn.Identity() if transform is None else transform
        """Of the trunk's last features; see `HuggingFaceTextConfig.token_width`."""
        self.projection = projection

    @classmethod
    def build(
        cls, config: HuggingFaceTextConfig, embed_dim: int | None, device: torch.device
    ) -> "HuggingFaceText":
        """With the values that transformers gives its trunk."""
        cls.check_projection(config, embed_dim)
        with torch.device(device):
            trunk = _trunk(config)
            transform = _transform(config, trunk.config)
            width = config.token_width or trunk.config.hidden_size
            return cls(config, trunk, _projection(config, width, embed_dim), transform)

    @classmethod
    def check_projection(cls, config: HuggingFaceTextConfig, embed_dim: int | None) -> None:
        """Raises ConfigError for a tower that is to be without the projection it has."""
        if config.projection != "none":
            super().check_projection(config, embed_dim)

    def init(self) -> None:
        """Matrices behind the trunk: N(0, 1 / fan in). The trunk was filled by transformers.

        | parameter           | value                        |
        | ------------------- | ---------------------------- |
        | transform.norm      | gain 1, bias 0               |
        | transform.linear    | N(0, 1 / width), bias 0      |
        | projection          | N(0, 1 / fan in)             |
        """
        for module in (*self.transform.modules(), *self.projection.modules()):
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                for bias in [*module.parameters()][1:]:
                    nn.init.zeros_(bias)

    def forward(
        self,
        x: Int[Tensor, "batch length"],
        tokens: TokenKind = "raw",
        lengths: TextLengths | None = None,
    ) -> TowerOutput:
        """Ids, padded with `config.pad_id`, to the trunk's last features as tokens (as
        `config.token_width` has them), their mean or the first of them as the feature, and the
        pooled vector. There are only raw tokens.

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
        """The trunk's last features, transformed, and what is pooled of them."""
        output, real = run(self.trunk, x, self.config.pad_id)
        if self.config.pool == "head":
            return output.last_hidden_state, output.pooler_output
        states = self.transform(output.last_hidden_state)
        return states, pooled_tokens(states, real, self.config.pool)

    def flops(self) -> int:
        """Counted while one caption of full length runs through."""
        ids = torch.full((1, self.config.context_length), self.config.pad_id + 1)
        return count_flops(self, ids.to(next(self.parameters()).device))


def run(
    trunk: Any, ids: Int[Tensor, "batch length"], pad_id: int
) -> tuple[Any, Bool[Tensor, "batch length"]]:
    """What transformers' model says of ids, and which of them aren't padding."""
    real = ids != pad_id
    # On meta there is no padding to be seen, and transformers would look for it.
    return trunk(input_ids=ids, attention_mask=None if ids.is_meta else real.long()), real


def pooled(
    output: Any, real: Bool[Tensor, "batch length"], pool: Pool
) -> Float[Tensor, "batch width"]:
    """One vector of each text, of what transformers' model says of it; see
    `HuggingFaceTextConfig.pool`."""
    if pool == "head":
        return output.pooler_output
    return pooled_tokens(output.last_hidden_state, real, pool)


def pooled_tokens(
    states: Float[Tensor, "batch length width"],
    real: Bool[Tensor, "batch length"],
    pool: TokenPool,
) -> Float[Tensor, "batch width"]:
    """One vector of each text, of its tokens; `real`: which of them aren't padding."""
    match pool:
        case "cls":
            return states[:, 0]
        case "eos":
            # What is left of a row when the padding behind its end is taken off.
            last = (real * torch.arange(states.shape[1], device=states.device)).argmax(dim=1)
            return states[torch.arange(len(states), device=states.device), last]
        case "mean":
            # A row of padding alone has the mean 0, not 0 / 0.
            weight = real / real.sum(dim=1, keepdim=True).clamp(min=1)
            return (weight.to(states.dtype)[:, None] @ states)[:, 0]
        case "max":
            # A row of padding alone has the lowest number there is, not minus infinity.
            lowest = torch.finfo(states.dtype).min
            return states.masked_fill(~real[:, :, None], lowest).amax(dim=1)
        case _:
            assert_never(pool)


def _trunk(config: HuggingFaceTextConfig) -> Any:
    with foreign_build(f"transformers' {config.model_type} with {said(config.options)}"):
        return _built(config)


def _built(config: HuggingFaceTextConfig) -> Any:
    """What transformers builds."""
    known = check_options(config.model_type, config.options)
    from transformers import AutoConfig

    # The decoder is thrown away: it needn't be built.
    shallow = {"decoder_layers": 0} if "decoder_layers" in known else {}
    built: Any = AutoConfig.for_model(config.model_type, **config.options | shallow)
    model = model_class(built)
    wanted = config.pool == "head"
    if takes_pooling_layer(model):
        return model(built, add_pooling_layer=wanted)
    if wanted:
        raise ConfigError(f"pool 'head': a {config.model_type} has no pooling layer of its own")
    decodes = built.is_encoder_decoder
    trunk = model(built)
    return trunk.encoder if decodes else trunk


def _transform(config: HuggingFaceTextConfig, trunk: Any) -> nn.Module | None:
    """`trunk`: its configuration of transformers', whose norms' epsilon this one has, too."""
    if config.token_width is None:
        return None
    norm = nn.LayerNorm(trunk.hidden_size, trunk.to_dict().get("layer_norm_eps", 1e-5))
    linear = nn.Linear(trunk.hidden_size, config.token_width)
    return nn.Sequential(OrderedDict(norm=norm, linear=linear))


def _projection(config: HuggingFaceTextConfig, width: int, embed_dim: int | None) -> nn.Module:
    if config.projection == "none":
        if embed_dim not in (None, width):
            raise ConfigError(
                f"a text tower without projection: embed_dim must be its width, {width}, "
                f"and is {embed_dim}"
            )
        return nn.Identity()
    assert embed_dim is not None
    match config.projection:
        case "linear":
            return nn.Linear(width, embed_dim, bias=False)
        case "mlp":
            between = (width + embed_dim) // 2
            return nn.Sequential(
                nn.Linear(width, between, bias=False),
                nn.GELU(),
                nn.Linear(between, embed_dim, bias=False),
            )
        case _:
            assert_never(config.projection)
