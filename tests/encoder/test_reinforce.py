"""Teachers' vectors, stored: what they are of, that they last, and for what they are refused."""

import errno
import io
import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from torch.nn.functional import normalize

from diptych import models
from diptych.batch import Sample
from diptych.config import AugmentConfig, DataConfig, PreprocessConfig
from diptych.data import Loader, open_source, teacher_store, write_shards
from diptych.data.reinforced import Reinforced
from diptych.data.teacher_store import MISSING, read_chunk, read_meta
from diptych.data.views import Reader
from diptych.distributed import Peers
from diptych.encoder import Encoder, reinforce, reinforcement, reinforcement_share
from diptych.errors import ConfigError, DataError
from diptych.inputs import Preprocess, TrainCrop, decode
from diptych.models.blocks import in_blocks
from tests import tiny
from tests.distributed.harness import run_processes
from tests.training.runs import MODEL

AUGMENT = AugmentConfig(scale=(0.3, 1.0), flip=0.5, crops=3, seed=5)
COUNT = 11


@cache
def small_teacher() -> Encoder:
    """Other pictures, another normalisation, another width and context than `tiny`'s."""
    other = PreprocessConfig(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bilinear")
    with torch.random.fork_rng():
        torch.manual_seed(9)
        return Encoder(models.build(replace(MODEL, preprocess=other)).eval(), name="small")


def teachers() -> list[Encoder]:
    return [tiny.encoder(1), small_teacher()]


def picture(number: int) -> bytes:
    """A PNG of which no two crops are the same."""
    levels = np.random.default_rng(number).integers(0, 256, (24, 20, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(levels).save(out, "PNG")
    return out.getvalue()


def samples(count: int = COUNT) -> list[Sample]:
    """Captions of one, two or three phrasings; some are of several pictures."""
    made = list[Sample]()
    for number in range(count):
        captions = tuple(f"picture {number % 4} as {way}" for way in range(1 + number % 3))
        made.append(Sample(key=str(number), image=picture(number), captions=captions))
    return made


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(reinforcement, "ROWS", 4)
    write_shards(tmp_path / "shards", samples(), per_shard=5)
    return DataConfig(
        path=str(tmp_path / "shards"), cache=str(tmp_path / "cache"), augment=AUGMENT, workers=0
    )


def by_hand(teacher: Encoder, data: DataConfig, place: int, number: int, text: int):
    """A crop's vector and a caption's, without any of the code that stores them."""
    sample = open_source(data)[place]
    size, interpolation = teacher.preprocess.size, teacher.preprocess.config.interpolation
    rng = np.random.default_rng((AUGMENT.seed, place, number))
    crop = TrainCrop(AUGMENT, size, interpolation)(decode(sample.image), rng)
    image = teacher.model.encode_image(teacher.preprocess.normalise(crop[None]))
    ids = teacher.tokenizer(sample.captions[text])
    return [normalize(x, dim=-1)[0] for x in (image, teacher.model.encode_text(ids))]


@torch.no_grad()
def test_vectors_are_each_teachers_own_of_numbered_crops_and_all_captions(data, tmp_path):
    assert reinforce(data, teachers(), tmp_path / "store").made == COUNT
    store = Reinforced(tmp_path / "store")
    for place, number, text in ((0, 0, 0), (4, 2, 1), (5, 1, 2), (10, 0, 1)):
        for taught, teacher in zip(store.rows([place], [number], [text]), teachers(), strict=True):
            image, words = by_hand(teacher, data, place, number, text)
            torch.testing.assert_close(taught.images[0], image, rtol=0, atol=1e-6)
            torch.testing.assert_close(taught.texts[0], words, rtol=0, atol=1e-6)
            assert taught.scale == pytest.approx(1 / 0.07)
    [one] = Reinforced(tmp_path / "store", ["small"]).rows([7], [1], [0])
    assert one.images.equal(store.rows([7], [1], [0])[1].images)


def test_a_stored_text_stands_once_in_a_file(data, tmp_path):
    reinforce(data, teachers(), tmp_path / "store")
    meta = read_meta(tmp_path / "store")
    tensors = read_chunk(tmp_path / "store", meta, range(4)).tensors
    assert tensors["ends"].tolist() == [1, 3, 6, 7]  # one, two, three, one phrasings
    assert len(tensors["0.texts"]) == 7
    last = read_chunk(tmp_path / "store", meta, range(8, 11)).tensors
    assert last["ends"].tolist() == [3, 4, 6]
    assert len(last["1.texts"]) == 6


@pytest.mark.parametrize(("vectors", "bits"), [("float16", 11), ("bfloat16", 8)])
def test_half_precision_is_rounded_and_half_as_large(data, tmp_path, vectors, bits):
    reinforce(data, teachers(), tmp_path / "whole")
    reinforce(data, teachers(), tmp_path / "half", vectors=vectors)
    [whole, _], [half, _] = (
        Reinforced(tmp_path / name).rows([3, 9], [1, 0], [0, 0]) for name in ("whole", "half")
    )
    assert half.images.dtype == getattr(torch, vectors)
    error = (half.images.float() - whole.images).abs().max() / whole.images.abs().max()
    assert 0 < error <= 2.0**-bits


def loaded(data: DataConfig, **options) -> list:
    preprocess = Preprocess(PreprocessConfig(), 16)
    options = {"tokenizer": tiny.encoder().tokenizer, "batch_size": 4, "seed": 3} | options
    return list(Loader(open_source(data), data, preprocess=preprocess, steps=4, **options))


def test_training_draws_the_stored_crops_and_says_what_teachers_said_of_them(data, tmp_path):
    reinforce(data, teachers(), tmp_path / "store")
    store = Reinforced(tmp_path / "store")
    plain = replace(data, augment=replace(AUGMENT, crops=0, seed=0))
    seen = set()
    for batch in loaded(plain, reinforced=store):
        for row, place in enumerate(batch.index.tolist()):
            levels = decode(open_source(data)[place].image)
            crops = [
                TrainCrop(AUGMENT, 16)(levels, np.random.default_rng((5, place, number)))
                for number in range(3)
            ]
            [number] = [n for n in range(3) if crops[n].equal(batch.images[0][row])]
            image = store.rows([place], [number], [0])[0].images[0]
            assert batch.taught[0].images[row].equal(image)
            captions = open_source(data)[place].captions
            ids = batch.texts[0][row]
            [text] = [
                n
                for n, caption in enumerate(captions)
                if tiny.encoder().tokenizer(caption, len(ids))[0].equal(ids)
            ]
            words = store.rows([place], [number], [text])[1].texts[0]
            assert batch.taught[1].texts[row].equal(words)
            seen.add((number, text))
    assert len(seen) > 4


def test_a_teacher_that_is_asked_is_shown_the_same_crop_and_caption(data):
    readers = [Reader(teacher.preprocess, teacher.tokenizer) for teacher in teachers()]
    for augment in (AUGMENT, AugmentConfig(scale=(0.3, 1.0), flip=0.5)):
        config = replace(data, augment=augment)
        for batch, alone in zip(loaded(config, readers=readers), loaded(config), strict=True):
            assert batch.images[0].equal(alone.images[0])
            assert batch.texts[0].equal(alone.texts[0])
            large, small = batch.taught
            assert large.images.shape == (4, 3, 48, 48)
            # Of the student's size, resized another way.
            apart = (small.images.float() - batch.images[0].float()).abs().mean()
            assert small.images.shape == (4, 3, 16, 16)
            assert 0 < apart < 20
            assert large.texts.shape == (4, 32)
            assert small.texts.shape == (4, 16)


def _store_again(peers: Peers, data: DataConfig, folder: str) -> int:
    reinforcement.ROWS = 4
    return reinforce(data, teachers(), folder, peers=peers).made


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_two_processes_write_the_files_of_one(data, tmp_path):
    reinforce(data, teachers(), tmp_path / "one")
    made = run_processes(2, _store_again, data, str(tmp_path / "two"))
    assert made == [COUNT, COUNT]
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_what_was_finished_stays_and_the_rest_is_made(data, tmp_path, monkeypatch):
    reinforce(data, teachers(), tmp_path / "whole")
    written, write = list[range](), teacher_store.write_chunk

    def fail_after_one(folder, meta, chunk, content):
        if written:
            raise KeyboardInterrupt
        written.append(chunk)
        write(folder, meta, chunk, content)

    monkeypatch.setattr(reinforcement_share, "write_chunk", fail_after_one)
    with pytest.raises(KeyboardInterrupt):
        reinforce(data, teachers(), tmp_path / "store")
    with pytest.raises(ConfigError, match="isn't finished: 2 of 3 files are missing; run the same"):
        Reinforced(tmp_path / "store")
    monkeypatch.setattr(reinforcement_share, "write_chunk", write)
    assert reinforce(data, teachers(), tmp_path / "store").made == COUNT - 4
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")
    assert reinforce(data, teachers(), tmp_path / "store").made == 0


def test_damage_is_noticed_when_read_and_made_again(data, tmp_path):
    reinforce(data, teachers(), tmp_path / "store")
    whole = contents(tmp_path / "store")
    path = tmp_path / "store" / "000000004.safetensors"
    meta = read_meta(tmp_path / "store")
    vectors = read_chunk(tmp_path / "store", meta, range(4, 8)).tensors["0.images"]
    content = bytearray(path.read_bytes())
    content[content.find(vectors[2, 1].numpy().tobytes()) + 9] ^= 1
    path.write_bytes(content)
    store = Reinforced(tmp_path / "store")
    store.rows([6], [0], [0])
    with pytest.raises(ConfigError, match="is damaged .000000004.safetensors: a vector"):
        store.rows([6], [1], [0])
    path.write_bytes(content[:-100])
    with pytest.raises(ConfigError, match=r"is damaged .*the same `diptych reinforce`"):
        Reinforced(tmp_path / "store").rows([6], [0], [0])
    path.write_bytes(content)
    assert reinforce(data, teachers(), tmp_path / "store").made == 4
    assert contents(tmp_path / "store") == whole


def test_samples_that_cannot_be_read_have_no_vectors_and_are_said(data, tmp_path):
    made = samples()
    made[2] = replace(made[2], image=b"\xff\xd8 no picture")
    write_shards(tmp_path / "shards", made, per_shard=5)
    data = replace(data, max_bad_share=0.1)
    done = reinforce(data, teachers(), tmp_path / "store")
    assert [bad.key for bad in done.bad] == ["00000002"]
    store = Reinforced(tmp_path / "store")
    assert read_chunk(store.folder, store.meta, range(4)).tensors["stamps"][2] == MISSING
    with pytest.raises(DataError, match="has no vectors of it"):
        store.check(2, 1, "2")
    batches = loaded(data, reinforced=store)
    assert 2 not in {place for batch in batches for place in batch.index.tolist()}


def test_too_many_bad_samples_end_it(data, tmp_path):
    made = [replace(sample, image=b"\xff\xd8 none") for sample in samples()[:9]] + samples()[9:]
    write_shards(tmp_path / "shards", made, per_shard=5)
    with pytest.raises(DataError, match="more than --data.max-bad-share 0.01"):
        reinforce(data, teachers(), tmp_path / "store")


def test_other_data_other_crops_and_other_teachers_are_refused(data, tmp_path):
    reinforce(data, teachers(), tmp_path / "store")
    store = Reinforced(tmp_path / "store")
    with pytest.raises(ConfigError, match="others than this run's: give it --data.augment.flip"):
        loaded(replace(data, augment=replace(AUGMENT, flip=0.25)), reinforced=store)
    with pytest.raises(ConfigError, match="--data.augment.crops 3"):
        loaded(replace(data, augment=replace(AUGMENT, crops=4)), reinforced=store)
    with pytest.raises(ConfigError, match="no vectors of the teacher third, but of tiny 1, small"):
        Reinforced(tmp_path / "store", ["small", "third"])
    with pytest.raises(ConfigError, match="where they are by --objective.reinforced, or make"):
        Reinforced(tmp_path / "nowhere")
    write_shards(tmp_path / "shards", samples(10), per_shard=5)
    (tmp_path / "shards" / "000002.tar").unlink()
    with pytest.raises(ConfigError, match="has 10 samples, not 11; choose the store"):
        loaded(data, reinforced=store)
    one_word = [*samples()[:6], replace(samples()[6], captions=("picture 3 as 0",)), *samples()[7:]]
    write_shards(tmp_path / "shards", one_word, per_shard=5)
    with pytest.raises(ConfigError, match="sample 00000006 of .* has another picture or other"):
        loaded(data, reinforced=store)


def test_a_changed_sample_is_refused_when_it_is_read(data, tmp_path, monkeypatch):
    reinforce(data, teachers(), tmp_path / "store")
    store = Reinforced(tmp_path / "store")
    monkeypatch.setattr(Reinforced, "check_source", lambda *_: None)
    made = samples()
    made[6] = replace(made[6], image=picture(60))
    write_shards(tmp_path / "shards", made, per_shard=5)
    with pytest.raises(ConfigError, match="sample 00000006 has another picture"):
        loaded(data, reinforced=store)
    with pytest.raises(ConfigError, match="sample 00000006 has another picture"):
        loaded(replace(data, workers=1), reinforced=store)


def test_a_folder_of_something_else_is_left_alone(data, tmp_path):
    reinforce(data, teachers(), tmp_path / "store")
    before = contents(tmp_path / "store")
    for changed, what in (
        (replace(data, augment=replace(AUGMENT, crops=2)), "crops 3, not 2"),
        (replace(data, augment=replace(AUGMENT, seed=6)), "seed 5, not 6"),
    ):
        with pytest.raises(ConfigError, match=f"holds other vectors .{what}.: choose another"):
            reinforce(changed, teachers(), tmp_path / "store")
    with pytest.raises(ConfigError, match="of the teachers tiny 1, small, not tiny 1"):
        reinforce(data, teachers()[:1], tmp_path / "store")
    renamed = Encoder(tiny.model(2), name="tiny 1")
    with pytest.raises(ConfigError, match="not tiny 1, small of other weights"):
        reinforce(data, [renamed, small_teacher()], tmp_path / "store")
    assert contents(tmp_path / "store") == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match=r"holds letter.txt and is no store"):
        reinforce(data, teachers(), tmp_path / "mine")


def test_no_teacher_one_twice_and_no_crops(data, tmp_path):
    with pytest.raises(ConfigError, match="there is no teacher"):
        reinforce(data, [], tmp_path / "store")
    with pytest.raises(ConfigError, match="tiny 1 and tiny 1 are the same model"):
        reinforce(data, [tiny.encoder(1)] * 2, tmp_path / "store")
    with pytest.raises(ConfigError, match="no crops to store"):
        reinforce(replace(data, augment=AugmentConfig()), teachers(), tmp_path / "store")


def test_store_json_is_checked(data, tmp_path):
    reinforce(data, teachers(), tmp_path / "store")
    path = tmp_path / "store" / "store.json"
    text = path.read_text()
    path.write_text(text.replace('"seed": 5', '"seed": 6'))
    with pytest.raises(ConfigError, match="another checksum"):
        Reinforced(tmp_path / "store")
    path.write_text(json.dumps(json.loads(text) | {"format": 9}))
    with pytest.raises(ConfigError, match="isn't a store of format 1"):
        Reinforced(tmp_path / "store")
    path.write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        Reinforced(tmp_path / "store")


@pytest.mark.parametrize(
    "full",
    [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), SafetensorError("No space left on device")],
)
def test_a_full_disk_is_a_sentence(data, tmp_path, monkeypatch, full):
    def refuse(*_, **__):
        raise full

    monkeypatch.setattr(teacher_store, "save_file", refuse)
    with pytest.raises(DataError, match="can't be written .*No space.*; make room, and repeat"):
        reinforce(data, teachers(), tmp_path / "store")
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["store.json"]


def test_a_vector_does_not_depend_on_those_beside_it():
    pixels = torch.randint(0, 256, (70, 3, 48, 48), dtype=torch.uint8)
    features = tiny.encoder(1).image_features
    whole = in_blocks(features, pixels)
    for rows in (slice(0, 1), slice(3, 5), slice(60, 70)):
        assert in_blocks(features, pixels[rows]).equal(whole[rows])


PARTS = pytest.mark.filterwarnings("ignore:.*keeps .* samples:diptych.errors.DataWarning")


def part_of(data: DataConfig, tmp_path, listed, **changes) -> DataConfig:
    """The samples with these numbers; each is in its shard by its key."""
    ids = tmp_path / f"{'-'.join(map(str, listed))}.txt"
    ids.write_text("".join(f"{number:08}\n" for number in listed))
    return replace(data, keep=str(ids), keep_field="__key__", **changes)


def vectors_of_batches(part: DataConfig, store: Path) -> None:
    """Each sample's crop and caption have the vectors that its teachers make of them by hand."""
    source, whole = (
        open_source(part, split="train"),
        open_source(replace(part, keep="", keep_field="uid")),
    )
    keys = [whole.where(place)[1] for place in range(len(whole))]
    preprocess = Preprocess(PreprocessConfig(), 16)
    loader = Loader(
        source,
        part,
        preprocess=preprocess,
        tokenizer=tiny.encoder().tokenizer,
        batch_size=2,
        seed=3,
        steps=3,
        reinforced=Reinforced(store),
    )
    for batch in loader:
        for row, index in enumerate(batch.index.tolist()):
            place = keys.index(source.where(index)[1])
            found = batch.taught[0].images[row]
            made = [by_hand(teachers()[0], part, place, crop, 0)[0] for crop in range(3)]
            near = [torch.dist(found, each).item() for each in made]
            assert min(near) < 1e-5 < 1e-3 < sorted(near)[1]
            # The crop that is shown is the one of this number.
            rng = np.random.default_rng((AUGMENT.seed, place, near.index(min(near))))
            shown = TrainCrop(AUGMENT, 16, "bicubic")(decode(source[index].image), rng)
            assert batch.images[0][row].equal(shown)


@PARTS
@torch.no_grad()
def test_a_store_of_all_teaches_each_sample_of_a_part_with_its_own_vectors(data, tmp_path):
    reinforce(data, teachers(), tmp_path / "store")
    vectors_of_batches(part_of(data, tmp_path, [1, 4, 6, 7, 10]), tmp_path / "store")
    vectors_of_batches(replace(data, share=0.5), tmp_path / "store")
    assert "whole" not in (tmp_path / "store" / "store.json").read_text()


@PARTS
@torch.no_grad()
def test_a_store_of_a_part_teaches_it_and_smaller_parts_alone(data, tmp_path):
    part = part_of(data, tmp_path, [1, 4, 6, 7, 10])
    assert reinforce(part, teachers(), tmp_path / "store").made == 5
    vectors_of_batches(part, tmp_path / "store")
    vectors_of_batches(part_of(data, tmp_path, [4, 10]), tmp_path / "store")
    vectors_of_batches(replace(part, share=0.5), tmp_path / "store")
    store = Reinforced(tmp_path / "store")
    says = r"has the vectors of 5 of the 11 samples of X, and lacks 1 of the 2 that are trained on"
    with pytest.raises(ConfigError, match=says):
        store.check_source(open_source(part_of(data, tmp_path, [4, 5]), split="train"), "X")
    with pytest.raises(ConfigError, match="lacks 6 of the 11"):
        store.check_source(open_source(data), "X")
    other = part_of(data, tmp_path, [0, 4, 6, 7, 10])
    with pytest.raises(ConfigError, match=r"holds other vectors \(of another part of the data\)"):
        reinforce(other, teachers(), tmp_path / "store")
    assert reinforce(part, teachers(), tmp_path / "store").made == 0
    np.save(tmp_path / "store" / "places.npy", np.arange(5))
    with pytest.raises(ConfigError, match=r"places.npy has another checksum than store.json says"):
        Reinforced(tmp_path / "store")


@PARTS
@torch.no_grad()
def test_parts_of_joined_sources_are_known_by_their_places_in_all(data, tmp_path):
    write_shards(tmp_path / "more", samples(14)[COUNT:], per_shard=5)
    ids = tmp_path / "ids.txt"
    ids.write_text("00000002\n00000000\n")
    joined = replace(data, path=f"{data.path}::{tmp_path / 'more'}", keep=str(ids))
    source = open_source(replace(joined, keep_field="__key__"), split="train")
    assert source.places(np.arange(4)).tolist() == [0, 2, COUNT, COUNT + 2]
    assert source.whole == 14
