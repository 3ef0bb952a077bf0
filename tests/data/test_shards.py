"""Shards are read as webdataset reads them; what is bad is named, the rest is exact."""

import gc
import io
import json
import pickle
import sys

import numpy as np
import pytest
import webdataset

from diptych.batch import Sample
from diptych.data import BadSample, open_source, write_shards
from diptych.errors import ConfigError, DataError, DataWarning
from tests.data.builders import config, picture, png, samples, write_tar


def test_what_is_written_is_read_back(tmp_path):
    written = [
        Sample(key="", image=picture(1), captions=("ein Kätzchen 🐈",), label=2),
        Sample(key="", image=png(2), captions=("one", "two"), meta={"colour": "red"}),
        Sample(key="", image=picture(3), captions=("three",)),
    ]
    paths = write_shards(tmp_path / "out", written, per_shard=2)
    assert [path.name for path in paths] == ["000000.tar", "000001.tar"]
    source = open_source(config(tmp_path, tmp_path / "out"))
    read = [source[n] for n in range(len(source))]
    assert [sample.key for sample in read] == ["00000000", "00000001", "00000002"]
    assert [sample.image for sample in read] == [sample.image for sample in written]
    assert [sample.captions for sample in read] == [sample.captions for sample in written]
    assert [sample.label for sample in read] == [2, None, None]
    assert read[1].meta == {"colour": "red", "caption": ["one", "two"]}


def test_writing_is_repeatable(tmp_path):
    first, second = (write_shards(tmp_path / name, samples(5))[0].read_bytes() for name in "ab")
    assert first == second


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # webdataset leaves its files open
def test_shards_of_the_webdataset_library_give_the_same_keys_and_bytes(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "w.tar")) as writer:
        for n in range(6):
            writer.write(
                {
                    "__key__": f"größe/{n}.b" if n == 4 else f"größe/{n}",
                    "jpg": picture(n),
                    "txt": f"nr {n}",
                }
            )
    source = open_source(config(tmp_path, tmp_path / "w.tar"))
    theirs = list(webdataset.WebDataset(str(tmp_path / "w.tar"), shardshuffle=False))
    assert [source.where(n)[1] for n in range(len(source))] == [
        sample["__key__"] for sample in theirs
    ]
    for n in (0, 1, 2, 3, 5):
        assert source[n].image == theirs[n]["jpg"]
        assert source[n].captions == (theirs[n]["txt"].decode(),)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_our_shards(tmp_path):
    [path] = write_shards(tmp_path, samples(3))
    theirs = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [(s["__key__"], s["jpg"], s["txt"], s["cls"]) for s in theirs] == [
        (f"{n:08d}", picture(n), f"picture {n}".encode(), str(n % 3).encode()) for n in range(3)
    ]


def test_braces_join_shards_and_random_access_reaches_each_sample(tmp_path):
    write_shards(tmp_path, samples(10), per_shard=4)
    source = open_source(config(tmp_path, tmp_path / "{000000..000002}.tar"))
    assert len(source) == 10
    assert [source[n].captions[0] for n in (9, 3, 4, 0)] == [
        "picture 9",
        "picture 3",
        "picture 4",
        "picture 0",
    ]
    assert source.where(8) == (str(tmp_path / "000002.tar"), "00000008")
    again = pickle.loads(pickle.dumps(source))
    assert again[9].image == picture(9)


