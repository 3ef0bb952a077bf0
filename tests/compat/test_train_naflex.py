"""Batches of patches within a budget of tokens: their schedule, the stage and the loaders."""

from argparse import Namespace
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from diptych import compat
from diptych.compat.model_traits import CLIP_TRAITS, InputMode, get_model_traits
from diptych.compat.naflex_config import NaFlexDataConfig
from diptych.compat.open_clip_train import data, layout, naflex_data
from diptych.compat.open_clip_train.naflex_data import (
    NaFlexBatcher,
    SampleDecodeError,
)
from diptych.compat.open_clip_train.naflex_schedule import Schedule
from diptych.compat.open_clip_train.params import parse_args
from diptych.errors import ConfigError
from tests.compat.test_train_data import Letters, arguments, save_shard


def factory(max_seq_len, patch_size):
    return to_tensor


factory.is_naflex_transform_factory = True
factory.is_naflex_eval_transform_factory = True
SMALL = {"patch_size": 4, "seq_lens": [4], "max_tokens_per_batch": 8, "batch_divisor": 1}


def batcher(count=4, **options):
    options = SMALL | {"transform_factory": factory, "shuffle": False} | options
    return NaFlexBatcher(train_num_samples=count, **options)


def samples(count):
    for number in range(count):
        yield {"image": Image.new("RGB", (8, 8), (number, 0, 0)), "text": torch.tensor([number])}


