"""Zero-shot token by token: for models whose patches and words were trained to meet (FILIP, Yao et
al. 2021, arXiv:2111.07783)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import normalize

from diptych.distributed import together
from diptych.encoder import Encoder, FeatureExtractor, prompts
from diptych.encoder.cache import digest
from diptych.errors import ConfigError
from diptych.evaluation.scores import Inputs, Scores, class_scores, labels_of
from diptych.evaluation.zero_shot import zero_shot
from diptych.models import Clip
from diptych.models.evaluating import evaluating
from diptych.objectives.late_interaction import token_similarity

_TEXTS = 256
"""Encoded at a time."""
_TILE = 2**24
"""Scores, or numbers of patches, that are on the device at a time: 64 MB of float32."""


@dataclass(frozen=True, kw_only=True)
class TokenExtractor(FeatureExtractor):
    """A model of which the patches' unit vectors are taken in place of the picture's one vector;
    the cache keeps them under another key."""

    @cached_property
    def key(self) -> str:
        """The digest of all that the patches' vectors depend on, but for the pictures."""
        return digest(
            "tokens", FeatureExtractor(encoder=self.encoder, preprocess=self.preprocess).key
        )

    def features(
        self, pixels: UInt8[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch patches width"]:
        """Unit vectors in float32. Raises ConfigError for a model without a `token_dim`, and where
        they aren't finite."""
        encoder = self.encoder
        with evaluating(encoder.model):
            normal = encoder.preprocess.normalise(pixels.to(encoder.device, non_blocking=True))
            dtype = next(encoder.model.image.parameters()).dtype
            found = picture_tokens(encoder.model, normal.to(dtype)).cpu()
        if not found.isfinite().all():
            raise ConfigError(
                f"{encoder.name} gives numbers that are not finite in {encoder.dtype}; "
                "try another dtype"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class TokenClasses:
    """What pictures are compared with: for each class one or several sets of word tokens."""

    words: Float[Tensor, "sets length width"]
    """The sets of the first class, then of the second, and so on."""
    seen: Bool[Tensor, "sets length"] | None
    """Which of them take part; None: all."""
    each: int
    """Sets of a class, whose scores are averaged."""

    def scores(
        self, patches: Float[Tensor, "images patches width"]
    ) -> Float[Tensor, "images classes"]:
        """mean over patches p of max over words w of <p, w> (FILIP's equation 5, from picture to
        text), and then the mean over a class's sets."""
        by_set = token_similarity(patches, self.words, keys_seen=self.seen)
        return by_set.unflatten(1, (-1, self.each)).mean(2)


def score_tokens(inputs: Inputs, *, mask_padding: bool = True) -> Scores:
    """Zero-shot classification with patches against words in place of whole vectors;
    `mask_padding`: see `token_classes`. Raises ConfigError for a model without a `token_dim`."""
    encoder, dataset = inputs.extractor.encoder, inputs.dataset
    names, templates = dataset.class_names, dataset.templates
    if dataset.class_prompts:
        raise ConfigError("token by token classes are asked by templates, not by prompts of each")
    # Every process encodes all prompts: a model whose weights are spread needs all of them to call.
    classes = together(
        inputs.peers, lambda: token_classes(encoder, names, templates, mask_padding=mask_padding)
    )
    return inputs.on_main(lambda: _score(inputs, classes, mask_padding))


def _score(inputs: Inputs, classes: TokenClasses, mask_padding: bool) -> Scores:
    labels = labels_of(inputs.pictures, inputs.dataset)
    scores = scores_in_tiles(classes, inputs.pictures.features)
    # With one axis for each class, "the nearest class vector" is the class of the highest score.
    found = zero_shot(scores, labels, torch.eye(scores.shape[1]))
    published = "mean of unit words at each position of the context, scaled to unit norm as a whole"
    protocol = {
        "by": "tokens" if mask_padding else "tokens-as-published",
        "compared": "patches with words: mean over patches of the nearest word",
        "templates": list(inputs.dataset.templates),
        "ensembling": "mean of the templates' scores, without padding"
        if mask_padding
        else published,
        "ties": "the earlier class wins",
    }
    return class_scores(found, labels, inputs.keys, inputs.dataset.class_names, protocol)


def scores_in_tiles(
    classes: TokenClasses, patches: Float[Tensor, "images patches width"]
) -> Float[Tensor, "images classes"]:
    """`classes.scores(patches)` where the words are, of so few pictures at a time that a device
    holds them; the result is on the CPU."""
    sets, numbers = len(classes.words), patches[0].numel()
    tiles = patches.split(max(1, _TILE // max(sets, numbers)))
    with torch.inference_mode():
        return torch.cat([classes.scores(tile.to(classes.words.device)).cpu() for tile in tiles])


def picture_tokens(
    model: Clip, pixels: Float[Tensor, "n 3 height width"]
) -> Float[Tensor, "n patches dim"]:
    """Unit vectors of the patches. Raises ConfigError for a model without a `token_dim`."""
    if model.image_tokens is None:
        raise ConfigError(_NO_TOKENS)
    return _unit(model.image_tokens(model.image(pixels).tokens[:, model.image.class_tokens :]))


def word_tokens(model: Clip, ids: Int[Tensor, "n length"]) -> Float[Tensor, "n length dim"]:
    """Unit vectors of the words, and of what stands behind the end of a text. Raises as
    `picture_tokens`."""
    if model.text_tokens is None:
        raise ConfigError(_NO_TOKENS)
    return _unit(model.text_tokens(model.text(ids, tokens="normed").tokens))


_NO_TOKENS = "zero-shot token by token needs a model with a token_dim: FILIP's, or DeFILIP's"


def token_classes(
    encoder: Encoder, names: Sequence[str], templates: Sequence[str], *, mask_padding: bool = True
) -> TokenClasses:
    """The classes of these names, as the templates say them.

    With `mask_padding`, as FILIP's paper has it, a class's score is the mean of its templates'
    scores, each by its own words. Without, as DeCLIP published it, every position of the context
    takes part: the unit vectors at each position are averaged over the templates, and a class's
    whole matrix is divided by its (Frobenius) norm.

    >>> from dataclasses import replace
    >>> from diptych import Encoder, models, pretrained
    >>> from diptych.evaluation import token_classes
    >>> encoder = Encoder(models.build(replace(pretrained.get("tiny"), token_dim=16)))
    >>> classes = token_classes(encoder, ["cat", "dog"], ["a {}.", "the {}."])
    >>> len(classes.words), classes.each
    (4, 2)
    """
    rows = [encoder.tokenizer.encode(prompt) for prompt in prompts(names, templates)]
    length = max(map(len, rows)) if mask_padding else encoder.tokenizer.context_length
    ids = encoder.tokenizer.pad(rows, length)
    with evaluating(encoder.model):
        parts = [word_tokens(encoder.model, part.to(encoder.device)) for part in ids.split(_TEXTS)]
        words = torch.cat(parts)
        if not mask_padding:
            means = words.unflatten(0, (len(names), -1)).mean(1)
            norms = means.flatten(1).norm(dim=1)
            return TokenClasses(words=means / norms[:, None, None], seen=None, each=1)
        ends = torch.tensor([[len(row)] for row in rows], device=words.device)
        seen = torch.arange(length, device=words.device) < ends
        return TokenClasses(words=words, seen=seen, each=len(templates))


def _unit(tokens: Tensor) -> Tensor:
    return normalize(tokens.to(torch.promote_types(tokens.dtype, torch.float32)), dim=-1)
