"""open_clip_train's loaders of pairs over Diptych's sources, by what open_clip's own tests ask."""

import collections
import copy
import io
import json
import pickle
import tarfile
from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from PIL import Image

from diptych import compat
from diptych.compat.model_traits import CLIP_TRAITS
from diptych.compat.open_clip_train import data, layout, legacy_data, naflex_data, params
from diptych.errors import ConfigError, DataError, DataWarning

SAMPLES = 2_000


def save_shard(path, captions, broken=()):
    with tarfile.open(path, "w") as tar:
        for number, caption in enumerate(captions):
            png = io.BytesIO()
            Image.new("RGB", (8, 8)).save(png, format="png")
            content = b"no picture" if number in broken else png.getvalue()
            for ending, bytes_ in ((".png", content), (".txt", caption.encode())):
                member = tarfile.TarInfo(f"{number}{ending}")
                member.size = len(bytes_)
                tar.addfile(member, io.BytesIO(bytes_))


@pytest.fixture
def shards(tmp_path):
    """Two: of ten samples and of five."""
    for shard, count in enumerate((10, 5)):
        captions = [f"{shard:03d}_{n}" for n in range(count)]
        save_shard(tmp_path / f"data_{shard:03d}.tar", captions)
    return tmp_path


def arguments(**changes):
    args = params.parse_args(["--workers", "0"])
    for name, value in (changes | {"world_size": 1}).items():
        setattr(args, name, value)
    return args


def loaded(args, is_train=True):
    made = data.get_wds_dataset(args, lambda x: x, is_train, tokenizer=lambda x: [x.strip()])
    return made


@pytest.mark.parametrize(
    ("pattern", "factors", "shares"),
    [
        pytest.param("{0}/data_000.tar", None, (10, 0), marks=pytest.mark.slow),
        ("{0}/data_{{000..001}}.tar", None, (15, 15)),
        pytest.param(
            "{0}/data_000.tar::{0}/data_001.tar", "1::1", (15, 15), marks=pytest.mark.slow
        ),
        ("{0}/data_000.tar::{0}/data_001.tar", "1::2", (20, 10)),
    ],
)
def test_resampled_shards_come_as_often_as_open_clips(shards, pattern, factors, shares):
    args = arguments(
        train_data=pattern.format(shards),
        train_num_samples=SAMPLES,
        dataset_resampled=True,
        train_data_upsampling_factors=factors,
        batch_size=10,
    )
    counts = collections.Counter()
    for pictures, texts in loaded(args).dataloader:
        assert pictures[0].size == (8, 8)
        counts.update(texts)
    assert len(counts) == (15 if shares[1] else 10)
    assert sum(counts.values()) == SAMPLES
    for caption, count in counts.items():
        assert count == pytest.approx(SAMPLES / shares[int(caption[:3])], rel=0.3)


@pytest.mark.parametrize(
    ("named", "count"),
    [
        ("/p/shard.tar", 1),
        ("/p/shard_{000..000}.tar", 1),
        ("/p/shard_{000..009}.tar", 10),
        ("/p/shard_{000..009}_{000..009}.tar", 100),
        ("/p/shard.tar::/p/other_{000..009}.tar", 11),
        ("/p/shard_{000..009}.tar::/p/other_{000..009}.tar", 20),
        (["/p/shard.tar"], 1),
        (["/p/shard.tar", "/p/other.tar"], 2),
    ],
)
def test_shards_are_counted(named, count):
    assert data.get_dataset_size(named) == (None, count)


def test_samples_are_counted_by_the_files_beside_the_shards(tmp_path):
    named = f"{tmp_path}/{{0..1}}.tar"
    (tmp_path / "__len__").write_text("70\n")
    assert data.get_dataset_size(named) == (70, 2)
    (tmp_path / "sizes.json").write_text(json.dumps({"0.tar": 3, "1.tar": 4, "2.tar": 9}))
    assert data.get_dataset_size(named) == (7, 2)
    with pytest.raises(DataError, match="how many samples 7.tar has"):
        data.get_dataset_size(f"{tmp_path}/7.tar")
    (tmp_path / "sizes.json").write_text("{")
    with pytest.raises(DataError, match="can't be read"):
        data.get_dataset_size(named)