def test_sizes_are_checked_once():
    made = NaFlexDataConfig.resolve(patch_sizes=[16, (32, 8)], patch_size_probs=[1.0, 3.0])
    assert made.train_patch_sizes == ((16, 16), (32, 8))
    assert (made.train_patch_size_probs, made.variable_patch_size) == ((0.25, 0.75), True)
    assert made.resolve_max_tokens_per_batch(2, per_row_text_tokens=6) == 2 * 1030
    for given, message in (
        ({"patch_sizes": [0]}, "patch size must be 1 or more"),
        ({"seq_lens": [0, 4]}, "sequence lengths must be 1 or more"),
        ({"max_tokens_per_batch": -1}, "max tokens per batch"),
        ({"seq_lens": [4, 8], "seq_len_probs": [1.0]}, "must match seq-lens length, 2"),
        ({"patch_sizes": [4, 8], "patch_size_probs": [-1.0, 2.0]}, "must be non-negative"),
        ({"patch_sizes": [4], "patch_size_probs": [0.0]}, "one above 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            NaFlexDataConfig.resolve(**given)
    said = Namespace(naflex_seq_lens=None, naflex_patch_sizes=None)
    made = naflex_data.create_naflex_data_config_from_args(said, (8, 8), 576)
    assert made.eval_config == ((8, 8), 576)


def test_an_epoch_has_its_samples_in_batches_within_the_budget():
    options = {"seq_lens": [16, 4, 8], "seq_len_choice_probs": [1.0, 2.0, 1.0]}
    made = Schedule(100, max_tokens_per_batch=64, batch_divisor=3, **options)
    assert (made.seq_lens, made.seq_len_probs) == ([4, 8, 16], [0.5, 0.25, 0.25])
    assert [made.rows(length) for length in made.seq_lens] == [15, 6, 3]
    first = made.epoch_schedule(0)
    assert sum(rows for _, rows in first) == 100
    assert all(rows <= made.rows(shape.seq_len) for shape, rows in first)
    assert made.epoch_schedule(1) != first == made.epoch_schedule(0)
    assert sorted(made.epoch_schedule(1)) == sorted(first)
    for epoch in (0, 1):  # each of seven loader processes has as many
        padded = made.epoch_schedule(epoch, num_workers=7)
        assert len(padded) == -(-len(first) // 7) * 7
        assert sum(rows for _, rows in padded) == sum(r for _, r in made.epoch_schedule(2, 7))
    # Tokens of two processes: nine each, and the last batch has a picture for one of them.
    made = Schedule(None, 17, seq_lens=[4], max_tokens_per_batch=8, world_size=2,
                    batch_divisor=1)  # fmt: skip
    assert [rows for _, rows in made.epoch_schedule(0)] == [2, 1]
    for both in ((None, None), (1, 1)):
        with pytest.raises(ConfigError, match="either train_num_samples or train_num_tokens"):
            Schedule(*both)


def test_pictures_become_patches_in_reading_order():
    picture = torch.arange(3 * 4 * 5).view(3, 4, 5).float()
    found = naflex_data.patchify(picture, (2, 4))
    assert found["patch_coord"].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    second = torch.zeros(2, 4, 3)
    second[:, 0] = picture[:, :2, 4].T
    assert torch.equal(found["patches"][1], second.flatten())
    batch = naflex_data.collate_patches([found], seq_len=6)
    assert batch["patch_valid"].tolist() == [[True] * 4 + [False] * 2]
    assert (batch["patches"].shape, batch["seq_len"]) == ((1, 6, 24), 6)
    assert naflex_data.collate_patches([found], 3)["patch_coord"].tolist() == [
        [[0, 0], [0, 1], [1, 0]]
    ]


def test_a_stage_makes_batches_and_skips_what_it_may():
    first, second = batcher().run(samples(4))
    assert first["image"]["patches"].shape == (2, 4, 48)
    assert second["text"].tolist() == [[2], [3]]
    assert [len(batch["text"]) for batch in batcher().run(samples(3))] == [2]
    assert [len(batch["text"]) for batch in batcher(drop_last=False).run(samples(3))] == [2, 1]
    skipped = []

    def decode(picture):
        if picture.getpixel((0, 0))[0] == 1:
            raise OSError("broken")
        return picture

    made = batcher(decode_fn=decode, decode_error_handler=lambda error: not skipped.append(error))
    assert [batch["text"].tolist() for batch in made.run(samples(5))] == [[[0], [2]], [[3], [4]]]
    assert "can't be used: broken" in str(skipped[0])
    for handler in (None, lambda error: False):
        with pytest.raises(SampleDecodeError, match="broken"):
            list(batcher(decode_fn=decode, decode_error_handler=handler).run(samples(5)))
    assert batcher(distributed=True, world_size=2).num_samples == 4
    assert (batcher(1).num_batches, batcher(1).num_samples_for_workers(4)) == (1, 4)


@pytest.fixture
def shard(tmp_path):
    save_shard(tmp_path / "a.tar", [f"{'x' * n}" for n in range(1, 9)])
    return str(tmp_path / "a.tar")


CONFIG = NaFlexDataConfig.resolve(
    patch_sizes=[4], seq_lens=[4, 8], max_tokens_per_batch=32, batch_divisor=1
)


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_give_each_sample_once_in_batches_of_their_own_shape(shard, workers):
    args = arguments(train_data=shard, workers=workers, variable_text=True)
    options = {"tokenizer": Letters(), "naflex_data_config": CONFIG}
    made = data.get_wds_dataset(args, factory, True, **options)
    seen = list[list[int]]()
    for epoch in range(2):
        made.set_epoch(epoch)
        lengths = list[int]()
        for batch in made.dataloader:
            rows, patches, _ = batch["image"]["patches"].shape
            assert rows * patches <= 32
            assert torch.equal(batch["text_valid"], batch["text"] != 99)
            lengths += batch["text_valid"].sum(1).tolist()
        seen.append(lengths)
    if not workers:  # with several, the first batches come again to give each as many
        assert [sorted(lengths) for lengths in seen] == [list(range(1, 9))] * 2
    assert len(made.dataloader) == made.dataloader.num_batches
    assert made.dataloader.num_samples == len(seen[0])
    assert seen[0] != seen[1]


def test_processes_share_an_epoch_and_texts_the_budget(shard, monkeypatch):
    args = arguments(train_data=shard)
    args.world_size, seen = 2, list[int]()
    traits = replace(CLIP_TRAITS, variable_text=True, naflex_text_in_token_budget=True)
    config = replace(CONFIG, train_seq_lens=(4,))
    for rank in range(2):
        monkeypatch.setattr(layout, "started_as", lambda rank=rank: (rank, 2))
        made = data.get_wds_dataset(
            args, factory, True, tokenizer=Letters(), model_traits=traits, naflex_data_config=config
        )
        for batch in made.dataloader:
            assert len(batch["text"]) == 2  # of 4 patches and 12 tokens of text each
            seen += batch["text_valid"].sum(1).tolist()
    assert sorted(seen) == list(range(1, 9))


def test_evaluation_gives_patches_of_all_samples(shard):
    args = arguments(val_data=shard, batch_size=3)
    made = data.get_wds_dataset(
        args, factory, False, tokenizer=Letters(), naflex_data_config=CONFIG
    )
    assert [batch["image"]["patches"].shape for batch in made.dataloader] == [
        (3, 8, 48),
        (3, 8, 48),
        (2, 8, 48),
    ]


def test_what_does_not_fit_is_said(shard):
    args = arguments(train_data=shard, val_data=shard)
    for is_train in (True, False):
        with pytest.raises(ConfigError, match="needs a factory of transforms"):
            data.get_wds_dataset(
                args, to_tensor, is_train, tokenizer=Letters(), naflex_data_config=CONFIG
            )
    args.train_num_samples = 4
    tokens = replace(CONFIG, train_num_image_tokens=64)
    with pytest.raises(ConfigError, match="--train-num-samples or --naflex-num-train-image-tokens"):
        data.get_wds_dataset(args, factory, True, tokenizer=Letters(), naflex_data_config=tokens)


def test_a_loss_is_scaled_by_the_size_of_a_batch():
    patches, squares = {"image": {"patches": torch.zeros(8, 4, 3)}}, {"image": torch.zeros(8, 3)}
    task = SimpleNamespace(batch_size=lambda batch: 8)
    scales = {"none": 1.0, "linear": 4.0, "sqrt": 2.0}
    for name, scale in scales.items():
        args = Namespace(naflex_loss_scale=name, batch_size=2)
        assert naflex_data.get_naflex_loss_scale(patches, args, task) == scale
        assert naflex_data.get_naflex_loss_scale(squares, args, task) == 1.0


def test_flags_are_a_loops_own():
    """`main` refuses them: see test_open_clip_train."""
    words = "--use-naflex --naflex-patch-sizes 8 16 --naflex-patch-size-probs 0.25 0.75"
    words += " --naflex-seq-lens 4 --naflex-max-tokens-per-batch 64 --naflex-loss-scale sqrt"
    args = parse_args([*words.split(), "--naflex-batch-divisor", "2", "--batch-size", "3"])
    assert (args.use_naflex, args.force_naflex_vision, args.batch_size) == (True, True, 3)
    assert args.aug_cfg == {"naflex": True, "use_timm": True}
    config = naflex_data.create_naflex_data_config_from_args(args)
    assert config.train_patch_sizes == ((8, 8), (16, 16))
    assert config.train_patch_size_probs == (0.25, 0.75)
    assert (config.train_seq_lens, config.max_tokens_per_batch) == ((4,), 64)
    assert (config.batch_divisor, args.naflex_loss_scale) == (2, "sqrt")
    plain = parse_args([])
    assert (plain.use_naflex, plain.naflex_loss_scale, plain.aug_cfg) == (False, "none", {})
    with pytest.raises(ConfigError, match="--naflex-seq-lens: invalid int value: 'many'"):
        parse_args(["--naflex-seq-lens", "many"])
    name = "naflex_ViT-B-16"
    text = {"width": 32, "layers": 1, "heads": 2}
    sizes = {"timm_model_kwargs": {"embed_dim": 16, "depth": 1, "num_heads": 2}}
    vision = {"timm_model_name": "naflexvit_base_patch16_gap"} | sizes
    small = {"text_cfg": text, "vision_cfg": vision, "force_naflex_vision": True}
    assert compat.create_model(name, load_weights=False, **small)
    plain = {"image_size": 32, "layers": 1, "width": 64}
    small = {"text_cfg": text, "vision_cfg": plain, "force_naflex_vision": True}
    made = compat.create_model("ViT-B-32", load_weights=False, **small)
    assert get_model_traits(made).image_input is InputMode.NAFLEX
    assert made.encode_image(torch.zeros(1, 3, 48, 32)).shape == (1, 512)
    with pytest.raises(ConfigError, match="can't become one for pictures of their own aspect"):
        compat.create_model("tiny-mammut", load_weights=False, force_naflex_vision=True)


def test_sizes_of_shards(tmp_path):
    args = Namespace(train_num_samples=None, val_num_samples=None)
    (tmp_path / "sizes.json").write_text('{"0.tar": 5, "1.tar": 7}')
    shards = str(tmp_path / "{0..1}.tar")
    assert data.get_wds_sizes(args, shards, True) == (12, 2)
    assert data.get_wds_sizes(args, shards, False) == (0, None)
    assert data.get_wds_sizes(args, "absent.tar", True, num_tokens=128) == (None, None)
    with pytest.raises(ConfigError, match="say --train-num-samples"):
        data.get_wds_sizes(args, "absent.tar", True)
    said = Namespace(train_num_samples=8, val_num_samples=3)
    assert data.get_wds_sizes(said, shards, True) == (8, None)
    assert data.get_wds_sizes(said, shards, False) == (3, None)
    with pytest.raises(ConfigError, match="Specify only one"):
        data.get_wds_sizes(said, shards, True, num_tokens=128)