def test_captions_come_from_text_then_json_then_the_class(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    files = {
        "a.jpg": picture(0),
        "a.txt": b" a text \n",
        "a.json": json.dumps({"caption": "a field"}).encode(),
        "b.jpg": picture(1),
        "b.json": json.dumps({"caption": ["x", "", "y "], "cls": 1}).encode(),
        "c.jpg": picture(2),
        "c.cls": b"1\n",
        "d.jpg": picture(3),
        "d.txt": b"  ",
        "d.cls": b"cat",
    }
    path = write_tar(tmp_path / "a.tar", files)
    source = open_source(
        config(tmp_path, path, class_names=str(names), templates=("a {}", "the {}"))
    )
    assert [source[n].captions for n in range(4)] == [
        ("a text",),
        ("x", "y"),
        ("a dog", "the dog"),
        ("a cat", "the cat"),
    ]
    assert [source[n].label for n in range(4)] == [None, None, 1, 0]
    assert source.class_names == ("cat", "dog")


def test_broken_samples_say_why_and_the_rest_is_exact(tmp_path):
    files = {
        "ok.jpg": picture(0),
        "ok.txt": b"fine",
        "blind.txt": b"no picture",
        "mute.jpg": picture(1),
        "latin.jpg": picture(2),
        "latin.txt": "Größe".encode("latin-1"),
        "json.jpg": picture(3),
        "json.json": b"{",
        "cls.jpg": picture(4),
        "cls.cls": b"many",
        "last.JPG": picture(5),
        "last.TXT": b"fine too",
    }
    source = open_source(config(tmp_path, write_tar(tmp_path / "a.tar", files)))
    for index, says in enumerate(
        [
            "no picture: its members are txt, and none is jpg, jpeg, png, webp; name one in "
            "--data.image-key$",
            r"no caption: .* \(--data.caption-key\) holds one; its members are jpg$",
            "not UTF-8",
            "json can't",
            "'many'",
        ],
        1,
    ):
        with pytest.raises(DataError, match=says):
            source[index]
    assert (source[0].captions, source[6].captions) == (("fine",), ("fine too",))


def test_members_that_a_task_does_not_need_spoil_no_sample(tmp_path):
    objects = io.BytesIO()
    np.save(objects, np.array([{"a": 1}], object), allow_pickle=True)
    useless = {"cls": b"cat", "npy": objects.getvalue(), "json": b'["a", "list"]'}
    files = {f"{n}.{member}": useless[member] for n, member in enumerate(useless)}
    files |= {
        f"{n}.{ending}": data
        for n in range(3)
        for ending, data in (("jpg", picture(n)), ("txt", b"nr %d" % n))
    }
    files |= {"3.jpg": picture(3), "3.txt": b"\xff", "3.json": b'{"caption": "nr 3"}'}
    source = open_source(config(tmp_path, write_tar(tmp_path / "a.tar", files)))
    assert [source[n].captions for n in range(4)] == [(f"nr {n}",) for n in range(4)]
    assert [source[n].label for n in range(4)] == [None] * 4


def test_a_class_counts_without_a_caption_where_none_is_needed(tmp_path):
    files = {"0.jpg": picture(0), "0.cls": b"7", "0.txt": b"\xff", "0.json": b"["}
    files |= {"1.jpg": picture(1), "1.cls": b"word"}
    path = write_tar(tmp_path / "a.tar", files)
    source = open_source(config(tmp_path, path), captions=False)
    assert (source[0].label, source[0].captions) == (7, ())
    with pytest.raises(DataError, match="class 'word' is neither a number"):
        source[1]


def test_the_picture_is_the_one_member_that_is_one_or_is_named(tmp_path):
    files = {"a.txt": b"avif", "a.avif": picture(1), "b.v1.00001.txt": b"x"}
    files |= {f"b.{name}.jpg": picture(2) for name in ("v1", "v2", "v3", "v4", "v5")}
    path = write_tar(tmp_path / "a.tar", files)
    source = open_source(config(tmp_path, path))
    assert source[0].image == picture(1)
    with pytest.raises(DataError) as caught:
        source[1]
    assert str(caught.value) == (
        "no picture: its members are v1.00001.txt, v1.jpg, v2.jpg, v3.jpg, v4.jpg and 1 more, and "
        "none is jpg, jpeg, png, webp; name one in --data.image-key; a sample's name ends at the "
        "first dot (a.v1.jpg is v1.jpg of a)"
    )
    named = config(tmp_path, path, image_key="avif;v3.jpg", caption_key="txt;v1.00001.txt")
    assert open_source(named)[1].captions == ("x",)


def test_what_img2dataset_writes_beside_shards_is_left_out_and_said(tmp_path):
    write_shards(tmp_path, samples(4), per_shard=2)
    for name in ("000000_stats.json", "000001_stats.json", "000000.parquet"):
        (tmp_path / name).write_text("{}")
    with pytest.warns(DataWarning, match=r"3 files that are no \.tar are left out"):
        source = open_source(config(tmp_path, tmp_path / "*"))
    assert len(source) == 4
    assert len(open_source(config(tmp_path, tmp_path))) == 4


def test_a_truncated_shard_is_reported_and_used(tmp_path):
    paths = write_shards(tmp_path, samples(20), per_shard=10)
    data = paths[0].read_bytes()
    paths[0].write_bytes(data[: data.index(b"00000007.txt") + 514])
    source = open_source(config(tmp_path, tmp_path / "*.tar"))
    assert len(source) == 17
    assert source[6].captions == ("picture 6",)
    assert source[7].captions == ("picture 10",)
    [bad] = source.bad_samples
    assert isinstance(bad, BadSample)
    assert bad.file == str(paths[0])
    assert "cut short" in bad.reason
    assert "7 samples before that are used" in bad.reason
    assert "1 of them corrupt" in source.describe()


def test_a_shard_that_shrinks_while_in_use_breaks_single_samples_only(tmp_path):
    [path] = write_shards(tmp_path, samples(5))
    source = open_source(config(tmp_path, path))
    with path.open("r+b") as file:
        file.truncate(5000)
    assert source[0].captions == ("picture 0",)
    with pytest.raises(DataError, match="it has changed since it was indexed"):
        source[4]


def test_many_shards_need_few_open_files(tmp_path):
    resource = pytest.importorskip("resource")
    write_shards(tmp_path, samples(200), per_shard=1)
    source = open_source(config(tmp_path, tmp_path))
    gc.collect()  # files of other tests, which count, too
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (180, hard))
    try:
        assert [source[n].captions[0] for n in range(200)] == [f"picture {n}" for n in range(200)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_pipe_is_run_once_and_read_like_a_shard(tmp_path):
    [path] = write_shards(tmp_path / "out", samples(4))
    count = tmp_path / "count"
    data = config(tmp_path, f"pipe:echo run >> {count}; cat {path}")
    for _ in range(2):
        source = open_source(data)
        assert [source[n].image for n in range(4)] == [picture(n) for n in range(4)]
    assert count.read_text() == "run\n"


def test_a_pipe_that_fails_says_its_last_words(tmp_path):
    command = "pipe:echo first >&2; echo the server is gone >&2; exit 3"
    with pytest.raises(DataError, match="failed with status 3: the server is gone$"):
        open_source(config(tmp_path, command, retries=0))
    assert not list((tmp_path / "cache").rglob("*.tar"))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("{folder}/00000{{0..3}}.tar", "000001.tar doesn't exist"),
        ("{folder}/nowhere.tar", "nowhere.tar doesn't exist"),
        ("{folder}/a.tar.gz", "unpack it"),
        ("{folder}/empty.tar", "holds no samples"),
        ("{folder}/note.md", "no kind of source"),
        ("{folder}/pictures-only.tar", "none of 2 samples tried .of 2. .* no caption"),
        ("{folder}/classes.tar", "--data.class-names"),
    ],
)
def test_what_cannot_be_opened_is_one_clear_sentence(tmp_path, path, says):
    write_shards(tmp_path, samples(2))
    write_tar(tmp_path / "empty.tar", {})
    write_tar(tmp_path / "pictures-only.tar", {"a.jpg": picture(0), "b.jpg": picture(1)})
    write_tar(tmp_path / "classes.tar", {"a.jpg": picture(0), "a.cls": b"1"})
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "note.md").write_text("hello")
    with pytest.raises(DataError, match=says) as caught:
        open_source(config(tmp_path, path.format(folder=tmp_path)))
    assert "\n" not in str(caught.value)


def test_unbalanced_braces_and_templates_without_a_place_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="unbalanced braces"):
        open_source(config(tmp_path, "a/{0..3.tar"))
    with pytest.raises(ConfigError, match="has no {} for the class name"):
        open_source(config(tmp_path, "synthetic:3", templates=("a photo",)))
    with pytest.raises(ConfigError, match=r"data\.path is empty"):
        open_source(config(tmp_path, ""))


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_keys_that_are_not_utf8_survive(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"caf\udce9.jpg": picture(0), "caf\udce9.txt": b"old"})
    assert open_source(config(tmp_path, path))[0].key == "caf\udce9"
