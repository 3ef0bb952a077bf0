"""Scenes with rich captions: each is true of its picture, by a plain reading of its words."""

import itertools
import re
from io import BytesIO

import pytest
from PIL import Image

from diptych.data.claims import Counted, Named, Related
from diptych.data.rich_scenes import PARTS, PHRASINGS, questions, samples
from diptych.data.scenes import COLOURS, DIGITS, Digit, held_out

NUMBERS = {"one": 1, "two": 2, "three": 3}
RELATIONS = {
    "to the left of": "left",
    "left of": "left",
    "to the right of": "right",
    "right of": "right",
    "above": "above",
    "over": "above",
    "below": "below",
    "under": "below",
}
PLACE = re.compile(r"(.*) (?:at|in) the (top|bottom) (left|right)(?: corner)?$")
BACKGROUND = re.compile(r" on (?:a (?P<kind>\w+) background|stripes)$")


def holds(caption, meta) -> bool:
    """A reader of its own: nothing of the writer is used."""
    text = caption.removeprefix("a picture of ")
    if found := BACKGROUND.search(text):
        if (found["kind"] or "striped") != meta["background"]:
            return False
        text = text[: found.start()]
    digits = meta["digits"]
    for words, relation in RELATIONS.items():
        first, found, second = text.partition(f" {words} ")
        if found:
            pairs = itertools.product(named(first, digits), named(second, digits))
            return any(lies(relation, one, other) for one, other in pairs)
    if found := PLACE.match(text):
        phrase, row, side = found.groups()
        return any(
            (d["centre"][1] > 0.5) == (row == "bottom")
            and (d["centre"][0] > 0.5) == (side == "right")
            for d in named(phrase, digits)
        )
    counted = re.match(r"(?:exactly )?(one|two|three) (.+)$", text)
    if counted:
        noun = counted[2] if counted[1] == "one" else re.sub(r"(?<=x)es$|s$", "", counted[2])
        return len(named(f"a {noun}", digits)) == NUMBERS[counted[1]]
    phrases = re.split(", | and ", text)
    orders = itertools.permutations(digits, len(phrases))
    return any(
        all(one in named(phrase, digits) for phrase, one in zip(phrases, order)) for order in orders
    )


def named(phrase, digits):
    words = phrase.split()
    assert words[0] in ("a", "an"), phrase
    found = []
    for digit in digits:
        own = {DIGITS[digit["value"]], str(digit["value"]), digit["colour"], digit["size"]}
        if set(words[1:]) <= own | {"handwritten", "digit"}:
            found.append(digit)
    return found


def lies(relation, one, other):
    (x, y), (x2, y2) = one["centre"], other["centre"]
    gap = {"left": x2 - x, "right": x - x2, "above": y2 - y, "below": y - y2}[relation]
    return gap > 0.2


@pytest.fixture(scope="module")
def scenes():
    return {part: list(samples(part, 120, seed=1)) for part in PARTS}


def test_every_caption_is_true_of_its_picture_and_of_few_others(scenes):
    train = scenes["train"]
    for sample in itertools.chain.from_iterable(scenes.values()):
        assert all(holds(text, sample.meta) for text in sample.captions), sample
        assert 2 <= len(set(sample.captions)) == len(sample.captions) <= PHRASINGS
    others = [holds(text, train[i - 1].meta) for i, s in enumerate(train) for text in s.captions]
    assert sum(others) / len(others) < 0.2


def test_all_kinds_of_claims_come_and_all_relations(scenes):
    text = "\n".join(itertools.chain.from_iterable(s.captions for s in scenes["train"]))
    for words in (*RELATIONS, *COLOURS, *DIGITS, "large", "small", "exactly", "digits", "corner"):
        assert re.search(rf"\b{words}\b", text), words


def test_of_a_questions_sentences_the_first_alone_is_true(scenes):
    asked = {"relation": 0, "count": 0, "binding": 0}
    for sample in scenes["many"]:
        for kind, (right, *wrong) in sample.meta["questions"].items():
            asked[kind] += 1
            assert holds(right, sample.meta), (right, sample.meta)
            assert not any(holds(text, sample.meta) for text in wrong), (wrong, sample.meta)
            assert {"relation": 3, "count": 2, "binding": 1}[kind] == len(wrong)
    assert min(asked.values()) > 40


def test_what_is_held_out_is(scenes):
    def combinations(part):
        digits = itertools.chain.from_iterable(s.meta["digits"] for s in scenes[part])
        return {(d["colour"], d["value"], d["glyph"] % 5 == 4) for d in digits}

    assert all(held_out(colour, value) for colour, value, _ in combinations("one"))
    assert not any(held_out(c, v) for c, v, _ in combinations("train") | combinations("many"))
    assert {late for *_, late in combinations("train")} == {False}
    assert {late for *_, late in combinations("one") | combinations("many")} == {True}
    assert {len(s.meta["digits"]) for s in scenes["one"]} == {1}
    assert {len(s.meta["digits"]) for s in scenes["many"]} == {2, 3}


def test_a_scene_depends_on_seed_part_and_place_alone(scenes):
    again = list(samples("train", 3, seed=1))
    assert again == scenes["train"][:3]
    assert list(samples("train", 3, seed=2)) != again
    assert Image.open(BytesIO(again[0].image)).size == (32, 32)


def digit(value, colour, column, row):
    return Digit(value=value, colour=colour, size="small", glyph=0, centre=(column, row), side=0.3)


def test_claims_by_hand():
    three, four, nine = (
        digit(3, "red", 0.2, 0.2),
        digit(4, "blue", 0.8, 0.2),
        digit(9, "red", 0.8, 0.8),
    )
    seen = (three, four, nine)
    red, blue = Named(colour="red"), Named(colour="blue")
    assert Related(relation="left", first=red, second=blue).holds(seen)
    assert Related(relation="below", first=red, second=blue).holds(seen)
    assert not Related(relation="right", first=red, second=blue).holds(seen)
    assert Counted(count=2, kind=red).holds(seen)
    assert not Counted(count=1, kind=red).holds(seen)
    assert Counted(count=2, kind=Named(value=6)).plain() == "two sixes"
    assert questions((three, four)) == {
        "count": ["two digits", "one digit", "three digits"],
        "relation": [
            "a red three left of a blue four",
            "a red three right of a blue four",
            "a red three above a blue four",
            "a red three below a blue four",
        ],
        "binding": ["a red three and a blue four", "a blue three and a red four"],
    }
    assert "relation" not in questions((three, nine))
