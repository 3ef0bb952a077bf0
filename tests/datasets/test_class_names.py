"""The data files of names and templates, and the alignment with a data set's own labels."""

import re

import pytest

from diptych import datasets
from diptych.datasets.class_names import align, prompts, prompts_sha256
from diptych.errors import DataError, UnknownNameError

ENTRIES = [entry for entry in datasets.select(("all",)) if entry.classes]
FROM_DATA = {"objectnet", "kinetics400", "kinetics600"}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_file_fits_its_set(entry):
    known = prompts(entry.prompts or entry.name)
    assert len(known.classes) == (0 if entry.name in FROM_DATA else entry.classes)
    assert known.templates
    assert all("{}" in template for templates in known.templates.values() for template in templates)
    assert known.source
    assert known.licence
    assert "data" in known.source or known.classes


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_labels_differ_also_when_spelling_is_forgotten(entry):
    labels = [
        re.sub(r"[^a-z0-9]", "", label.lower())
        for label in prompts(entry.prompts or entry.name).classes
    ]
    assert len(set(labels)) == len(labels)


def test_the_counts_of_templates_are_the_published_ones():
    counts = {
        "imagenet1k": 80,
        "cifar10": 18,
        "caltech101": 34,
        "ucf101": 48,
        "kinetics700": 28,
        "gtsrb": 3,
        "cars": 8,
    }
    assert {name: len(prompts(name).templates_of("openai")) for name in counts} == counts
    assert len(prompts("imagenet1k").templates_of("openai-7")) == 7
    assert len(prompts("resisc45").templates_of("clip-benchmark")) == 4


def test_imagenet_is_in_the_order_of_its_wordnet_ids_and_two_names_occur_twice():
    known = prompts("imagenet1k")
    assert list(known.classes) == sorted(known.classes)
    assert len(known.names) - len(set(known.names)) == 2


def test_names_of_two_classes_are_no_obstacle_in_the_published_order():
    known = prompts("imagenet1k")
    assert align(known.names, known) == tuple(range(1000))


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (
            ("forest", "jungle"),
            "1 of its 2 classes are none of the set's: 'jungle'; the set's 9 without data",
        ),
        (("forest", "Forest"), "several of its classes mean the same: 'forest', 'Forest'"),
    ],
)
def test_labels_that_do_not_fit_are_named(labels, says):
    with pytest.raises(DataError, match=re.escape(says)):
        align(labels, prompts("eurosat"))


def test_the_digest_tells_order_and_place():
    found = [prompts_sha256(*each) for each in (("ab", ""), ("ba", ""), ("a", "b"))]
    assert len(set(found)) == 3


@pytest.mark.parametrize("name", datasets.profiles())
def test_a_profile_speaks_of_sets_that_exist_and_is_complete(name):
    convention = datasets.profile(name)
    assert set(convention.changes) <= set(datasets.names())
    for entry in datasets.select(("all",)):
        change = convention.of(entry)
        assert change.split
        assert change.metric
        assert not entry.classes or prompts(change.prompts).templates


def test_conventions_differ_where_the_papers_do():
    pets, caltech, eurosat, flickr = map(
        datasets.get, ("pets", "caltech101", "eurosat", "flickr30k")
    )
    eva, openai = datasets.profile("eva-clip-18b"), datasets.profile("openai")
    assert (eva.of(pets).metric, openai.of(pets).metric) == ("top1", "mean_per_class")
    assert (eva.of(caltech).size, openai.of(caltech).size) == (9_144, 6_085)
    assert (eva.of(eurosat).split, openai.of(eurosat).size) == ("all", 5_000)
    assert (eva.of(pets).resize, eva.of(flickr).resize) == (("crop", "squash"), ("squash",))


def test_an_unknown_profile_has_near_misses():
    with pytest.raises(UnknownNameError, match="did you mean 'openai'"):
        datasets.profile("open-ai")
