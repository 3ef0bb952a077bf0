"""The demo's page."""

from collections.abc import Sequence
from pathlib import Path

from diptych import reports
from diptych.batch import Sample
from diptych.config import Run
from diptych.data import scenes
from diptych.experiments.digits.queries import TOP, DemoSearch
from diptych.experiments.digits.scores import DemoScores
from diptych.families.tiny.recipes import DIGIT_PROMPTS
from diptych.reports import Cell, GridRow, Section
from diptych.training import read_metrics

_ABOUT = (
    "The digits are real handwriting of 13 people (UCI Optical Recognition of Handwritten "
    "Digits, by way of scikit-learn). Each was coloured, sized and placed on a background, and "
    "captioned in varying words. The model started from random numbers and learned from "
    "picture-caption pairs alone: no label was ever given to it."
)
_HELD_OUT = (
    "Two things were kept from it: every fifth piece of handwriting, and one combination for "
    "each colour: it has seen red digits and it has seen zeros, never a red zero. Zero-shot "
    "means that the classes are named in words only when the model is asked."
)
_LIMITS = (
    "This is a toy world: ten shapes, ten colours, four plain kinds of background, 48-pixel "
    "pictures and about fifty words. Nothing here says how the method does on photographs.",
    "No piece of handwriting is in training and in the test, but the same 13 people wrote both; "
    "strangers' hands would be read a few points worse.",
    "Combinations that it has seen are easier for it than those that it hasn't; the table shows "
    "the gap. Small digits are harder than large ones.",
    "Of two digits it learns which are there far better than which is where: it mostly sees "
    "whether they lie side by side or one above the other, and guesses the order. That blindness "
    "to order is known of contrastive models of any size (Yuksekgonul et al. 2023, "
    "arXiv:2210.01936).",
    "Retrieval counts a caption as found only with the very picture that it was written for, "
    "though many captions here (“a large seven”) fit several. The share of fitting pictures "
    "among the first of a search is the fairer number.",
    "The scores are of one seed on a few thousand pictures: differences of a point or two mean "
    "nothing.",
)


def write(out: Path, run: Run, scores: DemoScores, found: Sequence[DemoSearch]) -> Path:
    """Write the page and return where it is."""
    return reports.write(
        out,
        "What a small CLIP learned from handwriting",
        [
            _headline(scores),
            reports.prose("What was done", [_ABOUT, _HELD_OUT]),
            _examples(scores),
            reports.curves(
                {"demo": read_metrics(Path(run.out) / "metrics.jsonl")},
                note="Accuracy is that of the digit on 500 pictures of unseen handwriting in "
                "unseen combinations.",
            ),
            _searches(found, len(scores.samples)),
            _table(scores),
            reports.confusion(
                scores.digits.confusion.tolist(),
                scenes.DIGITS,
                title="Which digits are mistaken for which",
                note="Unseen handwriting in unseen combinations.",
            ),
            reports.prose("Limits", _LIMITS),
            reports.config(run, against=Run(steps=1), note="What differs from the defaults."),
            reports.environment(),
        ],
        subtitle="Trained from nothing on this computer by diptych demo",
    )


def _headline(scores: DemoScores) -> Section:
    unseen = scores.accuracy["unseen"]
    return reports.headline(
        {
            "digit named right, in a colour it never had": f"{unseen['digit']:.1%}",
            "colour named right, on a digit that never had it": f"{unseen['colour']:.1%}",
            "both right, among 100 combinations": f"{unseen['both']:.1%}",
            f"of the first {TOP} pictures of a search fit": f"{scores.precision:.1%}",
        }
    )


def _examples(scores: DemoScores) -> Section:
    chosen = list[Sample]()
    for part in ("seen", "unseen", "pairs"):
        chosen += scores.of(part)[:4]
    cells = [Cell(image=sample.image, text=sample.captions[0]) for sample in chosen]
    return reports.pictures(
        "Pictures and their captions", cells, note="Of the test part; training looks alike."
    )


def _searches(found: Sequence[DemoSearch], count: int) -> Section:
    rows = list[GridRow]()
    for one in found:
        cells = [
            Cell(image=hit.sample.image, text=f"{hit.score:.2f}", right=hit.right)
            for hit in one.hits
        ]
        rows.append(GridRow(query=one.query, cells=cells))
    return reports.grid(
        "Searches",
        rows,
        note="The nearest test pictures, best first, each with its cosine similarity and whether "
        "the words are true of it. The first query asks for a combination that training never "
        "showed; for the last, only "
        f"{found[-1].fitting} of the {count:,} pictures fit.",
    )


def _table(scores: DemoScores) -> Section:
    def percent(value: float) -> str:
        return f"{value:.1%}"

    names = {
        "seen": "new handwriting, known combinations",
        "unseen": "new handwriting, new combinations",
    }
    rows = list[tuple[str, str, str]]()
    for measure, chance in (("digit", "10 %"), ("colour", "10 %"), ("both", "1 %")):
        for part, label in names.items():
            rows.append((f"{measure}: {label}", percent(scores.accuracy[part][measure]), chance))
    count = len(scores.samples)
    rows.append(("relation of two digits, four choices", percent(scores.relation), "25 %"))
    found = scores.retrieval
    for name, recalls in (
        ("caption → picture", found.text_to_image),
        ("picture → caption", found.image_to_text),
    ):
        rows += [
            (f"{name}, R@{k} of {count:,}", percent(recall), percent(k / count))
            for k, recall in recalls.items()
        ]
    note = f"Digit prompts, averaged: {', '.join(DIGIT_PROMPTS)}."
    return reports.table("Numbers", ("zero-shot", "right", "chance"), rows, note=note)
