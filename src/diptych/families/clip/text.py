"""CLIP's text transformer (Radford et al. 2019 and 2021, arXiv:2103.00020)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.batch import TextLengths
from diptych.errors import ConfigError
from diptych.families.clip import TextConfig
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.nn import word_table
from diptych.nn.block import block_flops, build_blocks, init_blocks
from diptych.nn.text_pieces import Pieces, cut, cut_by_length, join, pad, restored, split


class TextTransformer(Tower[TextConfig]):
    """Causal, pre-norm; the vector is read at the end-of-text token, which has the vocabulary's
    highest id, or that of the configuration.

    No token sees a later one, so what stands behind the end of text doesn't matter: a caption may
    be cut there, and the result is the same.

    >>> import torch
    >>> from diptych.families.clip import TextConfig
    >>> from diptych.families.clip.text import TextTransformer
    >>> config = TextConfig(
    ...     context_length=8, vocab_size=10, width=8, layers=1, heads=2, mlp_width=16
    ... )
    >>> tower = TextTransformer(config, embed_dim=6)
    >>> tower.init()
    >>> short, long = torch.tensor([[8, 3, 9]]), torch.tensor([[8, 3, 9, 0, 0]])
    >>> bool(torch.allclose(tower(short).pooled, tower(long).pooled, atol=1e-6))
    True
    """

    always_projects = False

    def __init__(self, config: TextConfig, embed_dim: int | None):
        super().__init__()
        self.config = config
        self.width = width = config.width
        self.positions = nn.Parameter(torch.empty(config.context_length, width))
        self.tokens = word_table(config.vocab_size, width)
        self.blocks = build_blocks(config, config.layer_scale)
        self.norm_post = nn.LayerNorm(width, config.norm_eps)
        bias = config.projection_bias
        self.projection = (
            nn.Identity() if embed_dim is None else nn.Linear(width, embed_dim, bias=bias)
        )

    def init(self) -> None:
        """Fill every parameter, by CLIP's table (arXiv:2103.00020, published code).

        | parameter          | value                     |
        | ------------------ | ------------------------- |
        | tokens.weight      | N(0, 0.02^2)              |
        | positions          | N(0, 0.01^2)              |
        | blocks             | see `init_blocks`         |
        | norm_post          | gain 1, bias 0            |
        | projection         | N(0, 1 / width), bias 0   |
        """
        # The tables' sizes are those of GPT-2's published code, from which this tower comes.
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)
        init_blocks(self.blocks, self.width)
        self.norm_post.reset_parameters()
        if isinstance(self.projection, nn.Linear):
            nn.init.normal_(self.projection.weight, std=self.width**-0.5)
            if self.config.projection_bias:
                nn.init.zeros_(self.projection.bias)

    def embed(self, ids: Int[Tensor, " tokens"], pieces: Pieces) -> Float[Tensor, "tokens width"]:
        """The first block's input."""
        # All words at once: each call would have a gradient as large as the vocabulary.
        parts = split(self.tokens(ids), pieces)
        return join([part + self.positions[: part.shape[1]] for part in parts])

    def forward(
        self,
        x: Int[Tensor, "batch length"],
        tokens: TokenKind = "raw",
        lengths: TextLengths | None = None,
    ) -> TowerOutput:
        """Ids, each row with one end of text and anything behind it, to tokens, feature and pooled
        vector. The feature is the end-of-text token behind the final norm. With "none", the last
        block computes that token only.

        Given `lengths`, rows are computed beside others of like length (`nn/text_pieces.py`), and
        come back in their order; what tokens are behind the end is then not said.
        """
        longest = x.shape[1]
        if longest > self.config.context_length:
            raise ConfigError(
                f"{longest} tokens; this tower takes at most {self.config.context_length}"
            )
        order, pieces = None, ((x.shape[0], longest),)
        if lengths is not None:
            # The device sorts as the host did, which only knows how many of each there are.
            order = lengths.device.argsort(descending=True, stable=True)
            x, pieces = x[order], cut_by_length(lengths.host, longest)
        parts = cut(x, pieces)
        ends, seen = _ends(parts, self.config.end_id)
        *blocks, last = self.blocks
        x = self.embed(join(parts), pieces)
        for block in blocks:
            x = block(x, causal=True, pieces=pieces)
        if tokens == "none":
            # One query a row, so causality is a mask over the keys: those up to the end of text.
            x = read = last(x, pick=(ends,), seen=seen, pieces=pieces)
        else:
            x = last(x, causal=True, pieces=pieces)
            read = x[ends]
        feature = self.norm_post(read)
        chosen = self._select(x, tokens, self.norm_post)
        if tokens != "none":
            chosen = restored(pad(split(chosen, pieces), longest), order)
        return TowerOutput(
            chosen, restored(feature, order), restored(self.projection(feature), order)
        )

    def flops(self) -> int:
        """Of `forward` for one caption of full length; a multiply-add counts two."""
        c = self.config
        blocks = c.layers * block_flops(c.context_length, c.width, c.mlp_width)
        if isinstance(self.projection, nn.Linear):
            blocks += 2 * self.projection.weight.numel()
        return blocks


def _ends(
    parts: list[Int[Tensor, "_ _"]], end_id: int | None
) -> tuple[Int[Tensor, " batch"], Bool[Tensor, " tokens"]]:
    """Index of every row's end of text among the tokens of all pieces; and which tokens of a row
    aren't behind it."""
    # Not list[Tensor](), which torch.compile can't follow.
    ends: list[Tensor] = []
    seen: list[Tensor] = []
    first = 0
    for part in parts:
        rows, length = part.shape
        # Of several equal ones argmax finds the first: padding may have the end's id, too.
        end = (part if end_id is None else (part == end_id).int()).argmax(dim=1)
        seen.append(torch.arange(length, device=part.device) <= end[:, None])
        ends.append(first + torch.arange(rows, device=part.device) * length + end)
        first += rows * length
    return torch.cat(ends), join(seen)
