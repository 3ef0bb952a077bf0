"""CoCa's text tower (Yu et al. 2022, arXiv:2205.01917), as open_clip has it."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.errors import ConfigError
from diptych.families.coca.config import CocaTextConfig
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.nn import word_table
from diptych.nn.block import block_flops, build_blocks, init_blocks


class CocaTextTower(Tower[CocaTextConfig]):
    """Causal, pre-norm; a class token behind the text reads it.

    The tokens are the text's, without the class token: what the decoder goes on from. They see
    what is before them alone, so a text may be padded to any length.

    >>> import torch
    >>> from diptych.families.coca import CocaTextConfig
    >>> from diptych.families.coca.text import CocaTextTower
    >>> config = CocaTextConfig(
    ...     context_length=8, vocab_size=10, width=8, layers=1, heads=2, mlp_width=16
    ... )
    >>> tower = CocaTextTower(config, embed_dim=6)
    >>> tower.init()
    >>> short, long = torch.tensor([[8, 3, 9]]), torch.tensor([[8, 3, 9, 0, 0]])
    >>> bool(torch.allclose(tower(short).pooled, tower(long).pooled, atol=1e-6))
    True
    """

    def __init__(self, config: CocaTextConfig, embed_dim: int):
        super().__init__()
        self.config = config
        self.width = width = config.width
        self.class_token = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(config.context_length + 1, width))
        self.tokens = word_table(config.vocab_size, width)
        self.blocks = build_blocks(config)
        self.norm_post = nn.LayerNorm(width, config.norm_eps)
        self.projection = nn.Linear(width, embed_dim, bias=False)

    def init(self) -> None:
        """Fill every parameter, as open_clip does.

        | parameter              | value             |
        | ---------------------- | ----------------- |
        | tokens.weight          | N(0, 0.02^2)      |
        | class_token, positions | N(0, 0.01^2)      |
        | blocks                 | see `init_blocks` |
        | norm_post              | gain 1, bias 0    |
        | projection.weight      | N(0, 1 / width)   |
        """
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.class_token, std=0.01)
        nn.init.normal_(self.positions, std=0.01)
        init_blocks(self.blocks, self.width)
        self.norm_post.reset_parameters()
        nn.init.normal_(self.projection.weight, std=self.width**-0.5)

    def forward(self, x: Int[Tensor, "batch length"], tokens: TokenKind = "raw") -> TowerOutput:
        """Ids, padded with `config.pad_id`, to tokens, feature and pooled vector. The feature is
        the class token behind the final norm. With "none", the last block computes that token
        only."""
        if x.shape[1] > self.config.context_length:
            raise ConfigError(
                f"{x.shape[1]} tokens; this tower takes at most {self.config.context_length}"
            )
        length = x.shape[1]
        if length < self.config.context_length and not self.config.exact_padding:
            # The class token sees the first padding, so there must be one; see `_seen`.
            x = F.pad(x, (0, 1), value=self.config.pad_id)
        states, seen = self.embed(x), self._seen(x)
        *blocks, last = self.blocks
        for block in blocks:
            states = block(states, mask=seen)
        if tokens == "none":
            states = read = last(states, pick=(slice(None), -1), seen=seen[:, -1])
        else:
            states = last(states, mask=seen)
            states, read = states[:, :length], states[:, -1]
        feature = self.norm_post(read)
        chosen = self._select(states, tokens, self.norm_post)
        return TowerOutput(chosen, feature, self.projection(feature))

    def embed(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch tokens width"]:
        """The first block's input: the text, then the class token, whose place is behind the
        context however short the text is."""
        words = self.tokens(ids) + self.positions[: ids.shape[1]]
        last = (self.class_token + self.positions[-1]).to(words.dtype)
        return torch.cat([words, last.expand(ids.shape[0], 1, -1)], dim=1)

    def _seen(self, ids: Int[Tensor, "batch length"]) -> Bool[Tensor, "batch tokens tokens"]:
        """Which tokens (last) each of them sees: itself and those before it, without padding.

        The published models were trained with the mask of padding one place too far to the right,
        as if the class token stood before the text. So the class token sees the first padding too,
        and itself only where a text fills the context. With `exact_padding` it stands behind the
        text here, too, and padding sees itself, so that no row is empty.
        """
        exact = self.config.exact_padding
        real = F.pad(ids != self.config.pad_id, (0, 1) if exact else (1, 0), value=True)
        count = real.shape[1]
        causal = torch.ones(count, count, dtype=torch.bool, device=ids.device).tril()
        seen = causal & real[:, None]
        return seen | torch.eye(count, dtype=torch.bool, device=ids.device) if exact else seen

    def flops(self) -> int:
        """Of `forward` for one caption of full length; a multiply-add counts two."""
        c = self.config
        blocks = c.layers * block_flops(c.context_length + 1, c.width, c.mlp_width)
        return blocks + 2 * self.projection.weight.numel()
