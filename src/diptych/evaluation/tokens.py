"""Zero-shot token by token: for models whose patches and words were trained to meet (FILIP, Yao et
al. 2021, arXiv:2111.07783)."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import normalize

from diptych.batch import Sample
from diptych.config import DataConfig
from diptych.config.serialize import to_dict
from diptych.data import BadSample, Source, class_names_of, open_source
from diptych.datasets.templates import templates as templates_of
from diptych.encoder import Encoder, extract
from diptych.encoder.encoder import evaluating
from diptych.errors import ConfigError, DataError
from diptych.evaluation.result import Result
from diptych.evaluation.score import classified
from diptych.evaluation.zero_shot import zero_shot
from diptych.models import Clip
from diptych.objectives.late import token_similarity

_TEXTS = 256
"""Encoded at a time."""
_LISTED = 20
"""Unreadable samples that a result names one by one."""


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
        """mean over patches p of max over words w of <p, w>, and then the mean over a class's
        sets."""
        return (
            token_similarity(patches, self.words, keys_seen=self.seen)
            .unflatten(1, (-1, self.each))
            .mean(2)
        )


def picture_tokens(
    model: Clip, pixels: Float[Tensor, "n 3 height width"]
) -> Float[Tensor, "n patches dim"]:
    """Unit vectors of the patches. Raises ConfigError for a model without a `token_dim`."""
    if model.image_tokens is None:
        raise ConfigError(
            "zero-shot token by token needs a model with a token_dim: FILIP's, or DeFILIP's"
        )
    return _unit(model.image_tokens(model.image(pixels).tokens[:, model.image.class_tokens :]))


def word_tokens(model: Clip, ids: Int[Tensor, "n length"]) -> Float[Tensor, "n length dim"]:
    """Unit vectors of the words, and of what stands behind the end of a text. Raises as
    `picture_tokens`."""
    if model.text_tokens is None:
        raise ConfigError(
            "zero-shot token by token needs a model with a token_dim: FILIP's, or DeFILIP's"
        )
    return _unit(model.text_tokens(model.text.normed(model.text(ids).tokens)))


def token_classes(
    encoder: Encoder, names: Sequence[str], templates: Sequence[str], *, mask_padding: bool = True
) -> TokenClasses:
    """The classes of these names, as the templates say them.

    With `mask_padding`, as FILIP's paper has it, a class's score is the mean of its templates'
    scores, each by its own words. Without, as DeCLIP published it, every position of the context
    takes part: the unit vectors at each position are averaged over the templates, and a class's
    whole matrix is divided by its (Frobenius) norm."""
    prompts = [template.replace("{}", name) for name in names for template in templates]
    rows = [encoder.tokenizer.encode(prompt) for prompt in prompts]
    length = max(map(len, rows)) if mask_padding else encoder.tokenizer.context_length
    ids = encoder.tokenizer.pad(rows, length)
    with evaluating(encoder.model):
        words = torch.cat(
            [word_tokens(encoder.model, part.to(encoder.device)) for part in ids.split(_TEXTS)]
        )
        if not mask_padding:
            means = words.unflatten(0, (len(names), -1)).mean(1)
            return TokenClasses(
                words=means / means.flatten(1).norm(dim=1)[:, None, None], seen=None, each=1
            )
        ends = torch.tensor([[len(row)] for row in rows], device=words.device)
        seen = torch.arange(length, device=words.device) < ends
        return TokenClasses(words=words, seen=seen, each=len(templates))


def evaluate_tokens(
    encoder: Encoder,
    data: DataConfig | str | os.PathLike[str],
    *,
    class_names: Sequence[str] = (),
    templates: str | Sequence[str] = (),
    mask_padding: bool = True,
    batch_size: int = 32,
    limit: int = 0,
) -> Result:
    """`evaluate(encoder, "zero-shot", data)` with patches against words in place of whole vectors;
    `mask_padding`: see `token_classes`. Alone, not under torchrun. Raises as `evaluate`, and
    ConfigError for a model without a `token_dim`.

    >>> from dataclasses import replace
    >>> from diptych import Encoder, models, zoo
    >>> from diptych.evaluation import evaluate_tokens
    >>> encoder = Encoder(models.build(replace(zoo.get("tiny"), token_dim=16)))
    >>> evaluate_tokens(encoder, "synthetic:8").data["used"]
    8
    """
    config = data if isinstance(data, DataConfig) else DataConfig(path=os.fspath(data))
    source = open_source(config, captions=False)
    names = tuple(class_names) or class_names_of(source)
    prompts = templates_of(templates) if templates else config.templates
    classes = token_classes(encoder, names, prompts, mask_padding=mask_padding)
    count, bad = min(limit, len(source)) if limit else len(source), list[BadSample]()
    batches = extract(
        _labelled(source, count, bad),
        lambda item: encoder.preprocess.pixels(item[1].image),
        lambda pixels: _scores(encoder, classes, torch.stack(pixels)),
        batch_size=batch_size,
        threads=min(8, os.cpu_count() or 1),
        unreadable=lambda item, error: bad.append(BadSample(*source.where(item[0]), str(error))),
    )
    parts = [([sample for _, sample in used], scores) for used, scores in batches]
    if not parts or len(bad) > config.max_bad_share * count:
        first = "/".join(bad[0]) if bad else "there are none"
        raise DataError(f"{len(bad)} of {count} samples can't be used; the first one is {first}")
    samples = [sample for some, _ in parts for sample in some]
    labels = torch.tensor([sample.label for sample in samples])
    if int(labels.max()) >= len(names):
        raise ConfigError(
            f"the data has a class {int(labels.max())}, but there are only {len(names)} class names"
        )
    found = zero_shot(torch.cat([scores for _, scores in parts]), labels, torch.eye(len(names)))
    protocol = _protocol(encoder, prompts, mask_padding)
    findings = classified(found, labels, [sample.key for sample in samples], names, protocol)
    listed = [sample._asdict() for sample in bad[:_LISTED]]
    return Result(
        task="zero-shot",
        metrics=findings.metrics,
        protocol=findings.protocol,
        data={"path": config.path, "description": source.describe(), "samples": count}
        | {"used": len(labels), "unusable": len(bad), "unusable_samples": listed},
        model=asdict(encoder.identity) | {"provenance": encoder.provenance},
        class_names=findings.class_names,
        per_class=findings.per_class,
        confusion=findings.confusion,
        intervals=findings.reported,
        outcomes=findings.outcomes,
    )


def _labelled(source: Source, count: int, bad: list[BadSample]) -> Iterator[tuple[int, Sample]]:
    """The first `count` samples that have a label; the others are noted in `bad`."""
    for index in range(count):
        try:
            sample = source[index]
            if sample.label is None:
                raise DataError("it has no class label")
            yield index, sample
        except (DataError, OSError) as error:
            bad.append(BadSample(*source.where(index), str(error)))


def _scores(
    encoder: Encoder, classes: TokenClasses, pixels: UInt8[Tensor, "batch 3 size size"]
) -> Float[Tensor, "batch classes"]:
    with evaluating(encoder.model):
        normal = encoder.preprocess.normalise(pixels.to(encoder.device, non_blocking=True))
        dtype = next(encoder.model.image.parameters()).dtype
        return classes.scores(picture_tokens(encoder.model, normal.to(dtype))).cpu()


def _protocol(encoder: Encoder, prompts: Sequence[str], mask_padding: bool) -> dict[str, Any]:
    published = "mean of unit words at each position of the context, scaled to unit norm as a whole"
    return {
        "compared": "patches with words: mean over patches of the nearest word",
        "templates": list(prompts),
        "ensembling": "mean of the templates' scores, without padding"
        if mask_padding
        else published,
        "ties": "the earlier class wins",
        "image_size": encoder.config.image.image_size,
        "preprocess": to_dict(encoder.config.preprocess),
    }


def _unit(tokens: Tensor) -> Tensor:
    return normalize(tokens.to(torch.promote_types(tokens.dtype, torch.float32)), dim=-1)
