from functools import cache
from io import BytesIO
from itertools import product

import numpy as np
import pytest
from PIL import Image

from diptych.data import scenes


@cache
def drawn(part):
    return list(scenes.samples(part, 1000))


def attributes(part, count=1000):
    return [(sample, sample.meta) for sample in drawn(part)[:count]]


def pixels(sample):
    return np.asarray(Image.open(BytesIO(sample.image)))


def combinations(part):
    return {(d["colour"], d["value"]) for _, meta in attributes(part) for d in meta["digits"]}


def test_training_has_all_colours_and_digits_but_not_all_combinations():
    seen, held = (
        combinations("train"),
        {pair for pair in product(scenes.COLOURS, range(10)) if scenes.held_out(*pair)},
    )
    assert seen == set(product(scenes.COLOURS, range(10))) - held
    assert {colour for colour, _ in held} == set(scenes.COLOURS)
    assert {value for _, value in held} == set(range(10))


def test_the_parts_hold_what_they_say():
    held = {pair for pair in product(scenes.COLOURS, range(10)) if scenes.held_out(*pair)}
    assert combinations("unseen") == held
    assert not combinations("seen") & held
    assert not combinations("pairs") & held
    assert {len(meta["digits"]) for _, meta in attributes("pairs")} == {2}
    assert {len(meta["digits"]) for _, meta in attributes("unseen")} == {1}
    assert {len(meta["digits"]) for _, meta in attributes("train")} == {1, 2}


def test_no_handwriting_is_in_training_and_in_a_test_part():
    glyphs = {
        part: {d["glyph"] for _, meta in attributes(part) for d in meta["digits"]}
        for part in scenes.PARTS
    }
    for part in ("seen", "unseen", "pairs"):
        assert not glyphs["train"] & glyphs[part]


def test_the_digit_drawn_is_the_digit_named():
    from sklearn.datasets import load_digits

    target = load_digits().target
    for sample, meta in attributes("train", 300):
        assert all(target[d["glyph"]] == d["value"] for d in meta["digits"])
        assert sample.label == meta["digits"][0]["value"]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    first, again, other = (
        [(s.image, s.captions) for s in scenes.samples("train", 20, seed=seed)]
        for seed in (0, 0, 1)
    )
    assert first == again
    assert not set(first) & set(other)


def test_a_scene_does_not_depend_on_how_many_follow():
    assert next(scenes.samples("train", 1)) == next(scenes.samples("train", 50))


@pytest.mark.parametrize("relation", scenes.RELATIONS)
def test_relations_are_true_of_the_picture(relation):
    """The first digit's pixels lie on the side that the relation says; a red one beside a cool one
    is found again."""
    axis, sign = {"left": (1, -1), "right": (1, 1), "above": (0, -1), "below": (0, 1)}[relation]
    checked = 0
    for sample, meta in attributes("pairs", 800):
        one, two = (digit["colour"] == "red" for digit in meta["digits"])
        cool = {digit["colour"] for digit in meta["digits"]} & {"green", "cyan", "blue"}
        if meta["relation"] != relation or one == two or not cool:
            continue
        picture = pixels(sample).astype(int)
        redness = picture[..., 0] - picture[..., 1:].max(-1)
        red, other = np.argwhere(redness > 80).mean(0), np.argwhere(redness < -80).mean(0)
        assert (sign if one else -sign) * (red[axis] - other[axis]) > 10
        checked += 1
    assert checked > 3


def test_digits_stand_out_and_stay_inside():
    for sample, _ in attributes("unseen", 60):
        bright = pixels(sample).max(-1) > 110
        assert bright.mean() > 0.04
        rim = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
        assert rim.mean() < 0.1


def test_captions_are_true_and_varied():
    samples = attributes("train")
    single = [(s.captions[0], meta) for s, meta in samples if len(meta["digits"]) == 1]
    assert len({text for text, _ in single}) > 300
    for text, meta in single:
        digit = meta["digits"][0]
        words = set(text.split())
        others = set(scenes.COLOURS) - {digit["colour"]}
        assert not words & others
        assert not words & (set(scenes.DIGITS) - {scenes.DIGITS[digit["value"]]})
        assert not words & ({"small", "large"} - {digit["size"]})
    assert all(
        words & {*scenes.DIGITS, *"0123456789"}
        for words in (set(text.split()) for text, _ in single)
    )
    coloured = [bool(set(text.split()) & set(scenes.COLOURS)) for text, _ in single]
    assert 0.2 < np.mean(coloured) < 0.4


def test_pictures_have_the_size_asked_for():
    assert pixels(next(scenes.samples("train", 1, size=96))).shape == (96, 96, 3)
