"""Names, groups and patterns; the table's own rules."""

import pytest

from diptych import datasets
from diptych.datasets.places import bare
from diptych.errors import UnknownNameError


def test_spellings_of_other_tools_find_the_set():
    for spelling in (
        "vtab/cifar10",
        "wds/vtab-cifar10",
        "wds_vtab-cifar10",
        "CIFAR10",
        "vtab_cifar10",
        "CIFAR-10",
    ):
        assert datasets.get(spelling).name == "cifar10", spelling


def test_no_two_sets_answer_to_one_spelling():
    spellings = list(_all_names())
    assert len(spellings) == len(set(spellings))


def _all_names():
    for entry in datasets.select(("all",)):
        yield from dict.fromkeys(map(bare, (entry.name, *entry.mirrors, *entry.aliases)))


def test_a_path_is_never_taken_for_a_set():
    assert datasets.builtin("cifar-10/") is datasets.builtin("data/cifar10") is None


@pytest.mark.parametrize(
    ("group", "count"),
    [
        *(
            ("eva27", 27),
            ("eva-video4", 4),
            ("openai27", 27),
            ("declip11", 11),
            ("vtab", 19),
            ("vtab+", 36),
        ),
        *(("imagenet-shifts", 5), ("retrieval", 3), ("sugarcrepe", 7)),
    ],
)
def test_a_group_has_its_sets(group, count):
    assert len({entry.name for entry in datasets.select((group,))}) == count


def test_what_is_asked_for_twice_comes_once_and_in_order():
    assert [entry.name for entry in datasets.select(("dtd", "cifar*", "cifar10"))] == [
        "dtd",
        "cifar10",
        "cifar100",
    ]


@pytest.mark.parametrize("word", ["cifr10", "eva-27", "zz*"])
def test_a_word_that_means_nothing_is_said_with_near_misses(word):
    with pytest.raises(
        UnknownNameError, match=f"no evaluation dataset.*{word[:2]}.*groups are eva27"
    ):
        datasets.select((word,))


def test_every_set_says_where_it_comes_from_and_how_to_get_it():
    for entry in datasets.select(("all",)):
        assert entry.title
        assert entry.source, entry.name
        assert entry.mirrors or entry.torchvision or entry.how_to_get, entry.name
        assert entry.classes or entry.kind in ("retrieval", "choice"), entry.name
        assert "test" in entry.sizes or entry.kind == "choice", entry.name
