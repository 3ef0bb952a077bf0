"""What the demo's model knows: zero-shot accuracy, relations, retrieval and searches over the test
pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diptych.batch import Sample
from diptych.config import DataConfig
from diptych.data import open_source, scenes
from diptych.encoder import Encoder, class_vectors
from diptych.evaluation import RetrievalResult, ZeroShotResult, retrieval, zero_shot
from diptych.families.tiny.digits import PROMPTS
from diptych.search import Index

TOP = 8
"""Pictures shown of each search."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """`accuracy[part]` has `digit`, `colour` and `both`, in [0, 1]."""

    accuracy: dict[str, dict[str, float]]
    digits: ZeroShotResult
    """Of the combinations that training never showed."""
    relation: float
    """How often the right one of four relations is nearest; chance is 1/4."""
    retrieval: RetrievalResult
    """Over all test pictures with their captions."""
    precision: float
    """Of the first `TOP` pictures for each of the 100 "a COLOUR DIGIT", the share that fits."""
    samples: dict[str, Sample]
    """Test pictures by their place, `SHARD.tar/KEY`."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One picture of a search."""

    sample: Sample
    score: float
    right: bool


@dataclass(frozen=True, kw_only=True)
class Search:
    """One search."""

    query: str
    hits: Sequence[Found]
    fitting: int
    """How many of all pictures fit."""


def measure(encoder: Encoder, folder: Path) -> Scores:
    """Embed every test picture once, and ask it everything."""
    samples = _read(folder)
    keys, kept = list(samples), list(samples.values())
    vectors = encoder.embed_images([sample.image for sample in kept], batch_size=128, progress=True)
    rows = {
        part: [i for i, key in enumerate(keys) if key.startswith(part)]
        for part in ("seen", "unseen", "pairs")
    }
    results = {
        part: _classify(encoder, vectors[rows[part]], [kept[i] for i in rows[part]])
        for part in ("seen", "unseen")
    }
    captions = encoder.embed_texts([sample.captions[0] for sample in kept])
    return Scores(
        accuracy={
            part: {name: result.top1 for name, result in found.items()}
            for part, found in results.items()
        },
        digits=results["unseen"]["digit"],
        relation=_relation(encoder, vectors[rows["pairs"]], [kept[i] for i in rows["pairs"]]),
        retrieval=retrieval(vectors, captions, torch.arange(len(kept))),
        precision=_precision(encoder, vectors, kept),
        samples=samples,
    )


def search(index: Index, samples: Mapping[str, Sample], queries: Sequence[str]) -> list[Search]:
    """The first pictures for each query, and whether they fit it."""

    def found(path: str) -> Sample:
        return samples["/".join(Path(path).with_suffix("").parts[-2:])]

    return [
        Search(
            query=query,
            hits=[
                Found(
                    sample=found(hit.path),
                    score=hit.score,
                    right=fits(query, attributes(found(hit.path))),
                )
                for hit in index.search(query, TOP)
            ],
            fitting=sum(fits(query, attributes(sample)) for sample in samples.values()),
        )
        for query in queries
    ]


def query_of(sample: Sample) -> str:
    """A plain sentence about two digits, such as "a blue three left of an orange two"."""
    scene = attributes(sample)
    one, two = (_name(digit) for digit in scene["digits"])
    return f"{one} {scenes.RELATIONS[scene['relation']][0]} {two}"


def attributes(sample: Sample) -> dict[str, Any]:
    """What the generator noted about the scene."""
    assert sample.meta is not None, "every scene has its attributes"
    return dict(sample.meta)


def fits(query: str, scene: Mapping[str, Any]) -> bool:
    """Whether the words of a plain query ("a small red seven", "a red one above a blue two") are
    true of a scene.

    >>> from diptych.cli.demo_scores import fits
    >>> scene = {"digits": [{"value": 7, "colour": "red", "size": "small"}], "relation": None}
    >>> fits("a red seven", scene), fits("a large red seven", scene)
    (True, False)
    """
    digits, relation = scene["digits"], scene["relation"]
    for name in _OPPOSITES:
        first, word, second = query.partition(f" {scenes.RELATIONS[name][0]} ")
        if word:
            pairs = [(relation, digits), (_OPPOSITES.get(relation), digits[::-1])]
            return any(
                r == name and _is(first, pair[0]) and _is(second, pair[1]) for r, pair in pairs
            )
    return any(_is(query, digit) for digit in digits)


_OPPOSITES = {"left": "right", "right": "left", "above": "below", "below": "above"}


def _is(phrase: str, digit: Mapping[str, Any]) -> bool:
    known = {digit["colour"], digit["size"], scenes.DIGITS[digit["value"]], "a", "an"}
    return set(phrase.split()) <= known


def _read(folder: Path) -> dict[str, Sample]:
    samples = {}
    for shard in sorted(folder.glob("*.tar")):
        source = open_source(DataConfig(path=str(shard), cache=str(folder.parent / "cache")))
        for i in range(len(source)):
            samples[f"{shard.name}/{source.where(i)[1]}"] = source[i]
    return samples


def _coloured(colour: str) -> str:
    return f"{scenes.article(colour)} {colour}"


def _name(digit: Mapping[str, Any]) -> str:
    return f"{_coloured(digit['colour'])} {scenes.DIGITS[digit['value']]}"


def _classify(
    encoder: Encoder, vectors: Float[Tensor, "n width"], samples: Sequence[Sample]
) -> dict[str, ZeroShotResult]:
    first = [attributes(sample)["digits"][0] for sample in samples]
    digits = torch.tensor([digit["value"] for digit in first])
    colours = torch.tensor([list(scenes.COLOURS).index(digit["colour"]) for digit in first])
    named = [_coloured(colour) for colour in scenes.COLOURS]
    both = encoder.embed_texts([f"{colour} {digit}" for colour in named for digit in scenes.DIGITS])
    return {
        "digit": zero_shot(
            vectors, digits, class_vectors(encoder.embed_texts, scenes.DIGITS, PROMPTS)
        ),
        "colour": zero_shot(
            vectors,
            colours,
            class_vectors(encoder.embed_texts, named, [f"{{}} {digit}" for digit in scenes.DIGITS]),
        ),
        "both": zero_shot(vectors, colours * len(scenes.DIGITS) + digits, both),
    }


def _relation(
    encoder: Encoder, vectors: Float[Tensor, "n width"], samples: Sequence[Sample]
) -> float:
    texts, truth = [], []
    for sample in samples:
        scene = attributes(sample)
        one, two = (_name(digit) for digit in scene["digits"])
        texts += [f"{one} {words[0]} {two}" for words in scenes.RELATIONS.values()]
        truth.append(list(scenes.RELATIONS).index(scene["relation"]))
    choices = encoder.embed_texts(texts).view(len(samples), len(scenes.RELATIONS), -1)
    nearest = torch.einsum("nrw,nw->nr", choices, vectors).argmax(1)
    return (nearest == torch.tensor(truth)).double().mean().item()


def _precision(
    encoder: Encoder, vectors: Float[Tensor, "n width"], samples: Sequence[Sample]
) -> float:
    queries = [
        f"{_coloured(colour)} {digit}" for colour in scenes.COLOURS for digit in scenes.DIGITS
    ]
    nearest = (encoder.embed_texts(queries) @ vectors.T).topk(TOP, dim=1).indices.tolist()
    right = [
        fits(query, attributes(samples[i])) for query, row in zip(queries, nearest) for i in row
    ]
    return sum(right) / len(right)
