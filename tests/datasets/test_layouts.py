"""Every original layout is read: torchvision's, the publishers' own, clips."""

import io

import numpy as np
import pytest
from PIL import Image

from diptych import datasets
from diptych.datasets.class_names import prompts
from diptych.datasets.layouts.video import chosen, read_frames
from diptych.errors import DataError
from tests.datasets import originals
from tests.datasets.miniature import number_of

_SPLIT_BY_TORCHVISION = (
    "food101",
    "sun397",
    "dtd",
    "fgvc-aircraft",
    "pets",
    "cifar10",
    "stl10",
    "cars",
)


def opened(name, root, **options):
    return datasets.open_set(name, root, sizes="warn", cache=str(root / "cache"), **options)


def picture(sample):
    return Image.open(
        sample.image if isinstance(sample.image, str) else io.BytesIO(sample.image)
    ).convert("RGB")


def labels(found):
    return [found.source[index].label for index in range(len(found.source))]


def named(found):
    """The class name of each picture, by the picture's number (its colour)."""
    samples = [found.source[index] for index in range(len(found.source))]
    return {number_of(sample.image): found.class_names[sample.label] for sample in samples}


@pytest.fixture
def any_checksum(monkeypatch):
    """torchvision takes files whose checksums aren't the published ones."""
    from torchvision.datasets import cifar, fer2013, flowers102, stl10

    for module in (cifar, fer2013, flowers102, stl10):
        monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: True)


def test_voc_boxes_are_cut_out(tmp_path):
    originals.voc(tmp_path)
    found = opened("voc2007", tmp_path)
    assert [found.class_names[label] for label in labels(found)] == ["cat", "dog", "cat", "cat"]
    assert picture(found.source[1]).size == (8, 10)
    assert found.source[1].key == "000001/1"


def test_of_whole_voc_pictures_a_convention_may_ignore_difficult_objects(tmp_path):
    originals.voc(tmp_path)
    cat, dog = (prompts("voc2007").names.index(name) for name in ("cat", "dog"))
    plain, openai = (
        opened("voc2007-multilabel", tmp_path, profile=name)
        for name in ("clip-benchmark", "openai")
    )
    assert plain.source[0].labels == (cat, dog)
    assert (openai.source[0].labels, openai.source[0].meta) == ((cat,), {"ignored": (dog,)})
    assert (plain.metric, openai.metric) == ("map", "map11")


def test_voc_that_is_half_unpacked_says_so(tmp_path):
    (tmp_path / "VOCdevkit/VOC2007").mkdir(parents=True)
    with pytest.raises(
        DataError, match=r"has no ImageSets/Main/test.txt: the test split isn't unpacked"
    ):
        opened("voc2007", tmp_path)


def test_objectnet_keeps_the_classes_that_imagenet_has(tmp_path):
    originals.objectnet(tmp_path)
    found = opened("objectnet", tmp_path)
    assert found.class_names == ("alarm clock", "backpack")
    assert named(found) == {0: "alarm clock", 2: "backpack"}
    assert len(found.templates) == 80


@pytest.mark.parametrize(
    ("write", "name", "count"),
    [
        (originals.karpathy, "coco", 2),
        (originals.coco_annotations, "coco", 2),
        (originals.flickr_lines, "flickr30k", 2),
    ],
)
def test_captions_in_their_publishers_files(write, name, count, tmp_path):
    write(tmp_path)
    found = opened(name, tmp_path)
    assert len(found.source) == count
    for index in range(count):
        sample = found.source[index]
        assert sample.captions == tuple(originals.captions_of(number_of(sample.image)))


def test_winoground_gives_two_samples_a_pair(tmp_path):
    originals.winoground(tmp_path)
    found = opened("winoground", tmp_path)
    samples = [found.source[index] for index in range(len(found.source))]
    assert [(sample.key, sample.label) for sample in samples] == [
        ("0/0", 0),
        ("0/1", 1),
        ("1/0", 0),
        ("1/1", 1),
    ]
    assert samples[2].captions == ("a 1", "b")


