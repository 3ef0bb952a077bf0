"""One set, one or several models, one task: from an open set to results. `evaluate` and the suite
are both this."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from diptych.config.serialize import to_dict
from diptych.data import BadSample
from diptych.datasets import Dataset
from diptych.distributed import Peers, on_main
from diptych.encoder import Cache, Encoder, Pictures, Texts, View, embed_pictures
from diptych.encoder.cache import digest
from diptych.encoder.pictures import fingerprint
from diptych.errors import DataError, UnknownNameError
from diptych.evaluation.answers import Answers, thumbnails
from diptych.evaluation.linear import LinearProbe
from diptych.evaluation.result import Result
from diptych.evaluation.score import score, score_few_shot, score_linear, text_vectors, train_linear

RESIZES = {"crop": "shortest", "squash": "squash", "pad": "longest"}
"""How a picture becomes a square, by the names that the field uses, and what
`PreprocessConfig.resize` calls it."""
_LISTED = 20
"""Unreadable samples that a result names one by one."""
_MISTAKES = 12
"""Wrong answers that a result shows."""
_SCHEMA = 1
"""Rises when the same request would give other figures."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is done with a set."""

    name: str
    """As it was asked for: `cifar10`, `linear/cifar100`, a path."""
    subjects: Mapping[str, Dataset]
    """The splits that it needs, by what they are for: `test`, and `train` and `val` where there is
    training."""
    kind: str = "direct"
    """`direct`: the set's own task. `linear`, `fewshot`: classifiers trained on the vectors."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What all tasks of one evaluation share."""

    cache: Cache = field(default_factory=Cache)
    batch_size: int = 64
    limit: int = 0
    """Use the first so many samples of each split; 0: all."""
    progress: bool = False
    peers: Peers = field(default_factory=Peers)
    classifiers: dict[str, LinearProbe] = field(default_factory=dict, repr=False)
    """Those that were trained, by all that they depend on."""

    def key(self, task: Task, view: View) -> str:
        """A digest of everything that the result depends on: model, preprocessing, files, prompts,
        procedure."""
        splits = {
            use: (
                fingerprint(subject.source, self._count(subject)),
                subject.prompts_sha256,
                subject.metric,
            )
            for use, subject in task.subjects.items()
        }
        kinds = [subject.kind for subject in task.subjects.values()]
        return digest(_SCHEMA, task.kind, kinds, splits, view.key)

    def measure(self, task: Task, views: Sequence[View]) -> list[Result]:
        """A result for each view; every picture is decoded once for all of them. All processes call
        it alike.

        Raises DiptychError, or what torch raises, if anything is wrong with the data or a model.
        """
        splits = {use: self._embed(subject, views) for use, subject in task.subjects.items()}
        results = []
        for place, view in enumerate(views):
            pictures = {use: found[place] for use, found in splits.items()}
            results.append(self._score(task, view, pictures))
        return results

    def _classifier(self, task: Task, view: View, pictures: Mapping[str, Pictures]) -> LinearProbe:
        """Trained once, whichever sets it is asked about: ImageNet's serves the sets that shift its
        pictures."""
        learned = {use: subject for use, subject in task.subjects.items() if use != "test"}
        splits = {
            use: fingerprint(subject.source, self._count(subject))
            for use, subject in learned.items()
        }
        key = digest(view.key, splits)
        if key not in self.classifiers:
            self.classifiers[key] = train_linear(pictures)
        return self.classifiers[key]

    def _count(self, subject: Dataset) -> int:
        return min(self.limit, len(subject.source)) if self.limit else len(subject.source)

    def _embed(self, subject: Dataset, views: Sequence[View]) -> list[Pictures]:
        found = embed_pictures(
            views,
            subject.source,
            fields=subject.fields,
            saying=digest(subject.class_names, subject.profile),
            limit=self.limit,
            cache=self.cache,
            batch_size=self.batch_size,
            progress=self.progress,
            peers=self.peers,
        )
        return [_usable(subject, pictures, self._count(subject)) for pictures in found]

    def _score(self, task: Task, view: View, pictures: Mapping[str, Pictures]) -> Result:
        test = task.subjects["test"]
        if task.kind == "direct":
            texts = Texts(view.encoder, self.cache, self.peers, progress=self.progress)
            words = text_vectors(test, pictures["test"], texts)
            scale = float(view.encoder.model.logit_scale.detach().float().cpu().exp())
            findings = on_main(self.peers, lambda: score(test, pictures["test"], words, scale))
        elif task.kind == "linear":
            findings = on_main(
                self.peers,
                lambda: score_linear(test, pictures, self._classifier(task, view, pictures)),
            )
        else:
            findings = on_main(self.peers, lambda: score_few_shot(pictures))
        return Result(
            task=test.kind if task.kind == "direct" else task.kind,
            metrics=findings.metrics,
            protocol=_protocol(test, view) | findings.protocol,
            data=dict(test.about)
            | {"name": test.name, "split": test.split, "description": test.source.describe()}
            | {"samples": self._count(test)}
            | _describe(pictures["test"]),
            model=asdict(view.encoder.identity) | {"provenance": view.encoder.provenance},
            class_names=findings.class_names,
            per_class=findings.per_class,
            confusion=findings.confusion,
            intervals=findings.reported,
            outcomes=findings.outcomes,
            calibration=findings.answers.calibration() if findings.answers else {},
            mistakes=_mistakes(test, pictures["test"], findings.answers)
            if findings.answers
            else (),
            key=self.key(task, view),
        )


