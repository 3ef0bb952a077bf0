"""One task on one or several models: from open datasets to results. Whatever is evaluated goes
through here."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from diptych.config.alone import need
from diptych.config.serialize import to_dict
from diptych.data import BadSample
from diptych.data.bad import too_many
from diptych.data.wordnet import refuse_ids
from diptych.datasets import Dataset
from diptych.distributed import Peers
from diptych.encoder import Cache, Encoder, FeatureExtractor, ImageFeatures, extract_features
from diptych.encoder.cache import digest
from diptych.encoder.features import source_version
from diptych.encoder.texts import reading
from diptych.errors import ConfigError, DataError, DataWarning, UnknownNameError
from diptych.evaluation.linear import LinearProbe
from diptych.evaluation.predictions import Predictions, name_of, thumbnails
from diptych.evaluation.result import Result
from diptych.evaluation.scorers import scorer
from diptych.evaluation.scores import Inputs
from diptych.evaluation.seen import with_maps
from diptych.evaluation.tasks import TRAINED, Task
from diptych.evaluation.tokens import TokenExtractor
from diptych.inputs import Preprocess
from diptych.inputs.truncation import Truncated, find_truncated, warn_if_truncated

RESIZES = {"crop": "shortest", "squash": "squash", "pad": "longest", "native": "native"}
"""How a picture becomes a square, by the names that the field uses, and what
`PreprocessConfig.resize` calls it."""
_LISTED = 20
"""Bad samples that a result names one by one."""
_MISTAKES = 12
"""Wrong predictions that a result shows."""
_SCHEMA = 2
"""Rises when the same request would give other figures."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What all tasks of one evaluation share."""

    by: str = "vectors"
    """What is compared: whole vectors, or `tokens` (see `scorers.SCORERS`)."""
    shots: tuple[int, ...] = ()
    """Training samples a class, of few-shot tasks; empty: the usual ones, as far as there are so
    many."""
    cache: Cache = field(default_factory=Cache)
    batch_size: int = 64
    limit: int = 0
    """Use the first so many samples of each split; 0: all."""
    progress: bool = False
    peers: Peers = field(default_factory=Peers)
    maps: bool = False
    """Keep heat maps of zero-shot's surest mistakes."""
    probes: dict[str, LinearProbe] = field(default_factory=dict, repr=False)
    """Classifiers that were trained, by all that they depend on."""

    def extractors(
        self, encoder: Encoder, resizes: Sequence[str] = ()
    ) -> dict[str, FeatureExtractor]:
        """How the model is shown pictures, by name: `crop`, `squash` or `pad`; none: as it was
        trained. One for pictures of their own aspect (NaFlex) is shown them as they are: `native`.

        >>> from diptych import Encoder, models, pretrained
        >>> from diptych.evaluation.engine import Engine
        >>> encoder = Encoder(models.build(pretrained.get("tiny")))
        >>> list(Engine().extractors(encoder, ("crop", "squash")))
        ['crop', 'squash']
        """
        check_resizes(resizes)
        if encoder.config.image.native:
            if squares := ", ".join(name for name in resizes if name != "native"):
                warnings.warn(
                    f"{encoder.name} is shown pictures in their own aspect: it takes no squares, "
                    f"so resize {squares} isn't done",
                    DataWarning,
                    stacklevel=2,
                )
            resizes = ()
        elif "native" in resizes:
            raise ConfigError(f"{encoder.name} takes squares: resize can't be 'native'")
        kind = FeatureExtractor if self.by == "vectors" else TokenExtractor
        return {
            name: kind(encoder=encoder, preprocess=_resized(encoder, name))
            for name in resizes or (_resize_name(encoder.preprocess),)
        }

    def key(self, task: Task, splits: Mapping[str, Dataset], extractor: FeatureExtractor) -> str:
        """A digest of everything that the result depends on: model, preprocessing, files, prompts,
        procedure."""
        states = {
            use: (self._files(dataset), dataset.prompts_sha256, dataset.metric, *dataset.reading)
            for use, dataset in splits.items()
        }
        kinds = [dataset.kind for dataset in splits.values()]
        procedure: tuple[object, ...] = () if self.by == "vectors" else (self.by,)
        if task.kind == "fewshot" and self.shots:
            procedure = (*procedure, self.shots)
        if task.kind not in TRAINED:
            procedure = (*procedure, reading(extractor.encoder.tokenizer))
        return digest(_SCHEMA, task.kind, kinds, states, extractor.key, *procedure)

    def measure(
        self, task: Task, splits: Mapping[str, Dataset], extractors: Sequence[FeatureExtractor]
    ) -> list[Result]:
        """A result for each extractor; every picture is decoded once for all of them. All processes
        call it alike.

        Raises DiptychError, or what torch raises, if anything is wrong with the data or a model.
        """
        test = splits["test"]
        # What is missing is said before the long work.
        scorer(task.kind if task.kind in TRAINED else test.kind, self.by)
        for extractor in extractors:
            need(extractor.encoder.config, "image", extractor.encoder.name)
        if task.kind not in TRAINED:
            for extractor in extractors:
                need(extractor.encoder.config, "text", extractor.encoder.name)
            refuse_ids(test.class_names, test.name)
        embedded = {use: self._embed(dataset, extractors) for use, dataset in splits.items()}
        results = list[Result]()
        for place, extractor in enumerate(extractors):
            pictures = {use: found[place] for use, found in embedded.items()}
            results.append(self._score(task, splits, extractor, pictures))
        return results

    def _files(self, dataset: Dataset) -> str:
        return source_version(dataset.source, self._count(dataset), dataset.shown)

    def _count(self, dataset: Dataset) -> int:
        return min(self.limit, len(dataset.source)) if self.limit else len(dataset.source)

    def _embed(
        self, dataset: Dataset, extractors: Sequence[FeatureExtractor]
    ) -> list[ImageFeatures]:
        found = extract_features(
            extractors,
            dataset.source,
            fields=dataset.fields,
            saying=digest(dataset.class_names, dataset.profile, *dataset.reading),
            shown=dataset.shown,
            limit=self.limit,
            cache=self.cache,
            batch_size=max(1, self.batch_size // dataset.frames),
            progress=self.progress,
            peers=self.peers,
        )
        return [_good(dataset, pictures, self._count(dataset)) for pictures in found]

    def _score(
        self,
        task: Task,
        splits: Mapping[str, Dataset],
        extractor: FeatureExtractor,
        pictures: Mapping[str, ImageFeatures],
    ) -> Result:
        test = splits["test"]
        kind = task.kind if task.kind in TRAINED else test.kind
        trained = {use: self._files(dataset) for use, dataset in splits.items() if use != "test"}
        inputs = Inputs(
            dataset=test,
            splits=pictures,
            extractor=extractor,
            cache=self.cache,
            peers=self.peers,
            progress=self.progress,
            probes=self.probes,
            probe_key=digest(extractor.key, trained),
            shots=self.shots,
        )
        scores = scorer(kind, self.by)(inputs)
        truncated = self._truncated(inputs) if task.kind not in TRAINED else None
        predictions = scores.predictions
        return Result(
            task=kind,
            metrics=scores.metrics,
            protocol=_protocol(test, extractor) | scores.protocol,
            data=_about(splits, [*scores.remarks, *([str(truncated)] if truncated else ())])
            | {"name": test.name, "split": test.split, "description": test.source.describe()}
            | {"samples": self._count(test)}
            | _describe(pictures["test"]),
            model=asdict(extractor.encoder.identity) | {"provenance": extractor.encoder.provenance},
            class_names=scores.class_names,
            per_class=scores.per_class,
            confusion=scores.confusion,
            intervals=scores.reported_intervals,
            per_sample=scores.per_sample,
            calibration=predictions.calibration() if predictions else {},
            mistakes=self._mistakes(kind, inputs, scores.class_names, predictions)
            if predictions
            else (),
            predictions=predictions.of_samples(
                [name_of(test.source, row) for row in pictures["test"].rows.tolist()],
                scores.class_names,
            )
            if predictions
            else None,
            key=self.key(task, splits, extractor),
        )

    def _mistakes(
        self, kind: str, inputs: Inputs, names: Sequence[str], predictions: Predictions
    ) -> tuple[dict[str, Any], ...]:
        """The wrong predictions that the model was most confident of, with small pictures."""
        source, places = inputs.dataset.source, predictions.most_confident_errors(_MISTAKES)
        rows: list[int] = inputs.pictures.rows[places].tolist()
        found = [
            {
                "key": name_of(source, row),
                "true": names[int(predictions.labels[place])],
                "taken_for": names[int(predictions.predicted[place])],
                "confidence": float(predictions.confidence[place]),
                "jpeg": jpeg,
            }
            for place, row, jpeg in zip(places, rows, thumbnails(source, rows))
        ]
        if self.maps and kind not in TRAINED:
            return with_maps(found, rows, inputs.dataset, inputs.extractor)
        return tuple(found)

    def _truncated(self, inputs: Inputs) -> Truncated | None:
        """The texts of which the model sees the beginning alone; said aloud once for a dataset."""
        found = find_truncated(inputs.extractor.encoder.tokenizer, inputs.texts)
        if self.peers.is_main:
            warn_if_truncated(found)
        return found


def _about(splits: Mapping[str, Dataset], remarks: Sequence[str]) -> dict[str, Any]:
    """What is known of the test split, with the remarks on all splits, each once."""
    about = dict(splits["test"].about)
    every = dict.fromkeys(about["remarks"])
    for dataset in splits.values():
        every |= dict.fromkeys(dataset.remarks)
    return about | {"remarks": list(every | dict.fromkeys(remarks))}


def check_resizes(resizes: Sequence[str]) -> None:
    """Raises UnknownNameError for a way to resize that nobody knows."""
    for name in resizes:
        if name not in RESIZES:
            raise UnknownNameError("resize", name, RESIZES)


def _resize_name(preprocess: Preprocess) -> str:
    return next(name for name, kind in RESIZES.items() if kind == preprocess.config.resize)


def _resized(encoder: Encoder, name: str) -> Preprocess:
    preprocess = encoder.preprocess
    if preprocess.config.resize == RESIZES[name]:
        return preprocess
    return replace(preprocess, config=replace(preprocess.config, resize=RESIZES[name]))


def _good(dataset: Dataset, pictures: ImageFeatures, count: int) -> ImageFeatures:
    """Those whose samples say what the task needs. DataError if too many of the `count` samples are
    bad."""
    kept = [place for place, each in enumerate(pictures.samples) if dataset.labelled(each)]
    lacking = sorted(set(range(len(pictures.samples))) - set(kept))
    what = "class label" if "label" in dataset.fields else " or ".join(dataset.fields)
    bad = [*pictures.bad]
    for place in lacking:
        where = dataset.source.where(int(pictures.rows[place]))
        bad.append(BadSample(*where, f"it has no {what}"))
    if len(bad) == count or too_many(len(bad), count, dataset.max_bad_share):
        first = f"{bad[0].file} {bad[0].key}: {bad[0].reason}" if bad else "there are none"
        raise DataError(
            f"{len(bad)} of {count} samples can't be used, more than the share of "
            f"{dataset.max_bad_share:g} that is allowed (--max-bad-share); the first one is {first}"
        )
    if not lacking:
        return pictures
    samples = [pictures.samples[place] for place in kept]
    return ImageFeatures(
        rows=pictures.rows[kept], samples=samples, features=pictures.features[kept], bad=bad
    )


def _describe(pictures: ImageFeatures) -> dict[str, Any]:
    # "unusable" are the bad samples: result files have said so from the beginning.
    listed = [bad._asdict() for bad in pictures.bad[:_LISTED]]
    return {
        "used": len(pictures.samples),
        "unusable": len(pictures.bad),
        "unusable_samples": listed,
    }


def _protocol(dataset: Dataset, extractor: FeatureExtractor) -> dict[str, Any]:
    return {
        "profile": dataset.profile,
        "metric": dataset.metric,
        "prompts_sha256": dataset.prompts_sha256,
        "resize": _resize_name(extractor.preprocess),
        "image_size": extractor.preprocess.size,
        "preprocess": to_dict(extractor.preprocess.config),
    } | ({"frames": dataset.frames} if dataset.kind == "video" else {})