def test_an_epoch_is_open_clips_number_of_batches_and_an_order_of_its_own(shards):
    args = arguments(train_data=f"{shards}/data_000.tar", batch_size=4, workers=2)
    found = loaded(args)
    loader = found.dataloader
    assert (loader.num_batches, loader.num_samples, len(loader)) == (4, 16, 4)
    epochs = [[text for _, texts in loader for text in texts] for _ in range(2)]
    assert epochs[0] == epochs[1]
    assert len(set(epochs[0])) == 10  # all, and six of the next order
    found.set_epoch(1)
    assert [text for _, texts in loader for text in texts] != epochs[0]
    args.val_data = args.train_data
    assert [text for _, texts in loaded(args, False).dataloader for text in texts] == [
        f"000_{n}" for n in range(10)
    ]


def test_what_is_measured_is_counted_by_the_arguments_alone(shards):
    args = arguments(val_data=f"{shards}/data_000.tar", batch_size=4)
    for said, expected in ((None, (0, 0)), (9, (9, 3))):
        args.val_num_samples = said
        loader = loaded(args, is_train=False).dataloader
        assert (loader.num_samples, loader.num_batches) == expected
        assert [len(texts) for _, texts in loader] == [4, 4, 2]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
@pytest.mark.parametrize(
    ("floor", "batches", "samples", "of_each"), [(False, 6, 24, 2), (True, 3, 12, 1)]
)
def test_a_pipeline_of_ones_own_is_cut_into_epochs(floor, batches, samples, of_each):
    args = Namespace(batch_size=2, world_size=2, workers=3)
    pipeline, epoch = data.wds.DataPipeline([]), data.SharedEpoch()
    found = data.create_wds_loader(pipeline, args, True, 17, epoch, floor=floor)
    loader = found.dataloader
    assert (loader.num_batches, loader.num_samples, loader.num_workers) == (batches, samples, 3)
    assert pipeline.nsamples == of_each
    found.set_epoch(2)
    assert epoch.get_value() == 2


def test_a_measured_pipeline_gives_all_it_has():
    args = Namespace(batch_size=2, world_size=1, workers=0)
    pipeline = data.wds.DataPipeline(lambda: iter("abc"))
    loader = data.create_wds_loader(pipeline, args, False, 5).dataloader
    assert (loader.num_batches, loader.num_samples, list(loader)) == (3, 5, ["a", "b", "c"])


def test_processes_share_a_batch(shards, monkeypatch):
    args = arguments(train_data=f"{shards}/data_000.tar", batch_size=5)
    args.world_size, seen = 2, set()
    for rank in range(2):
        monkeypatch.setattr(layout, "started_as", lambda rank=rank: (rank, 2))
        [(_, texts)] = loaded(args).dataloader
        seen |= set(texts)
    assert len(seen) == 10


def test_bad_pictures_are_said_and_replaced_or_left_out(tmp_path):
    save_shard(tmp_path / "a.tar", list("abcd"), broken={2})
    args = arguments(train_data=f"{tmp_path}/a.tar", val_data=f"{tmp_path}/a.tar", batch_size=4)
    for is_train, count in ((True, 4), (False, 3)):
        with pytest.warns(DataWarning, match="2 is left out: .*not a picture"):
            [(pictures, texts)] = loaded(args, is_train).dataloader
        assert len(pictures) == count
        assert "c" not in texts


