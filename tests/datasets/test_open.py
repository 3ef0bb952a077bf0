"""Sets are found in every layout, with classes aligned by name; what is wrong is said."""

from dataclasses import replace

import pytest

from diptych import datasets
from diptych.batch import Sample
from diptych.data import Source
from diptych.datasets.open import Aligned
from diptych.errors import DataError
from tests.datasets import miniature

IMAGES = [entry for entry in datasets.select(("eva27", "vtab+")) if entry.kind == "zero-shot"]


def opened(entry, root, **options):
    return datasets.open_set(entry, root, sizes="warn", cache=str(root / "cache"), **options)


def colours(found):
    """Each picture's number, by its colour, and its sample."""
    for index in range(len(found.source)):
        sample = found.source[index]
        yield miniature.number_of(sample.image), sample


@pytest.mark.parametrize("entry", IMAGES, ids=lambda entry: entry.name)
def test_a_mirror_is_read_with_its_classes_aligned_by_name(entry, tmp_path):
    order = tuple(range(entry.classes))
    if len(set(miniature.names_of(entry))) == entry.classes:
        order = order[::-1]  # another order than the set's
    miniature.write(entry, tmp_path, order=order)
    found = opened(entry, tmp_path)
    assert found.layout == "webdataset"
    assert len(found.class_names) == entry.classes
    backwards = (
        order != tuple(range(entry.classes))
        and not miniature.prompts(entry.prompts or entry.name).classes
    )
    for number, sample in colours(found):
        label = number % entry.classes
        assert sample.label == (order.index(label) if backwards else label)
    assert found.templates
    assert found.expected == entry.sizes["test"]
    assert found.remarks == (f"12 samples instead of {found.expected:,}",)


@pytest.mark.parametrize("layout", ["folders", "parquet"])
@pytest.mark.parametrize(
    "name", ["cifar100", "imagenet-a", "eurosat", "fer2013", "gtsrb", "caltech101", "country211"]
)
def test_folders_and_parquet_are_aligned_by_name(name, layout, tmp_path):
    entry = datasets.get(name)
    miniature.write(entry, tmp_path, layout=layout, count=25)
    found = opened(entry, tmp_path)
    assert found.layout == {"folders": "folders", "parquet": "table"}[layout]
    assert sorted(number for number, _ in colours(found)) == list(range(25))
    assert all(sample.label == number % entry.classes for number, sample in colours(found))


def test_numbered_folders_are_class_numbers(tmp_path):
    folder = tmp_path / "imagenetv2-matched-frequency-format-val"
    for number in (0, 7, 10, 999):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "a.png").write_bytes(miniature.png(number % 256))
    found = opened("imagenet-v2", tmp_path)
    assert [found.source[i].label for i in range(4)] == [0, 10, 7, 999]


def test_a_subset_of_imagenet_has_its_own_classifier(tmp_path):
    miniature.write(datasets.get("imagenet-a"), tmp_path, layout="folders")
    found = opened("imagenet-a", tmp_path)
    whole = miniature.prompts("imagenet1k")
    assert len(found.class_names) == len(found.class_indices) == 200
    assert [whole.names[index] for index in found.class_indices] == list(found.class_names)


def test_captions_of_a_mirror_stand_one_a_line(tmp_path):
    miniature.write(datasets.get("flickr30k"), tmp_path)
    found = opened("flickr30k", tmp_path)
    assert found.class_names == found.templates == ()
    assert found.metric == "mean_recall"
    assert found.source[3].captions == tuple(miniature.captions_of(3))


def test_captions_of_a_parquet_file_are_a_list(tmp_path):
    miniature.write(datasets.get("coco"), tmp_path, layout="parquet")
    assert opened("coco", tmp_path).source[3].captions == tuple(miniature.captions_of(3))


def test_several_labels_of_a_mirror(tmp_path):
    entry = datasets.get("voc2007-multilabel")
    miniature.write(entry, tmp_path, order=tuple(reversed(range(20))))
    found = opened(entry, tmp_path)
    assert sorted(found.source[3].labels) == [3, 4]
    assert found.source[3].label is None


def test_of_a_mirrors_two_captions_the_first_is_right(tmp_path):
    miniature.write(datasets.get("sugarcrepe-add-att"), tmp_path)
    sample = opened("sugarcrepe-add-att", tmp_path).source[1]
    assert (sample.captions, sample.label) == (("right 1", "wrong 1"), 0)


def test_words_of_the_mirror_are_used_where_the_convention_does(tmp_path):
    entry = datasets.get("resisc45")
    folder = miniature.write(entry, tmp_path)
    (folder / "zeroshot_classification_templates.txt").write_text("{c} from above\n")
    ours, theirs = opened(entry, tmp_path), opened(entry, tmp_path, profile="clip-benchmark")
    assert theirs.templates == ("{} from above",)
    assert len(ours.templates) == 18
    assert ours.prompts_sha256 != theirs.prompts_sha256
    assert ours.files_sha256 == theirs.files_sha256


def test_the_fingerprint_follows_the_files(tmp_path):
    folder = miniature.write(datasets.get("stl10"), tmp_path)
    before = opened("stl10", tmp_path).files_sha256
    (folder / "test" / "1.tar").write_bytes((folder / "test" / "0.tar").read_bytes() + bytes(10240))
    assert opened("stl10", tmp_path).files_sha256 != before


def test_another_size_is_an_error_that_says_both(tmp_path):
    miniature.write(datasets.get("cifar10"), tmp_path)
    with pytest.raises(
        DataError, match="CIFAR-10 .split test. in .* has 12 samples instead of 10,000"
    ):
        datasets.open_set("cifar10", tmp_path, cache=str(tmp_path))


