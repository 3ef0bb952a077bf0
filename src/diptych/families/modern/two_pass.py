"""MaMMUT (Kuo et al. 2023, arXiv:2303.16839) of recent language models' blocks, as open_clip's main
branch has it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.errors import ConfigError
from diptych.families.modern.config import TwoPassReadersConfig, TwoPassTextConfig
from diptych.families.modern.text import ModernTextTower
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.models.two_pass import Reader, TwoPassDecoder
from diptych.nn.modern_attention import BlockOptions
from diptych.nn.modern_block import ModernReader, run_blocks
from diptych.nn.modern_init import init_modern_readers
from diptych.nn.padding import real_tokens


class TwoPassTextTower(ModernTextTower):
    """Without readers each token sees all others but the padding. With readers, which stand between
    a block's attention and its perceptron, the blocks are causal, and the tokens are those of a
    caption, which a picture has been read into.

    >>> import torch
    >>> from diptych.families.modern import TwoPassTextConfig
    >>> from diptych.families.modern.two_pass import TwoPassTextTower
    >>> config = TwoPassTextConfig(
    ...     vocab_size=10, width=8, layers=1, heads=2, mlp_width=16, start_id=8, end_id=9, pad_id=0
    ... )
    >>> tower = TwoPassTextTower(config, embed_dim=8)
    >>> tower.init()
    >>> ids = torch.tensor([[8, 3, 9]])
    >>> tower(ids).pooled.shape, tower(ids, "normed", readers=[None]).tokens.shape
    (torch.Size([1, 8]), torch.Size([1, 3, 8]))
    """

    config: TwoPassTextConfig

    def forward(
        self,
        x: Int[Tensor, "batch length"],
        tokens: TokenKind = "raw",
        readers: Sequence[Reader | None] | None = None,
    ) -> TowerOutput:
        """See `ModernTextTower.forward`. `readers`: in each block what reads a picture, or None;
        the vectors of such a pass mean nothing."""
        if readers is None:
            return super().forward(x, tokens)
        first = self.embed(x)
        states = run_blocks(self.blocks, first, self.turns(first), causal=True, beside=readers)
        return self.read_out(states, x, real_tokens(x, self.config.pad_id), tokens)

    def word_logits(
        self, states: Float[Tensor, "*places width"]
    ) -> Float[Tensor, "*places vocabulary"]:
        """Of each word, by its own vector in the table (Press & Wolf 2017, arXiv:1608.05859)."""
        return F.linear(states, self.tokens.weight)


class TwoPassReaders(TwoPassDecoder[TwoPassReadersConfig]):
    """Readers that stand within blocks of the text tower.

    >>> import torch
    >>> from diptych import pretrained
    >>> from diptych.models import build
    >>> model = build(pretrained.get("tiny-mammut-moderntext"))
    >>> read = model.read_pictures(torch.zeros(2, 3, 48, 48))
    >>> model.next_tokens(torch.tensor([[49406, 320], [49406, 518]]), read).shape
    torch.Size([2, 2, 49408])
    """

    text_kind = TwoPassTextConfig

    def __init__(self, config: TwoPassReadersConfig):
        options = BlockOptions.of(config)
        readers = nn.ModuleList(ModernReader(options) for _ in config.reader_layers)
        super().__init__(config, readers, config.tied)

    def init(self) -> None:
        """Fill every parameter, as open_clip does: readers by `nn.modern_init.init_modern_readers`,
        the matrices by `init_ends`."""
        c = self.config
        init_modern_readers(self._readers(), c.layers, c.width, c.sandwich, c.zero_residual)
        self.init_ends()

    def check_towers(self, image: Tower[Any], text: Tower[Any]) -> None:
        """See `TwoPassDecoder.check_towers`; where a matrix is shared, vocabularies are equal."""
        super().check_towers(image, text)
        own = self.config.vocab_size
        if self.config.tied and own != text.config.vocabulary:
            raise ConfigError(
                f"the decoder shares the words' table (tied), so its vocab_size {own} must be the "
                f"text tower's, {text.config.vocabulary}"
            )

    def head(self, text: Tower[Any]) -> Callable[[Tensor], Tensor]:
        """See `Decoder.head`."""
        if not self.config.tied:
            return self.logits
        assert isinstance(text, TwoPassTextTower)
        return text.word_logits

    def reader_flops(self, length: int, tokens: int) -> int:
        """See `TwoPassDecoder.reader_flops`."""
        width = self.config.width
        matrices = 4 * (length + tokens) * width**2 + 2 * length * width**2 * self.config.gated
        return matrices + 4 * length * tokens * width