def test_get_data_gives_what_the_options_name(tmp_path):
    rows = ["filepath\ttitle"]
    for number in range(5):
        Image.new("RGB", (9, 8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png\ta cat {number}")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    for name in ("n01440764", "n01443537"):
        (tmp_path / "in" / name).mkdir(parents=True)
        Image.new("RGB", (9, 8)).save(tmp_path / "in" / name / "a.png")
    for name in ("2", "10"):
        (tmp_path / "v2" / name).mkdir(parents=True)
        Image.new("RGB", (9, 8)).save(tmp_path / "v2" / name / "a.png")
    args = arguments(
        train_data=f"{tmp_path}/pairs.csv",
        val_data=f"{tmp_path}/pairs.csv",
        imagenet_val=f"{tmp_path}/in",
        imagenet_v2=f"{tmp_path}/v2",
        batch_size=2,
    )
    transforms = [compat.image_transform(16, is_train) for is_train in (True, False)]
    found = data.get_data(args, transforms, epoch=3, tokenizer=compat.get_tokenizer("tiny"))
    assert list(found) == ["train", "val", "imagenet-val", "imagenet-v2"]
    assert [made.dataloader.num_batches for made in found.values()] == [2, 3, 1, 1]
    assert found["train"].shared_epoch.get_value() == 3
    for images, texts in found["train"].dataloader:
        assert images.shape == (2, 3, 16, 16)
        assert texts.shape == (2, 32)
    for name, classes in (("imagenet-val", [0, 1]), ("imagenet-v2", [2, 10])):
        [(_, labels)] = found[name].dataloader
        assert sorted(labels.tolist()) == classes
        assert labels.dtype == torch.int64


class Letters:
    """A tokenizer that has an id for each letter, and one for padding alone."""

    pad_token_id, context_length = 99, 12

    def __call__(self, texts, pad=True):
        texts = [texts] if isinstance(texts, str) else texts
        found = [torch.arange(1, len(text[: self.context_length]) + 1) for text in texts]
        if not pad:
            return found
        return torch.stack([torch.nn.functional.pad(x, (0, 12 - len(x)), value=99) for x in found])


@pytest.mark.parametrize(("multiple", "length"), [(None, 5), (4, 8), (9, 9), (16, 12)])
def test_texts_are_padded_to_the_longest_of_a_batch(tmp_path, multiple, length):
    save_shard(tmp_path / "a.tar", ["a", "abcde"])
    args = arguments(val_data=f"{tmp_path}/a.tar", batch_size=2, text_pad_multiple=multiple)
    traits = replace(CLIP_TRAITS, variable_text=True)
    for asked in ({"model_traits": traits}, {}):
        args.variable_text = not asked
        made = data.get_wds_dataset(args, lambda x: x, False, tokenizer=Letters(), **asked)
        [batch] = made.dataloader
        assert batch["text"].shape == (2, length)
        assert torch.equal(batch["text_valid"], batch["text"] != 99)
        assert batch["text_valid"].sum(1).tolist() == [1, 5]
        assert len(batch["image"]) == 2
    args.variable_text = False
    [batch] = data.get_wds_dataset(args, lambda x: x, False, tokenizer=Letters()).dataloader
    assert batch["text"].shape == (2, 12)
    assert "text_valid" not in batch
    assert data.count_samples([batch, batch]) == (4, 2)
    args.variable_text = True
    with pytest.raises(ConfigError, match="SimpleTokenizer has none: its 0 is a word"):
        data.get_wds_dataset(args, lambda x: x, False, tokenizer=compat.SimpleTokenizer())


def test_samples_by_name_are_a_batch_with_padded_texts():
    texts = [torch.arange(1, 6), torch.arange(1, 10)]
    samples = [{"image": torch.full((2,), i), "n": i, "text": x} for i, x in enumerate(texts)]
    found = data.collate_variable_text_dicts(samples, pad_id=99, text_pad_multiple=8)
    assert found["text"].shape == (2, 16)
    assert torch.equal(found["text_valid"], found["text"] != 99)
    assert torch.equal(found["image"], torch.tensor([[0, 0], [1, 1]]))
    assert torch.equal(found["n"], torch.tensor([0, 1]))
    renamed = [{"caption": text} for text in texts]
    found = data.collate_variable_text_dicts(renamed, pad_id=99, target_key="caption")
    assert {name: tuple(x.shape) for name, x in found.items()} == {
        "caption": (2, 9),
        "caption_valid": (2, 9),
    }
    ids, _ = naflex_data.collate_variable_text([[1, 2, 3]], 0, pad_multiple=2, pad_cap=3)
    assert ids.tolist() == [[1, 2, 3]]
    with pytest.raises(ConfigError, match="9 tokens exceeds pad_cap 8"):
        naflex_data.collate_variable_text(texts, 99, pad_multiple=4, pad_cap=8)


def test_batches_are_read_by_name_and_by_place(tmp_path):
    save_shard(tmp_path / "a.tar", ["a", "b"])
    args = arguments(val_data=f"{tmp_path}/a.tar", batch_size=2)
    [batch] = legacy_data.get_wds_dataset_legacy(
        args, lambda x: x, False, tokenizer=lambda x: [x]
    ).dataloader
    images, texts = batch
    assert batch["text"] is batch[1] is texts
    assert batch["image"] is images
    assert ("text" in batch, list(batch.keys())) == (True, ["image", "text"])
    assert isinstance(batch, dict)
    for other in (copy.copy(batch), pickle.loads(pickle.dumps(batch)), type(batch)({**batch})):
        assert (list(other), other) == (list(batch), batch)
    for name in ("use_naflex", "length_bucketing"):
        with pytest.raises(ConfigError, match="legacy loaders have no"):
            legacy_data.get_data_legacy(Namespace(**{name: True}), (str, str))


def test_synthetic_data_is_one_picture_in_whole_batches():
    args = arguments(batch_size=4, train_num_samples=11)
    args.distributed = False
    options = {"tokenizer": Letters(), "model_traits": replace(CLIP_TRAITS, variable_text=True)}
    for is_train, sizes in ((True, [4, 4]), (False, [4, 4, 3])):
        loader = data.get_synthetic_dataset(args, lambda x: x.size, is_train, **options).dataloader
        batches = list(loader)
        assert [len(batch["image"]) for batch in batches] == sizes
        assert loader.num_samples == sum(sizes)
        assert batches[0]["text"].shape == (4, 12)  # of "Dummy caption", cut
        assert batches[0]["image"][0] == (224, 224)


def test_stages_draw_what_seed_and_epoch_say():
    epoch = data.SharedEpoch()
    stage = data.detshuffle2(bufsize=5, initial=3, seed=1, epoch=epoch)
    first = list(stage(range(20)))
    assert first == list(stage.run(range(20)))
    assert sorted(first) == list(range(20)) != first
    epoch.set_value(1)
    assert list(stage(range(20))) != first
    shards = data.ResampledShards2(
        "a.tar::b.tar", "3::1", 400, worker_seed=lambda: 5, deterministic=True, epoch=epoch
    )
    drawn = [shard["url"] for shard in shards]
    assert drawn == [shard["url"] for shard in shards]
    assert drawn.count("a.tar") == pytest.approx(300, abs=40)
    counted = data.ResampledShards2(["a", "b"], nshards=9, worker_seed=int, deterministic=True)
    assert list(counted) != list(counted)  # each pass is the next epoch
    with pytest.raises(ConfigError, match="1 weights for 2 shards"):
        data.ResampledShards2(["a", "b"], [1.0])


def test_what_does_not_fit_is_said(shards):
    args = arguments(train_data=f"{shards}/data_000.tar", train_data_upsampling_factors="1::2")
    with pytest.raises(ConfigError, match="needs --dataset-resampled"):
        loaded(args)
    args.dataset_resampled = True
    with pytest.raises(ConfigError, match="has 2 numbers for the 1 ::-joined parts"):
        loaded(args)
    with pytest.raises(ConfigError, match="a.txt: the type 'auto' doesn't say"):
        data.get_dataset_fn("a.txt", "auto")
    with pytest.raises(ConfigError, match="split 'train' of ImageNet"):
        data.get_imagenet(args, (str, str), "train")
