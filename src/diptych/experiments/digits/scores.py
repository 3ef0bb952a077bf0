"""What the demo's model knows: zero-shot accuracy, relations and retrieval over the test
pictures."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from diptych.batch import Sample
from diptych.config import DataConfig
from diptych.data import open_source, scenes
from diptych.encoder import Encoder, class_vectors
from diptych.evaluation import RetrievalResult, ZeroShotResult, retrieval, zero_shot
from diptych.experiments.digits.queries import TOP, attributes, coloured, fits, name_of
from diptych.families.tiny.recipes import DIGIT_PROMPTS


@dataclass(frozen=True, kw_only=True)
class DemoScores:
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

    def of(self, part: str) -> list[Sample]:
        """The test pictures of one part: seen, unseen or pairs."""
        return [sample for key, sample in self.samples.items() if key.startswith(part)]


def measure(encoder: Encoder, folder: Path, progress: bool = False) -> DemoScores:
    """Embed every test picture in the shards of `folder` once, and compute all scores."""
    samples = _read(folder)
    keys, kept = list(samples), list(samples.values())
    images = [sample.image for sample in kept]
    vectors = encoder.embed_images(images, batch_size=128, progress=progress)
    captions = encoder.embed_texts([sample.captions[0] for sample in kept])
    found = dict[str, dict[str, ZeroShotResult]]()
    for part in ("seen", "unseen"):
        rows = _rows(keys, part)
        found[part] = _classify(encoder, vectors[rows], [kept[i] for i in rows])
    pairs = _rows(keys, "pairs")
    return DemoScores(
        accuracy={part: _top1(results) for part, results in found.items()},
        digits=found["unseen"]["digit"],
        relation=_relation(encoder, vectors[pairs], [kept[i] for i in pairs]),
        retrieval=retrieval(vectors, captions, torch.arange(len(kept))),
        precision=_precision(encoder, vectors, kept),
        samples=samples,
    )


def _rows(keys: Sequence[str], part: str) -> list[int]:
    return [i for i, key in enumerate(keys) if key.startswith(part)]


def _top1(results: Mapping[str, ZeroShotResult]) -> dict[str, float]:
    return {name: result.top1 for name, result in results.items()}


def _read(folder: Path) -> dict[str, Sample]:
    samples = dict[str, Sample]()
    for shard in sorted(folder.glob("*.tar")):
        source = open_source(DataConfig(path=str(shard), cache=str(folder.parent / "cache")))
        for i in range(len(source)):
            samples[f"{shard.name}/{source.where(i)[1]}"] = source[i]
    return samples


def _classify(
    encoder: Encoder, vectors: Float[Tensor, "n width"], samples: Sequence[Sample]
) -> dict[str, ZeroShotResult]:
    # A picture of these parts shows one digit.
    first = [attributes(sample)["digits"][0] for sample in samples]
    digits = torch.tensor([digit["value"] for digit in first])
    colours = torch.tensor([list(scenes.COLOURS).index(digit["colour"]) for digit in first])
    named = [coloured(colour) for colour in scenes.COLOURS]
    # Combination i is colour i // 10 with digit i % 10: so `zero_shot` is given its labels.
    both = encoder.embed_texts(_combinations())
    # A class vector is the mean over captions that leave the other attribute open.
    by_digit = class_vectors(encoder.embed_texts, scenes.DIGITS, DIGIT_PROMPTS)
    of_any_digit = [f"{{}} {digit}" for digit in scenes.DIGITS]
    by_colour = class_vectors(encoder.embed_texts, named, of_any_digit)
    return {
        "digit": zero_shot(vectors, digits, by_digit),
        "colour": zero_shot(vectors, colours, by_colour),
        "both": zero_shot(vectors, colours * len(scenes.DIGITS) + digits, both),
    }


def _relation(
    encoder: Encoder, vectors: Float[Tensor, "n width"], samples: Sequence[Sample]
) -> float:
    texts, truth = list[str](), list[int]()
    for sample in samples:
        scene = attributes(sample)
        one, two = (name_of(digit) for digit in scene["digits"])
        texts += [f"{one} {words[0]} {two}" for words in scenes.RELATIONS.values()]
        truth.append(list(scenes.RELATIONS).index(scene["relation"]))
    # [pictures, relations, width]: each picture has sentences of its own, which differ in the
    # relation alone, so naming the digits doesn't help.
    choices = encoder.embed_texts(texts).view(len(samples), len(scenes.RELATIONS), -1)
    nearest = torch.einsum("nrw,nw->nr", choices, vectors).argmax(1)
    return (nearest == torch.tensor(truth)).double().mean().item()


def _precision(
    encoder: Encoder, vectors: Float[Tensor, "n width"], samples: Sequence[Sample]
) -> float:
    queries = _combinations()
    nearest = (encoder.embed_texts(queries) @ vectors.T).topk(TOP, dim=1).indices.tolist()
    # As TOP is the same for all, the mean over queries is the mean over all that was found.
    right = 0
    for query, row in zip(queries, nearest):
        right += sum(fits(query, attributes(samples[i])) for i in row)
    return right / (TOP * len(queries))


def _combinations() -> list[str]:
    """A query for each colour and digit: "a red zero", "a red one", ..."""
    pairs = itertools.product(scenes.COLOURS, scenes.DIGITS)
    return [f"{coloured(colour)} {digit}" for colour, digit in pairs]
