"""What a trained model is asked in a comparison."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diptych.batch import Sample
from diptych.config import DataConfig, Run
from diptych.data import Source, open_source
from diptych.datasets.own_names import join, places
from diptych.encoder import Encoder, class_vectors
from diptych.evaluation import evaluate, linear_probe, retrieval, zero_shot
from diptych.evaluation.names import short_names

PROBED = 5000
"""Training pictures that the linear probe sees at most."""
SEEN = 1000
"""Training pairs by which is told what was learned by heart, at most."""


@dataclass(frozen=True, kw_only=True)
class Measures:
    """The data of each figure; None, and empty: it isn't measured."""

    labelled: tuple[tuple[str, DataConfig], ...] = ()
    """Figure -> labelled pictures: zero-shot top-1."""
    pairs: DataConfig | None = None
    """Pictures with captions: the mean of the six recalls."""
    probe: DataConfig | None = None
    """Labelled pictures that a linear classifier learns from, to be asked about the first
    `labelled`."""
    questions: DataConfig | None = None
    """Pictures whose notes (`Sample.meta`) have questions: how often the first of the sentences is
    the nearest."""


def measures_of(run: Run) -> Measures:
    """What the run itself measures on the way, of all pictures."""
    config = run.evaluation
    data = DataConfig(class_names=config.class_names, templates=config.templates)
    labelled = list[tuple[str, DataConfig]]()
    for path, name in short_names(config.paths).items():
        figure = f"zero-shot {name}" if len(config.paths) > 1 else "zero-shot"
        labelled.append((figure, replace(data, path=path)))
    root = "" if "::" in run.data.image_root else run.data.image_root
    pairs = replace(
        run.data, path=config.pairs, source=None, weights=(), upsample=(), image_root=root
    )
    return Measures(labelled=tuple(labelled), pairs=pairs if config.pairs else None)


def measure(encoder: Encoder, run: Run, asked: Measures) -> dict[str, float]:
    """Figures in [0, 1] by name. Those of `seen` pairs are of what it was trained on: far above the
    others', they say that it learned by heart; as low, that it has learned too little."""
    found = dict[str, float]()
    for figure, data in asked.labelled:
        found[figure] = evaluate(encoder, "zero-shot", data).metrics["top1"]
    if asked.pairs:
        found["retrieval"] = evaluate(encoder, "retrieval", asked.pairs).metrics["mean_recall"]
    if asked.probe:
        [(_, test), *_] = asked.labelled
        found["linear probe"] = _probe(encoder, open_source(asked.probe), open_source(test))
    if asked.questions:
        notes = open_source(asked.questions)
        found |= answers(encoder, [notes[i] for i in range(len(notes))])
    source = open_source(run.data, split="train")
    if asked.pairs:
        # As many pairs as are held out: a recall depends on how many there are to choose from.
        pool = min(SEEN, len(open_source(asked.pairs)))
        if len(source) >= pool:
            found["retrieval, seen"] = _recall(encoder, _spread(source, pool))
    elif source.class_names:
        found["zero-shot, seen"] = _top1(encoder, run, source)
    return found


def _spread(source: Source, most: int) -> list[Sample]:
    """At most `most`, evenly taken: the samples of a folder or shard may be sorted by class."""
    count = min(most, len(source))
    return [source[i * len(source) // count] for i in range(count)]


def _probe(encoder: Encoder, taught: Source, test: Source) -> float:
    """What a linear classifier that learned from one source has right of the other, whose classes
    are the same by name: one of them may lack some."""
    united = join({"train": taught.class_names, "test": test.class_names})
    learned, asked = (_labelled(encoder, source, united) for source in (taught, test))
    return linear_probe(*learned, *asked)


def _labelled(
    encoder: Encoder, source: Source, united: Sequence[str]
) -> tuple[Float[Tensor, "n width"], Int[Tensor, " n"]]:
    """Vectors of at most `PROBED` pictures, and labels: places in `united`, where the source names
    its classes."""
    samples = _spread(source, PROBED)
    labels = torch.tensor([sample.label for sample in samples])
    if source.class_names:
        labels = torch.tensor(places(source.class_names, united))[labels]
    return _vectors(encoder, samples), labels


def _vectors(encoder: Encoder, samples: Sequence[Sample]) -> Float[Tensor, "n width"]:
    return encoder.embed_images([sample.image for sample in samples], batch_size=128)


def _recall(encoder: Encoder, samples: Sequence[Sample]) -> float:
    texts, owners = list[str](), list[int]()
    for place, sample in enumerate(samples):
        texts += sample.captions
        owners += [place] * len(sample.captions)
    vectors = encoder.embed_texts(texts)
    return retrieval(_vectors(encoder, samples), vectors, torch.tensor(owners)).mean_recall


def _top1(encoder: Encoder, run: Run, source: Source) -> float:
    samples = _spread(source, SEEN)
    templates = run.evaluation.templates
    classes = class_vectors(encoder.embed_texts, source.class_names, templates)
    labels = torch.tensor([sample.label for sample in samples])
    return zero_shot(_vectors(encoder, samples), labels, classes).top1


def answers(encoder: Encoder, samples: Sequence[Sample]) -> dict[str, float]:
    """By the kind of a question, the share of pictures that are nearer to its first sentence than
    to all others; ties are wrong."""
    vectors = _vectors(encoder, samples)
    texts, pictures, kinds = list[list[str]](), list[int](), list[str]()
    for place, sample in enumerate(samples):
        notes = cast(dict[str, Any], sample.meta or {})
        for kind, sentences in notes.get("questions", {}).items():
            texts.append(sentences)
            pictures.append(place)
            kinds.append(kind)
    distinct = {text: row for row, text in enumerate(dict.fromkeys(sum(texts, list[str]())))}
    encoded, right = encoder.embed_texts(list(distinct)), dict[str, list[bool]]()
    for kind, place, sentences in zip(kinds, pictures, texts):
        rows = [distinct[text] for text in sentences]
        first, *others = (encoded[rows] @ vectors[place]).tolist()
        right.setdefault(kind, []).append(first > max(others))
    return {kind: sum(each) / len(each) for kind, each in right.items()}