def test_sugarcrepe(tmp_path):
    originals.sugarcrepe(tmp_path)
    found = opened("sugarcrepe-swap-obj", tmp_path)
    assert (found.source[0].captions, found.source[0].label) == (("right", "wrong"), 0)
    assert picture(found.source[0]).size == (24, 16)


def test_damage_that_torchvision_stumbles_over_is_one_sentence(tmp_path):
    originals.gtsrb(tmp_path)
    (tmp_path / "gtsrb/GT-final_test.csv").write_text("Filename;ClassId\n00000.ppm;5\n00001.p")
    with pytest.raises(DataError, match="torchvision's GTSRB can't read"):
        opened("gtsrb", tmp_path)


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        *(("caltech101", "eva-clip-18b"), ("eurosat", "eva-clip-18b")),
        *((name, "diptych") for name in _SPLIT_BY_TORCHVISION),
    ],
)
def test_classes_of_the_original_layouts_are_aligned_by_name(name, profile, tmp_path, any_checksum):
    known = prompts(name)
    classes = list(known.classes)
    write = {"fgvc-aircraft": originals.aircraft}.get(name) or getattr(originals, name)
    if name == "food101":
        classes = [each.replace(" ", "_") for each in classes]
    write(tmp_path, classes)
    found = opened(name, tmp_path, profile=profile)
    assert found.layout == ("folders" if name == "caltech101" else "torchvision")
    expected = dict(enumerate(known.names))
    if name in ("cifar10", "stl10"):
        expected = {
            257 * n: label for n, label in expected.items()
        }  # grey: one number for all colours
    assert named(found) == expected


def test_mnist_of_torchvision(tmp_path):
    originals.mnist(tmp_path)
    found = opened("mnist", tmp_path)
    assert labels(found) == list(range(10))
    assert found.class_names[3] == "3"
    assert len(opened("mnist", tmp_path, split="all").source) == 20


def test_flowers_of_torchvision(tmp_path, any_checksum):
    originals.flowers102(tmp_path)
    found = opened("flowers102", tmp_path)
    assert (found.layout, found.remarks) == ("torchvision", ("102 samples instead of 6,149",))
    assert named(found) == dict(enumerate(found.class_names))


def test_what_torchvision_needs_beside_itself_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "h5py", None)
    originals.put(tmp_path / "pcam/camelyonpatch_level_2_split_test_x.h5", b"")
    with pytest.raises(DataError, match="torchvision's PCAM can't read .*h5py is not found"):
        opened("pcam", tmp_path)


def test_gtsrb_of_torchvision_keeps_the_official_numbers(tmp_path):
    originals.gtsrb(tmp_path)
    assert labels(opened("gtsrb", tmp_path)) == [5, 0, 42]


def test_fer2013s_table_numbers_the_classes_its_own_way(tmp_path, any_checksum):
    originals.fer2013(tmp_path)
    found = opened("fer2013", tmp_path)
    names = ["angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral"]
    assert named(found) == {257 * n: name for n, name in enumerate(names)}


def test_what_torchvision_refuses_is_one_sentence(tmp_path):
    originals.cifar10(tmp_path, list(prompts("cifar10").names))  # with wrong checksums
    with pytest.raises(DataError, match="torchvision's CIFAR10 can't read .*corrupted"):
        opened("cifar10", tmp_path)


