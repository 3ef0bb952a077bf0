"""Text augmentation against the published rules."""

import random

import numpy as np
import pytest

from diptych.config import WordsConfig
from diptych.errors import ConfigError
from diptych.inputs.text_augment import AugmentText, drop, read_synonyms, swap
from tests import goldens

GOLDENS = goldens.files("declip/misc*.json")
golden = pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
CAPTION = "two red cars parked near the old harbour bridge"


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@golden
def test_swap_and_deletion_as_recorded(path):
    """The recorded draws are Python's: what is compared is what becomes of them."""
    recorded = goldens.read(path)["eda"]
    words = recorded["sentence"].split()
    for seed, swapped, dropped in recorded[
        "[seed, random_swap, random_deletion] with random.seed(seed) right before each"
    ]:
        draw = random.Random(seed)
        first = second = draw.randint(0, len(words) - 1)
        while second == first:
            second = draw.randint(0, len(words) - 1)
        assert " ".join(swap(words, first, second)) == swapped
        draw = random.Random(seed)
        assert " ".join(drop(words, [draw.uniform(0, 1) <= 0.1 for _ in words], 0)) == dropped


def test_each_change_comes_and_keeps_to_its_rule():
    augment, words = AugmentText(WordsConfig()), CAPTION.split()
    kinds = {"replaced": 0, "swapped": 0, "shorter": 0, "same": 0}
    for seed in range(300):
        changed = augment(CAPTION, generator(seed)).split()
        if changed == words:
            kinds["same"] += 1
        elif sorted(changed) == sorted(words):
            kinds["swapped"] += 1
            assert sum(a != b for a, b in zip(changed, words)) == 2
        elif set(changed) < set(words):
            kinds["shorter"] += 1
        else:
            kinds["replaced"] += 1
            assert len(set(words) - set(changed)) == 1
    assert min(kinds["replaced"], kinds["swapped"], kinds["shorter"]) > 40


def test_the_generator_decides_alone():
    augment = AugmentText(WordsConfig())
    assert [augment(CAPTION, generator(3)) for _ in range(2)] == [
        augment(CAPTION, generator(3))
    ] * 2


@pytest.mark.parametrize("caption", ["", "   ", "dog", "zzz qqq"])
def test_short_and_unknown_captions_survive(caption):
    augment = AugmentText(WordsConfig(delete=1.0))
    for seed in range(20):
        assert bool(augment(caption, generator(seed)).split()) == bool(caption.split())


def test_own_synonyms(tmp_path):
    (tmp_path / "words.txt").write_text("car, automobile\nbig, large, huge\n\nalone\n")
    find = read_synonyms(str(tmp_path / "words.txt"))
    assert list(find("car")) == ["automobile"]
    assert list(find("huge")) == ["big", "large"]
    assert list(find("alone")) == list(find("unknown")) == []
    with pytest.raises(ConfigError, match=r"missing\.txt"):
        read_synonyms(str(tmp_path / "missing.txt"))


def test_everyday_words_are_there_and_a_group_has_two():
    find = read_synonyms("")
    assert "automobile" in find("car")
    assert all(word not in find(word) for word in ("car", "big", "dog"))


def test_shares_lie_between_nothing_and_all():
    for name in ("delete", "hide"):
        with pytest.raises(ConfigError, match=name):
            WordsConfig(**{name: 1.5})
