"""`--data.keep`: only the samples whose ids a file lists."""

import json
import multiprocessing
import os
import re
import subprocess
import sys
import tarfile
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from diptych.config import DataConfig, PreprocessConfig
from diptych.config.serialize import to_dict
from diptych.data import Loader, keep, open_source, shard_ids
from diptych.data.id_file import read_ids
from diptych.errors import ConfigError, DataError
from diptych.inputs import Preprocess
from tests.data.builders import Spelling, picture, write_tar
from tests.data.test_id_file import halves
from tests.data.web import serving

EACH = 4


def uid(number):
    """32 digits that are nowhere in order."""
    return f"{(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}"


def write_shard(path, numbers, field="uid", other=None):
    files = {}
    for number in numbers:
        name = f"{number:05}"
        files[f"{name}.jpg"] = picture(number)
        files[f"{name}.txt"] = f"picture {number}".encode()
        about = {field: uid(number), "n": number} | (other or {})
        files[f"{name}.json"] = json.dumps(about).encode()
    return write_tar(path, files)


@pytest.fixture
def shards(tmp_path):
    """34 shards of DataComp's form, four samples each; the pattern of their paths."""
    (tmp_path / "shards").mkdir()
    for shard in range(34):
        write_shard(
            tmp_path / "shards" / f"{shard:05}.tar", range(EACH * shard, EACH * (shard + 1))
        )
    return str(tmp_path / "shards" / "{00000..00033}.tar")


def datacomp(path, numbers):
    """The file of ids as DataComp publishes it: sorted pairs of halves."""
    np.save(path, np.sort(halves([uid(number) for number in numbers])))
    return str(path)


def opened(tmp_path, path, keep, **options):
    config = DataConfig(path=path, keep=keep, cache=str(tmp_path / "cache"), **options)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        source = open_source(config, split="train")
    return source, [str(each.message) for each in said]


def numbers(source):
    return [int(source.where(index)[1]) for index in range(len(source))]


def resharded(ids, listed):
    """What DataComp's resharder writes: each sample as often as its id is listed."""
    return [number for number in ids for _ in range(listed.count(number))]


def test_datacomps_file_keeps_what_its_resharder_copies(tmp_path, shards):
    listed = [*range(3, 136, 3), 9, 9, 12, 9999]
    source, said = opened(tmp_path, shards, datacomp(tmp_path / "ids.npy", listed))
    assert numbers(source) == resharded(range(136), listed)
    assert source[2].captions == ("picture 9",)
    assert said == [
        f"{tmp_path}/ids.npy with 49 ids keeps 45 of 136 samples of {shards} (33.1 %), and 3 times "
        "one of them again, because its id is listed several times"
    ]
    assert source.describe().startswith("48 of 136 samples in 34 shards")


def test_what_is_measured_stays_whole_and_older_configurations_keep_their_text(tmp_path, shards):
    ids = datacomp(tmp_path / "ids.npy", [1])
    config = DataConfig(path=shards, keep=ids, cache=str(tmp_path / "cache"))
    assert len(open_source(config)) == 136
    assert not {"keep", "keep_field"} & to_dict(DataConfig()).keys()
    assert to_dict(config)["keep"] == ids


@pytest.fixture
def read(monkeypatch, tmp_path):
    """Names of the shards whose members were read for ids, by any process, since the last call."""
    log = tmp_path / "read"
    log.touch()
    original = shard_ids.opened

    def watched(path):
        with log.open("a") as file:
            file.write(f"{path.name}\n")
        return original(path)

    def since():
        lines = log.read_text().split()
        log.write_text("")
        return sorted(lines)

    monkeypatch.setattr(shard_ids, "opened", watched)
    return since


def test_ids_are_read_once_and_those_of_a_changed_shard_anew(tmp_path, shards, read):
    ids = datacomp(tmp_path / "ids.npy", range(0, 136, 2))
    names = [f"{shard:05}.tar" for shard in range(34)]
    assert numbers(opened(tmp_path, shards, ids)[0]) == [*range(0, 136, 2)]
    assert read() == names
    # The rows lie in the cache folder: even the ids in it needn't be looked at.
    for path in (tmp_path / "cache" / "index").glob("*.ids"):
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(64)
            file.write(b"?" * 16)
        assert path.stat().st_size == size
    assert numbers(opened(tmp_path, shards, ids)[0]) == [*range(0, 136, 2)]
    assert read() == []
    # Other ids are looked up in them; what the disk has changed is read anew.
    other = datacomp(tmp_path / "other.npy", range(4))
    assert numbers(opened(tmp_path, shards, other)[0]) == [0, 1, 2, 3]
    assert read() == names
    write_shard(tmp_path / "shards" / "00001.tar", [4, 6, 1000])
    few = f"{tmp_path}/shards/{{00000..00004}}.tar"
    found, _ = opened(tmp_path, few, ids)
    assert numbers(found) == [0, 2, 4, 6, *range(8, 20, 2)]
    assert read() == ["00001.tar"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data.replace(b'"crc32"', b'"crc33"'),
    ],
    ids=["cut", "another number", "another version's"],
)
def test_what_is_kept_and_damaged_is_made_again(tmp_path, shards, damage):
    ids = datacomp(tmp_path / "ids.npy", range(5))
    opened(tmp_path, shards, ids)
    kept = {path: path.read_bytes() for path in (tmp_path / "cache" / "keep").iterdir()}
    assert len(kept) == 2
    for path, data in kept.items():
        path.write_bytes(damage(data))
        assert numbers(opened(tmp_path, shards, ids)[0]) == [*range(5)]
        assert path.read_bytes() == data