def test_a_set_that_is_not_there_says_how_to_get_it(tmp_path):
    with pytest.raises(
        DataError, match="isn't in .*: hub mirror clip-benchmark/wds_vtab-dtd.*torchvision's DTD"
    ):
        datasets.open_set("dtd", tmp_path)


def test_a_missing_split_says_so(tmp_path):
    miniature.write(datasets.get("dtd"), tmp_path)
    with pytest.raises(DataError, match=r"DTD .split train. isn't in"):
        datasets.open_set("dtd", tmp_path, split="train")


def test_a_missing_shard_is_named(tmp_path):
    folder = miniature.write(datasets.get("mnist"), tmp_path)
    (folder / "test" / "1.tar").unlink()
    with pytest.raises(DataError, match=r"should hold 2 shards .nshards.txt., but lacks 1.tar"):
        opened("mnist", tmp_path)


def test_classes_that_are_not_the_sets_are_refused_unless_asked_for(tmp_path):
    folder = miniature.write(datasets.get("mnist"), tmp_path)
    lines = (folder / "classnames.txt").read_text().replace("7", "sieben")
    (folder / "classnames.txt").write_text(lines)
    with pytest.raises(
        DataError, match="1 of its 10 classes are none of the set's: 'sieben'.*'7 - seven'"
    ):
        opened("mnist", tmp_path)
    assert opened("mnist", tmp_path, class_names="data").class_names[7] == "sieben"


def test_a_layout_of_the_right_size_is_preferred(tmp_path):
    entry = datasets.get("mnist")
    miniature.write(entry, tmp_path, layout="folders", count=20)
    miniature.write(entry, tmp_path, count=12)
    small = replace(entry, sizes={"test": 20})
    assert datasets.open_set(small, tmp_path, cache=str(tmp_path)).layout == "folders"


def test_all_splits_together(tmp_path):
    entry = datasets.get("resisc45")
    for split in ("train", "test"):
        miniature.write(entry, tmp_path, layout="folders", split=split, count=45)
    found = opened(entry, tmp_path, profile="eva-clip-18b")
    assert (found.split, found.expected, len(found.source)) == ("all", 31_500, 90)


@pytest.mark.parametrize(
    ("name", "says"),
    [("data/test.parquet", "test.parquet can't be read"), ("test.csv", "has no picture column")],
)
def test_a_table_that_is_none_says_so(name, says, tmp_path):
    path = tmp_path / "stl10" / name
    path.parent.mkdir(parents=True)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=says):
        opened("stl10", tmp_path)


def test_a_shard_that_is_no_tar_says_so(tmp_path):
    folder = miniature.write(datasets.get("mnist"), tmp_path)
    (folder / "test" / "1.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(DataError, match="1.tar is not a tar archive"):
        opened("mnist", tmp_path)


def test_a_shard_that_is_cut_short_is_remarked(tmp_path):
    folder = miniature.write(datasets.get("mnist"), tmp_path)
    path = folder / "test" / "1.tar"
    path.write_bytes(path.read_bytes()[:3000])
    found = opened("mnist", tmp_path)
    assert len(found.source) < 12
    assert any("1.tar: cut short" in remark for remark in found.remarks)


def test_a_class_number_outside_the_set_spoils_one_sample_only(tmp_path):
    folder = miniature.write(datasets.get("imagenet-v2"), tmp_path)  # its classes are 0 to 11 here
    miniature.write(datasets.get("mnist"), tmp_path)
    lines = (tmp_path / "wds_mnist" / "classnames.txt").read_text().splitlines()
    (tmp_path / "wds_mnist" / "classnames.txt").write_text("\n".join(lines))
    (folder / "test").rename(tmp_path / "test")
    (tmp_path / "wds_mnist" / "test").rename(tmp_path / "old")
    (tmp_path / "test").rename(tmp_path / "wds_mnist" / "test")
    found = opened("mnist", tmp_path)
    assert found.source[9].label == 9
    with pytest.raises(DataError, match="class 10 lies outside the 10 classes that the data names"):
        found.source[10]


class Unlabelled(Source):
    """One sample, whose class is -1: none, as many write it."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return Sample(key="a", image=b"", label=-1)

    def where(self, index):
        return "a", "a"

    def describe(self):
        return "one sample"


@pytest.mark.parametrize("places", [(), (1, 0)])
def test_what_has_no_class_is_not_of_the_last_one(places):
    with pytest.raises(DataError, match="class -1 is none"):
        Aligned(Unlabelled(), places, ("cat", "dog"), "zero-shot")[0]


def test_marks_that_cannot_be_read_spoil_one_sample_only(tmp_path):
    folder = miniature.write(datasets.get("voc2007-multilabel"), tmp_path)
    shard = folder / "test" / "0.tar"
    shard.write_bytes(shard.read_bytes().replace(b"\x93NUMPY", b"\x93PICKL", 1))
    found = opened("voc2007-multilabel", tmp_path)
    with pytest.raises(DataError, match=r"its .npy can't be read"):
        found.source[0]
    assert found.source[1].labels


@pytest.mark.parametrize("name", ["dtd", "objectnet"])
def test_missing_classes_are_an_error_or_a_remark(name, tmp_path):
    entry = replace(datasets.get(name), sizes={"test": 12})
    miniature.write(entry, tmp_path, layout="folders")
    with pytest.raises(DataError, match=f"has 12 of {entry.classes} classes"):
        datasets.open_set(entry, tmp_path)
    assert opened(entry, tmp_path).remarks == (f"12 of {entry.classes} classes",)
