"""From a model and a labelled or captioned set to a Result."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from diptych.batch import Sample
from diptych.config import DataConfig
from diptych.config.serialize import to_dict
from diptych.data import BadSample, Source, class_names_of, open_source
from diptych.distributed import Peers
from diptych.encoder import Encoder, class_vectors
from diptych.errors import ConfigError, DataError, UnknownNameError
from diptych.evaluation.prompts import templates as templates_of
from diptych.evaluation.result import Result
from diptych.evaluation.retrieval import retrieval
from diptych.evaluation.zero_shot import zero_shot

Task = Literal["zero-shot", "retrieval"]
_LISTED = 20
"""Unreadable samples that a result names one by one."""


def evaluate(
    encoder: Encoder,
    task: Task | str,
    data: DataConfig | str | os.PathLike[str],
    *,
    class_names: str | os.PathLike[str] | Sequence[str] = (),
    templates: str | Sequence[str] = (),
    batch_size: int = 32,
    limit: int = 0,
    progress: bool = False,
    peers: Peers | None = None,
) -> Result:
    """Measure `encoder` on a folder of class folders, a table or shards.

    `zero-shot` needs labels and class names: `class_names` is a sequence, or a file with one a line; empty, the data's
    own. `templates` is a set's name ("simple", "openai-7"), one template or several; empty, the data's. `retrieval`
    needs captions; a picture may have several. `limit` uses the first so many samples; 0: all. With `peers` every
    process encodes its share of the pictures and all get the same result.

    Samples that can't be used are left out and listed in the result. Raises DataError if more than
    `data.max_bad_share` of them can't be, ConfigError or UnknownNameError for a request that doesn't fit.

    >>> import diptych
    >>> from diptych import models, zoo
    >>> encoder = diptych.Encoder(models.build(zoo.get("tiny")))
    >>> result = diptych.evaluate(encoder, "zero-shot", "synthetic:16")
    >>> result.data["used"], sorted(result.metrics)
    (16, ['mean_per_class', 'top1', 'top5'])
    """
    config = data if isinstance(data, DataConfig) else DataConfig(path=os.fspath(data))
    if templates:
        config = replace(config, templates=templates_of(templates))
    if isinstance(class_names, str | os.PathLike):
        config, class_names = replace(config, class_names=os.fspath(class_names)), ()
    if task not in get_args(Task):
        raise UnknownNameError("task", task, get_args(Task))
    source = open_source(config, captions=task == "retrieval")
    count = min(limit, len(source)) if limit else len(source)
    # Before the long work: what is missing is said at once.
    names = (tuple(class_names) or class_names_of(source)) if task == "zero-shot" else ()
    peers = peers or Peers()
    own = range(peers.rank, count, peers.size)
    parts = peers.gather_objects(_embed(encoder, source, own, task == "zero-shot", batch_size, progress))
    pictures = _join(parts, count, config.max_bad_share)
    if task == "zero-shot":
        findings = _zero_shot(encoder, pictures, names, config.templates, progress)
    else:
        findings = _retrieval(encoder, pictures, progress)
    return Result(
        task=task,
        metrics=findings.pop("metrics"),
        protocol=findings.pop("protocol") | _preprocessing(encoder),
        data={"path": config.path, "description": source.describe(), "samples": count} | pictures.describe(),
        model=asdict(encoder.identity) | {"provenance": encoder.provenance},
        **findings,
    )


@dataclass(frozen=True, kw_only=True)
class _Pictures:
    """The pictures of a set that could be used: their samples and vectors in order, and those that couldn't."""

    samples: list[Sample]
    vectors: Float[Tensor, "pictures width"]
    bad: list[BadSample]

    def describe(self) -> dict[str, Any]:
        """For the result."""
        listed = [bad._asdict() for bad in self.bad[:_LISTED]]
        return {"used": len(self.samples), "unusable": len(self.bad), "unusable_samples": listed}


def _embed(encoder: Encoder, source: Source, rows: range, labelled: bool, batch_size: int, progress: bool) -> _Pictures:
    """Decode and encode some samples, each once."""
    bad = list[BadSample]()

    def samples() -> Iterator[tuple[int, Sample]]:
        for index in rows:
            try:
                sample = source[index]
                if labelled and sample.label is None:
                    raise DataError("it has no class label")
                yield index, sample
            except (DataError, OSError) as error:
                bad.append(BadSample(*source.where(index), str(error)))

    batches = encoder.stream(
        samples(),
        read=lambda item: item[1].image,
        name=lambda item: "/".join(source.where(item[0])),
        batch_size=batch_size,
        total=len(rows),
        progress=progress,
        unreadable=lambda item, error: bad.append(BadSample(*source.where(item[0]), str(error))),
    )
    used, vectors = list[Sample](), [torch.zeros(0, encoder.width)]
    for items, part in batches:
        used += [replace(sample, image=b"") for _, sample in items]
        vectors.append(part)
    return _Pictures(samples=used, vectors=torch.cat(vectors), bad=bad)


def _join(parts: Sequence[_Pictures], count: int, max_bad_share: float) -> _Pictures:
    """Everybody's pictures; DataError if too many of the `count` samples couldn't be used."""
    bad = [sample for part in parts for sample in part.bad]
    if len(bad) == count or len(bad) > max_bad_share * count:
        first = f"{bad[0].file} {bad[0].key}: {bad[0].reason}" if bad else "there are none"
        raise DataError(
            f"{len(bad)} of {count} samples can't be used, more than the share of {max_bad_share:g} that "
            f"data.max_bad_share allows; the first one is {first}"
        )
    samples = [sample for part in parts for sample in part.samples]
    return _Pictures(samples=samples, vectors=torch.cat([part.vectors for part in parts]), bad=bad)


def _zero_shot(
    encoder: Encoder, pictures: _Pictures, names: Sequence[str], templates: Sequence[str], progress: bool
) -> dict[str, Any]:
    labels = torch.tensor([sample.label for sample in pictures.samples])
    if int(labels.max()) >= len(names):
        raise ConfigError(f"the data has a class {int(labels.max())}, but there are only {len(names)} class names")
    embed_texts = partial(encoder.embed_texts, progress=progress)
    score = zero_shot(pictures.vectors, labels, class_vectors(embed_texts, names, templates))
    return {
        "metrics": {"top1": score.top1, "top5": score.top5, "mean_per_class": score.mean_per_class},
        "protocol": {
            "templates": list(templates),
            "ensembling": "mean of unit text vectors, scaled to unit length",
            "ties": "the earlier class wins",
        },
        "class_names": tuple(names),
        "per_class": tuple(None if math.isnan(share) else share for share in score.per_class.tolist()),
        "confusion": tuple(map(tuple, score.confusion.tolist())),
    }


def _retrieval(encoder: Encoder, pictures: _Pictures, progress: bool) -> dict[str, Any]:
    captions = [sample.captions for sample in pictures.samples]
    owners = torch.tensor([i for i, texts in enumerate(captions) for _ in texts])
    score = retrieval(pictures.vectors, encoder.embed_texts(chain.from_iterable(captions), progress=progress), owners)
    metrics = {f"image_to_text_r{k}": share for k, share in score.image_to_text.items()}
    metrics |= {f"text_to_image_r{k}": share for k, share in score.text_to_image.items()}
    return {
        "metrics": metrics | {"mean_recall": score.mean_recall},
        "protocol": {"captions": len(owners), "ties": "stand before the right answer"},
    }


def _preprocessing(encoder: Encoder) -> dict[str, Any]:
    config = encoder.config
    return {"image_size": config.image.image_size, "preprocess": to_dict(config.preprocess)}