def test_ids_that_change_while_they_are_read_are_refused(tmp_path, shards, monkeypatch):
    ids = datacomp(tmp_path / "ids.npy", range(5))

    def changing(path, field):
        yield from read_ids(path, field)
        datacomp(path, range(6))

    monkeypatch.setattr(keep, "read_ids", changing)
    with pytest.raises(DataError, match="ids.npy.*was changed while it was read: start again"):
        opened(tmp_path, shards, ids)
    monkeypatch.undo()
    assert numbers(opened(tmp_path, shards, ids)[0]) == [*range(6)]


def test_processes_share_the_reading(tmp_path, shards, read):
    ids = datacomp(tmp_path / "ids.npy", range(7))

    def start(workers):
        source, _ = opened(tmp_path, shards, ids, workers=workers)
        os._exit(0 if numbers(source) == [*range(7)] else 1)

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=start, args=(workers,)) for workers in (0, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert read() == [f"{shard:05}.tar" for shard in range(34)]


def test_a_cache_that_cannot_be_written_is_said_and_costs_nothing_else(tmp_path, shards):
    (tmp_path / "cache").write_text("")
    source, said = opened(tmp_path, shards, datacomp(tmp_path / "ids.npy", range(5)))
    assert numbers(source) == [*range(5)]
    assert [re.split(r"[:(]", each)[0] for each in said[:4]] == [
        f"{tmp_path}/cache/keep/{re.findall('[0-9a-f]{32}.ids', said[0])[0]} can't be kept",
        f"the index of 34 shards can't be kept in {tmp_path}/cache/index",
        f"the ids of 34 shards can't be kept in {tmp_path}/cache/index",
        f"{tmp_path}/cache/keep/{re.findall('[0-9a-f]{32}.rows', said[3])[0]} can't be kept",
    ]


def test_an_id_may_be_a_field_a_member_or_the_key(tmp_path):
    path = write_tar(
        tmp_path / "a.tar",
        {"0.jpg": picture(0), "0.txt": b"a", "0.json": b'{"id": 17, "uid": "x"}', "0.url": b"u0"}
        | {"1.jpg": picture(1), "1.txt": b"b", "1.json": b"[1]", "1.url": b"u1\n"}
        | {"2.jpg": picture(2), "2.txt": b"c"},
    )
    for field, text, kept in (
        ("id", "17", [0]),
        ("URL", "u1\nu7", [1]),
        ("__key__", "2\n0", [0, 2]),
    ):
        ids = tmp_path / f"{field}.txt"
        ids.write_text(text)
        source, said = opened(tmp_path, str(path), str(ids), keep_field=field)
        assert numbers(source) == kept
    [said] = opened(tmp_path, str(path), str(tmp_path / "id.txt"), keep_field="id")[1]
    assert said.endswith(
        "keeps 1 of 3 samples of " + f"{path} (33.3 %); 2 samples have no id in 'id'"
    )


def write_table(folder):
    rows = [{"image": f"{n}.jpg", "caption": f"picture {n}", "uid": uid(n)} for n in range(6)]
    for n in range(6):
        (folder / f"{n}.jpg").write_bytes(picture(n))
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [",".join(row.values()) for row in rows]
    (folder / "a.csv").write_text("\n".join(["image,caption,uid", *lines, ""]))
    pa.parquet.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_rows_of_tables_are_chosen_by_a_column_or_by_the_picture(tmp_path, name):
    write_table(tmp_path)
    path = str(tmp_path / name)
    source, _ = opened(tmp_path, path, datacomp(tmp_path / "ids.npy", [1, 4]))
    assert [source[place].captions for place in range(len(source))] == [
        ("picture 1",),
        ("picture 4",),
    ]
    (tmp_path / "ids.txt").write_text("5.jpg\n0.jpg\n")
    source, _ = opened(tmp_path, path, str(tmp_path / "ids.txt"), keep_field="__key__")
    assert [source[place].key for place in range(len(source))] == ["0.jpg", "5.jpg"]
    with pytest.raises(DataError, match=r"has no such column, only image, caption, uid\)"):
        opened(tmp_path, path, str(tmp_path / "ids.txt"), keep_field="nowhere")


def test_the_training_split_of_a_table_is_chosen_from(tmp_path):
    rows = "image,caption,split,uid\n"
    for n in range(6):
        (tmp_path / f"{n}.jpg").write_bytes(picture(n))
        rows += f"{n}.jpg,picture {n},{'test' if n == 1 else 'train'},{n}\n"
    (tmp_path / "a.csv").write_text(rows)
    (tmp_path / "ids.txt").write_text("1\n2\n3\n")
    source, _ = opened(tmp_path, str(tmp_path / "a.csv"), str(tmp_path / "ids.txt"))
    assert [source[place].captions for place in range(2)] == [("picture 2",), ("picture 3",)]


def test_pictures_in_folders_are_chosen_by_their_paths_or_their_json(tmp_path):
    classes, pairs = tmp_path / "classes", tmp_path / "pairs"
    for n in range(6):
        for folder in (classes / ("cat" if n % 2 else "dog"), pairs):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{n}.jpg").write_bytes(picture(n))
        (pairs / f"{n}.json").write_text(json.dumps({"caption": f"picture {n}", "uid": uid(n)}))
    (tmp_path / "ids.txt").write_text("cat/3.jpg\ndog/0.jpg\n5.jpg")
    paths = {"keep": str(tmp_path / "ids.txt"), "keep_field": "__key__"}
    for folder, kept in ((classes, ["cat/3.jpg", "dog/0.jpg"]), (pairs, ["5.jpg"])):
        source, _ = opened(tmp_path, str(folder), **paths)
        assert [source[place].key for place in range(len(source))] == kept
    source, _ = opened(tmp_path, str(pairs), datacomp(tmp_path / "ids.npy", [2]))
    assert [source[place].captions for place in range(len(source))] == [("picture 2",)]
    with pytest.raises(DataError, match="it has no field 'uid'"):
        opened(tmp_path, str(classes), str(tmp_path / "ids.npy"))


def test_sources_of_a_mixture_have_one_file_or_one_each_and_give_shares_of_it(tmp_path):
    one, two = tmp_path / "one.tar", tmp_path / "two.tar"
    write_shard(one, range(10))
    write_shard(two, range(10, 20), field="id")
    both, few = datacomp(tmp_path / "a.npy", range(2, 12)), datacomp(tmp_path / "b.npy", [13])
    path = f"{one}::{two}"
    source, said = opened(tmp_path, path, both, keep_field="uid::id", weights=(1.0, 3.0))
    assert [len(stream) for stream in source.streams] == [8, 2]
    assert len(said) == 2
    assert "kept" not in vars(source.parts[0]) or source.kept.count("::") == 1
    source, _ = (
        opened(tmp_path, path, f"{few}::", keep_field="id")
        if False
        else opened(tmp_path, path, f"::{few}", keep_field="uid::id")
    )
    assert [len(part) for part in source.parts] == [10, 1]
    source, _ = opened(tmp_path, str(one), both, share=0.5)
    assert len(source) == 4
    assert set(numbers(source)) < set(range(2, 10))
    with pytest.raises(DataError, match=r"of several sources give each a file of its own, A.npy::"):
        opened(tmp_path, path, few, keep_field="uid::id")


@pytest.mark.parametrize(
    "options", [{}, {"consecutive": 4}, {"resample": True}, {"consecutive": 4, "resample": True}]
)
def test_an_epoch_has_the_listed_samples_and_no_other(tmp_path, options):
    write_shard(tmp_path / "a.tar", range(20))
    ids = datacomp(tmp_path / "ids.npy", listed := [*range(16), 3])
    source, _ = opened(tmp_path, str(tmp_path / "a.tar"), ids, **options)
    config = DataConfig(path="x", workers=0, **options)
    loader = Loader(
        source,
        config,
        preprocess=Preprocess(PreprocessConfig(), 16),
        tokenizer=Spelling(),
        batch_size=17,
        steps=1,
    )
    [batch] = loader
    seen = [numbers(source)[place] for place in batch.index.tolist()]
    assert set(seen) <= set(range(16))
    if "resample" not in options:
        assert sorted(seen) == sorted(listed)


def test_ids_that_match_nothing_are_shown_beside_those_of_the_samples(tmp_path):
    path = write_shard(tmp_path / "a.tar", range(3))
    ids = datacomp(tmp_path / "ids.npy", [7, 8, 9])
    with pytest.raises(DataError) as error:
        opened(tmp_path, str(path), ids)
    said, listed = str(error.value), sorted(uid(n) for n in (7, 8, 9))
    assert f"none of the 3 ids in {ids} ({listed[0]}, {listed[1]}, …)" in said
    assert f"is one of {path} ({uid(0)}, {uid(1)}, …): choose the file of these samples" in said
    with pytest.raises(
        DataError, match=r"1 samples tried of .* 'uid' \(the first: its members are"
    ):
        opened(tmp_path, str(write_tar(tmp_path / "b.tar", {"0.jpg": picture(0)})), ids)
    write_shard(tmp_path / "c.tar", range(3), field="other")
    with pytest.raises(DataError, match=r"in 'uid' \(the first: its json has other, n\): name a"):
        opened(tmp_path, str(tmp_path / "c.tar"), ids)


def test_few_matches_are_said(tmp_path):
    write_shard(tmp_path / "a.tar", range(3))
    _, [said] = opened(tmp_path, str(tmp_path / "a.tar"), datacomp(tmp_path / "i.npy", range(2, 9)))
    assert "with 7 ids keeps 1 of 3" in said
    assert said.endswith("(33.3 %); most of the ids are of no sample there")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"keep_field": "id"}, "--data.keep-field id has no effect"),
        ({"keep": "a::b"}, "--data.keep a::b must be one for all, or one for each of 1 sources"),
        ({"keep": "a", "keep_field": "a::b::c"}, "--data.keep-field a::b::c must be one for all"),
        ({"keep": "a", "keep_field": " "}, "--data.keep-field ' ' must name a field"),
    ],
)
def test_flags_that_cannot_be_meant_are_refused(options, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        DataConfig(path="a.tar", **options)


def test_a_missing_file_is_said_before_anything_is_indexed(tmp_path, shards):
    with pytest.raises(DataError, match="nowhere.npy, a file of ids, can't be read: No such file"):
        opened(tmp_path, shards, str(tmp_path / "nowhere.npy"))
    assert not (tmp_path / "cache" / "index").exists()


def test_shards_of_commands_and_of_a_server_are_chosen_from(tmp_path):
    (tmp_path / "served").mkdir()
    shard = write_shard(tmp_path / "served" / "a.tar", range(10))
    ids = datacomp(tmp_path / "ids.npy", [2, 3, 7])
    with serving(tmp_path / "served") as web:
        for path in (f"pipe:cat {shard}", f"{web.url}/a.tar"):
            source, _ = opened(tmp_path, path, ids)
            assert numbers(source) == [2, 3, 7]
            assert source[1].captions == ("picture 3",)
        web.asked.clear()
        assert numbers(opened(tmp_path, f"{web.url}/a.tar", ids)[0]) == [2, 3, 7]
        assert sum(last - first + 1 for _, first, last in web.ranges) < shard.stat().st_size


START = """
import sys, time, warnings, psutil
from diptych.config import DataConfig
from diptych.data import open_source
warnings.simplefilter("ignore")
process, [path, keep, cache] = psutil.Process(), sys.argv[1:]
before, start = process.memory_full_info().uss, time.perf_counter()
source = open_source(DataConfig(path=path, keep=keep, cache=cache, workers=0), split="train")
source[len(source) // 2]
print(time.perf_counter() - start, process.memory_full_info().uss - before, len(source))
"""


@pytest.mark.slow
def test_a_million_ids_of_a_million_samples_cost_one_reading_and_no_memory(tmp_path):
    """What a start takes: without ids, with ids for the first time, and again."""
    for shard in range(100):
        files = list[tuple[str, bytes]]()
        for number in range(10_000 * shard, 10_000 * (shard + 1)):
            about = {"uid": uid(number), "caption": "a picture", "url": f"https://a.org/{number}"}
            files.append((f"{number:09}.jpg", b"\xff\xd8\xff"))
            files.append((f"{number:09}.json", json.dumps(about).encode()))
        write_tar(tmp_path / f"{shard:05}.tar", files, tarfile.USTAR_FORMAT)
    ids = datacomp(tmp_path / "ids.npy", range(0, 2_000_000, 2))

    def start(keep):
        paths = (f"{tmp_path}/{{00000..00099}}.tar", keep, str(tmp_path / "cache"))
        command = [sys.executable, "-c", START, *paths]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, private, samples = map(float, done.stdout.split())
        said = f"{seconds:.2f} s, {private / 1e6:.1f} MB of its own, {samples:,.0f} samples"
        sys.stdout.write(f"{said}\n")
        return seconds, private, samples

    start("")
    _, without, all_ = start("")
    first, _, kept = start(ids)
    again, private, same = start(ids)
    assert (all_, kept, same) == (1_000_000, 500_000, 500_000)
    assert again < first / 5
    assert private < without + 16e6  # 16 bytes a sample would be 16 MB