def views_of(encoder: Encoder, resizes: Sequence[str] = ()) -> dict[str, View]:
    """How the model is shown pictures, by name: `crop`, `squash` or `pad`; none: as it was trained.

    >>> from diptych import Encoder, models, zoo
    >>> from diptych.evaluation.measure import views_of
    >>> encoder = Encoder(models.build(zoo.get("tiny")))
    >>> list(views_of(encoder)), list(views_of(encoder, ("crop", "squash")))
    (['crop'], ['crop', 'squash'])
    """
    own = next(name for name, kind in RESIZES.items() if kind == encoder.preprocess.config.resize)
    for name in resizes:
        if name not in RESIZES:
            raise UnknownNameError("resize", name, RESIZES)
    return {
        name: View(encoder=encoder, preprocess=_resized(encoder, name))
        for name in resizes or (own,)
    }


def _resized(encoder: Encoder, name: str):
    preprocess = encoder.preprocess
    if preprocess.config.resize == RESIZES[name]:
        return preprocess
    return replace(preprocess, config=replace(preprocess.config, resize=RESIZES[name]))


def _mistakes(subject: Dataset, pictures: Pictures, given: Answers) -> tuple[dict[str, Any], ...]:
    """The wrong answers that the model was surest of, with small pictures."""
    places = given.surest_mistakes(_MISTAKES)
    small = thumbnails(subject.source, pictures.rows[places].tolist())
    names = subject.class_names
    return tuple(
        {
            "key": pictures.samples[place].key,
            "true": names[int(given.labels[place])],
            "taken_for": names[int(given.predicted[place])],
            "confidence": float(given.confidence[place]),
            "jpeg": jpeg,
        }
        for place, jpeg in zip(places, small)
    )


def _usable(subject: Dataset, pictures: Pictures, count: int) -> Pictures:
    """Those whose samples say what the task needs. DataError if too many of the `count` samples
    can't be used."""
    kept = [place for place, sample in enumerate(pictures.samples) if subject.labelled(sample)]
    lacking = sorted(set(range(len(pictures.samples))) - set(kept))
    what = "class label" if "label" in subject.fields else " or ".join(subject.fields)
    bad = [*pictures.bad]
    bad += [
        BadSample(*subject.source.where(int(pictures.rows[place])), f"it has no {what}")
        for place in lacking
    ]
    if len(bad) == count or len(bad) > subject.max_bad_share * count:
        first = f"{bad[0].file} {bad[0].key}: {bad[0].reason}" if bad else "there are none"
        raise DataError(
            f"{len(bad)} of {count} samples can't be used, more than the share of "
            f"{subject.max_bad_share:g} that "
            f"data.max_bad_share allows; the first one is {first}"
        )
    if not lacking:
        return pictures
    samples = [pictures.samples[place] for place in kept]
    return Pictures(
        rows=pictures.rows[kept], samples=samples, features=pictures.features[kept], bad=bad
    )


def _describe(pictures: Pictures) -> dict[str, Any]:
    listed = [bad._asdict() for bad in pictures.bad[:_LISTED]]
    return {
        "used": len(pictures.samples),
        "unusable": len(pictures.bad),
        "unusable_samples": listed,
    }


def _protocol(subject: Dataset, view: View) -> dict[str, Any]:
    config = view.preprocess.config
    resize = next(name for name, kind in RESIZES.items() if kind == config.resize)
    return {
        "profile": subject.profile,
        "metric": subject.metric,
        "prompts_sha256": subject.prompts_sha256,
        "resize": resize,
        "image_size": view.preprocess.size,
        "preprocess": to_dict(config),
    }