@pytest.mark.parametrize("ending", ["mp4", "avi", "mkv"])
@pytest.mark.parametrize("frames", [1, 20, 31])
def test_the_middle_frame_is_the_middle_one_in_any_container(ending, frames, tmp_path):
    pytest.importorskip("av")
    path = originals.clip(tmp_path / f"clip.{ending}", frames)
    [grey] = greys(read_frames(path))
    assert abs(grey - (40 + 4 * (frames // 2))) <= 2


def greys(pictures):
    opened = [Image.open(io.BytesIO(each)).convert("L") for each in pictures]
    return [picture.getpixel((16, 16)) for picture in opened]


@pytest.mark.parametrize(
    ("frames", "count", "by_hand"),
    [
        *((frames, 1, [frames // 2]) for frames in (1, 7, 8, 9, 16, 100)),
        (1, 8, [0]),
        (7, 8, [0, 1, 2, 3, 4, 5, 6]),
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        # Parts of 9/8 frames: their middles are 0.56, 1.69, 2.81, 3.94, 5.06, 6.19, 7.31, 8.44.
        (9, 8, [0, 1, 2, 3, 5, 6, 7, 8]),
        (16, 8, [1, 3, 5, 7, 9, 11, 13, 15]),
        # Parts of 12.5 frames: their middles are 6.25, 18.75, 31.25, ...
        (100, 8, [6, 18, 31, 43, 56, 68, 81, 93]),
        (9, 16, [*range(9)]),
        (16, 16, [*range(16)]),
        (100, 16, [3, 9, 15, 21, 28, 34, 40, 46, 53, 59, 65, 71, 78, 84, 90, 96]),
    ],
)
def test_frames_are_the_middles_of_equal_parts(frames, count, by_hand):
    assert chosen(frames, count) == by_hand


@pytest.mark.parametrize("bframes", ["0", "2"])
@pytest.mark.parametrize(
    ("ending", "codec"),
    [("mp4", "mpeg4"), ("avi", "mpeg4"), ("mp4", "libx264"), ("mkv", "libx264")],
)
def test_the_frames_are_those_of_a_whole_decode(ending, codec, bframes, tmp_path):
    av = pytest.importorskip("av")
    # Key frames so close that some lie just behind a wanted frame.
    path = originals.clip(tmp_path / f"clip.{ending}", 31, codec=codec, bf=bframes, g="3")
    with av.open(str(path)) as container:
        every = [np.array(frame.to_image()) for frame in container.decode(video=0)]
    assert len(every) == 31
    for count in (*range(1, 9), 31):
        found = [np.array(Image.open(io.BytesIO(each))) for each in read_frames(path, count)]
        np.testing.assert_array_equal(found, [every[place] for place in chosen(31, count)])


def test_kinetics_is_folders_of_clips_with_names_of_its_own(tmp_path):
    pytest.importorskip("av")
    for name in ("abseiling", "air_drumming"):
        originals.clip(tmp_path / "kinetics400" / "val" / name / "a.mp4", 3)
    found = opened("kinetics400", tmp_path)
    assert found.class_names == ("abseiling", "air drumming")
    assert (labels(found), found.metric) == ([0, 1], "mean_top1_top5")
    assert picture(found.source[1]).size == (32, 32)


def test_ucf101_follows_its_lists(tmp_path):
    pytest.importorskip("av")
    lists = tmp_path / "ucf101" / "ucfTrainTestlist"
    originals.put(lists / "classInd.txt", "1 ApplyEyeMakeup\n2 ApplyLipstick\n")
    for number, name in enumerate(
        ("ApplyLipstick/v_1.avi", "ApplyEyeMakeup/v_2.avi", "ApplyEyeMakeup/v_3.avi"), 1
    ):
        originals.put(lists / f"testlist0{number}.txt", f"{name}\n")
        originals.clip(tmp_path / "ucf101" / "UCF-101" / name, 3)
    first, every = opened("ucf101", tmp_path), opened("ucf101", tmp_path, profile="eva-clip-18b")
    assert [first.class_names[label] for label in labels(first)] == ["Apply Lipstick"]
    assert [every.class_names[label] for label in labels(every)] == [
        "Apply Lipstick",
        *["Apply Eye Makeup"] * 2,
    ]
    assert every.expected == 11_213


def test_a_clip_that_is_none_says_so(tmp_path):
    pytest.importorskip("av")
    with pytest.raises(DataError, match="clip.mp4 can't be decoded"):
        read_frames(originals.put(tmp_path / "clip.mp4", b"no clip"))


def test_without_pyav_clips_say_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    originals.put(tmp_path / "kinetics600" / "val" / "archery" / "a.mp4", b"")
    with pytest.raises(DataError, match=r"pip install 'diptych\[video\]'"):
        opened("kinetics600", tmp_path)
