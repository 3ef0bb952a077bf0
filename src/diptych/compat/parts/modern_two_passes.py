"""MaMMUT's decoder of "modern" blocks, which open_clip uses as text tower and as decoder, by its
names.

https://github.com/mlfoundations/open_clip, src/open_clip/transformer.py, main branch (June 2026)
"""

from types import SimpleNamespace
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.compat.parts.attention import context_attn_mask_from_valid
from diptych.compat.parts.locks import NamedGroups
from diptych.compat.parts.modern import ModernTextTransformer, said_of
from diptych.compat.parts.two_passes import TwoPasses
from diptych.errors import ConfigError
from diptych.families.modern import TwoPassTextConfig
from diptych.families.modern.two_pass_layout import read_two_pass_text
from diptych.nn.modern_block import modern_blocks, run_blocks


class ModernMultimodalDecoder(TwoPasses, ModernTextTransformer):  # pyright: ignore[reportIncompatibleMethodOverride]
    """As `MultimodalDecoder`, of the blocks of `ModernTextTransformer`; pictures are read between
    attention and perceptron. `cfg` is a `MultimodalCfg` whose `text_arch` is "modern". Raises
    ConfigError, a ValueError, for one that has no meaning here.

    >>> import torch
    >>> from diptych.compat.coca_model import MultimodalCfg
    >>> from diptych.compat.transformer import ModernMultimodalDecoder
    >>> cfg = MultimodalCfg(text_arch="modern", vocab_size=30, width=16, heads=2, layers=2)
    >>> made = ModernMultimodalDecoder(cfg)
    >>> ids = torch.tensor([[3, 4, 0]])
    >>> made(ids, mode="contrastive").shape, made(ids, context=torch.zeros(1, 5, 16)).shape
    (torch.Size([1, 16]), torch.Size([1, 3, 30]))
    """

    def __init__(self, cfg: Any, output_dim: int | None = None):
        said = said_of(cfg)
        step = int(said["cross_attn_ratio"])
        config = read_two_pass_text(said | {"vision_cfg": {"width": 1}})
        assert config is not None
        if not 1 <= step <= config.layers:
            raise ConfigError(f"cross_attn_ratio {step} lies from 1 to {config.layers}")
        self._make_both(config, step, cfg, output_dim)
        self.init_parameters()
        if said.get("tie_lm_head"):
            self.tie_lm_head()

    @classmethod
    def both(
        cls, config: TwoPassTextConfig, step: int, options: dict[str, Any], output_dim: int
    ) -> "ModernMultimodalDecoder":
        """Both passes of this configuration, without values; `step`: of so many blocks the first
        one reads pictures; `options`: the `multimodal_cfg` of the same."""
        made = cls.__new__(cls)
        made._make_both(config, step, SimpleNamespace(**options), output_dim)
        return made

    def _make_both(
        self, config: TwoPassTextConfig, step: int, cfg: Any, output_dim: int | None
    ) -> None:
        self._make(config, cfg, output_dim)
        kind, options = type(self).block_kind, self.options_of(config)
        self.blocks = modern_blocks(options, config.layers, step, kind)
        self.cross_step, self.output_tokens = step, False
        self.lm_head = nn.Linear(config.width, config.vocab_size, bias=False)

    def init_parameters(self) -> None:
        """Fill every parameter: see `ModernTextTower.init`; lm_head N(0, 1 / width)."""
        super().init_parameters()
        nn.init.normal_(self.lm_head.weight, std=self.width**-0.5)

    def tie_lm_head(self) -> None:
        """Make logits by the table of the words: one parameter under two names."""
        self.lm_head.weight = self.tokens.weight

    @property
    def lm_head_params(self) -> tuple[Tensor, Tensor | None]:
        """The matrix that makes logits, [vocabulary, width], and no bias."""
        return self.lm_head.weight, None

    def _vectors(self, text: Int[Tensor, "batch length"], text_valid: Tensor | None) -> Tensor:
        """See `TwoPasses`."""
        return ModernTextTransformer.forward(self, text, text_valid=text_valid)

    def _captions(self, text: Tensor, context: Tensor, context_valid: Tensor | None) -> Tensor:
        """See `TwoPasses`."""
        x = self.embed(text)
        seen = context_attn_mask_from_valid(context_valid)
        given = {"causal": True, "pictures": context, "seen": seen}
        return self.norm_post(run_blocks(self.blocks, x, self.turns(x), **given))

    def _logits(self, hidden: Float[Tensor, "batch length width"]) -> Tensor:
        """See `TwoPasses`."""
        return self.lm_head(hidden)

    def layer_groups(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, pooler_in_head: bool = True
    ) -> NamedGroups:
        """As `ModernTextTransformer.layer_groups`, with `lm_head` among the projections."""
        *groups, (name, head) = super().layer_groups(pooler_in_head)
        if name != "proj":
            return [*groups, (name, head), ("proj", [self.lm_head])]
        return [*groups, (name, [*head, self.lm_head])]
