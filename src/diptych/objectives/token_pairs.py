"""Patches against words, token-wise late interaction: the part that FILIP and DeFILIP share."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.components import implementation
from diptych.config import TokenPairsConfig
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.models import Clip, TowerOutput
from diptych.objectives.base import Features
from diptych.objectives.contrastive import clamp_scale
from diptych.objectives.features import gather_with_gradient, unit
from diptych.objectives.late_interaction import token_similarity


class TokenPairs(nn.Module):
    """Which caption's words do this picture's patches find, and back (FILIP, Yao et al. 2021,
    arXiv:2111.07783, §3.1)?

    Owns the scale of the tokens' similarities. Raises ConfigError for a model without a
    `token_dim`.
    """

    def __init__(self, config: TokenPairsConfig, model: Clip):
        super().__init__()
        if model.image_tokens is None:
            raise ConfigError("comparing patches with words needs a model with a token_dim")
        model.train_tokens(True)
        self.config = config
        self.whole_length = not config.mask_padding or config.keep is None
        """Whether captions must be padded to the context: where the padding takes part, and where
        all words of everybody are gathered, who must have equally many."""
        self.read_at = model.config.text.read_at
        # CLIP's initial temperature, 0.07.
        self.logit_scale = nn.Parameter(torch.full((1,), math.log(1 / 0.07)))

    def features(
        self, model: Clip, picture: TowerOutput, caption: TowerOutput, ids: Int[Tensor, "n length"]
    ) -> Features:
        """Unit tokens of each pair, and which words are seen; the caption's tokens are behind the
        tower's final norm."""
        assert model.image_tokens is not None
        assert model.text_tokens is not None
        patches = picture.tokens[:, model.image.class_tokens :]
        words = model.text_tokens(caption.tokens)
        return {
            "patches": unit(model.image_tokens(patches)),
            "words": unit(words),
            "seen": self._seen(ids),
        }

    def _seen(self, ids: Int[Tensor, "n length"]) -> Bool[Tensor, "n length"]:
        if not self.config.mask_padding:
            return torch.ones_like(ids, dtype=torch.bool)
        # The end of text has the highest id of the vocabulary, unless the tower says its own;
        # padding stands behind it.
        rank = ids if self.read_at is None else (ids == self.read_at).int()
        ends = rank.argmax(dim=1, keepdim=True)
        return torch.arange(ids.shape[1], device=ids.device) <= ends

    def forward(
        self,
        patches: Float[Tensor, "n p width"],
        words: Float[Tensor, "n l width"],
        seen: Bool[Tensor, "n l"],
        peers: Peers,
    ) -> Float[Tensor, ""]:
        """The loss of the local pairs against everybody's."""
        some_patches, some_words, some_seen = self._representatives(patches, words, seen)
        scale, tile = self.logit_scale.exp(), self.config.tile
        # As bytes: not every backend gathers booleans.
        everyones_seen = peers.all_gather(some_seen.to(torch.uint8)).bool()
        # The similarity isn't symmetric (equation 5): the mean over patches of the nearest word,
        # and the mean over words of the nearest patch. So each direction has logits of its own, and
        # the loss isn't InfoNCE over one matrix and its transpose, but two cross-entropies.
        by_image = token_similarity(
            patches, gather_with_gradient(some_words, peers), keys_seen=everyones_seen, tile=tile
        )
        by_text = token_similarity(
            words, gather_with_gradient(some_patches, peers), queries_seen=seen, tile=tile
        )
        own = torch.arange(len(patches), device=patches.device) + peers.rank * len(patches)
        return (F.cross_entropy(scale * by_image, own) + F.cross_entropy(scale * by_text, own)) / 2

    def _representatives(
        self, patches: Tensor, words: Tensor, seen: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of each pair the patches and the words that stand for it among the others'."""
        keep = self.config.keep
        if keep is None:
            return patches, words, seen
        # They are chosen behind a stop-gradient; the chosen tokens themselves have gradients.
        with torch.no_grad():
            nearness = torch.einsum("npw,nlw->npl", patches, words).masked_fill(~seen[:, None], 0)
            best_patches = nearness.sum(dim=2).topk(min(keep, patches.shape[1])).indices
            by_word = nearness.sum(dim=1).masked_fill(~seen, -torch.inf)
            best_words = by_word.topk(min(keep, words.shape[1])).indices
        # Another process's captions may be longer: all bring `keep` words, if need be unseen ones.
        lack = keep - best_words.shape[1]
        some_words = F.pad(_pick(words, best_words), (0, 0, 0, lack))
        some_seen = F.pad(seen.gather(1, best_words), (0, lack))
        return _pick(patches, best_patches), some_words, some_seen

    def clamp(self) -> None:
        """Keep the scale within its limits."""
        clamp_scale(self.logit_scale, self.config.min_logit_scale, self.config.max_logit_scale)

    def before_step(self) -> None:
        """As `Objective.before_step`."""

    def after_step(self) -> None:
        """As `Objective.after_step`."""
        self.clamp()


def build_token_pairs(config: TokenPairsConfig, model: Clip) -> TokenPairs:
    """The part that `config` names, over `model`. Raises ConfigError if the model lacks a
    `token_dim`."""
    return implementation(config)(config, model)


def _pick(
    tokens: Float[Tensor, "n t width"], chosen: Int[Tensor, "n k"]
) -> Float[Tensor, "n k width"]:
    return tokens.gather(1, chosen[..., None].expand(-1, -1, tokens.shape[2]))
