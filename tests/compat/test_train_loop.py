"""open_clip_train's modules for training loops of one's own, beside the peer's."""

import copy
import json
import logging
from types import SimpleNamespace
from unittest import TestCase

import numpy as np
import pandas as pd
import pytest
import torch
from open_clip_train import scheduler as their_scheduler
from open_clip_train import train as theirs
from torch import nn

from diptych import compat
from diptych.compat.open_clip_train import (
    distributed,
    legacy_main,
    logger,
    main,
    metrics,
    scheduler,
    train,
)
from diptych.compat.open_clip_train.datasets import CsvDataset, SyntheticDataset
from diptych.compat.open_clip_train.precision import get_autocast
from diptych.compat.open_clip_train.zero_shot import zero_shot_eval
from diptych.compat.task import TrainingTask
from diptych.errors import AssumptionWarning, ConfigError, DataError
from tests.compat.sections import TEXT, VISION


class Tiny(nn.Module):
    """What open_clip's loop asks of a model, in double precision."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(6, 4), nn.Embedding(9, 4)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.double()

    def forward(self, image, text):
        return {
            "image_features": nn.functional.normalize(self.image(image), dim=-1),
            "text_features": nn.functional.normalize(self.text(text).mean(1), dim=-1),
            "logit_scale": self.logit_scale.exp(),
        }


def options(**changes):
    args = {"device": "cpu", "precision": "fp32", "rank": 0, "world_size": 1, "accum_freq": 1}
    args |= {"grad_clip_norm": 1.0, "skip_scheduler": False, "log_every_n_steps": 1}
    args |= {"batch_size": 4, "distill": False, "horovod": False, "wandb": False, "epochs": 2}
    args |= {"distributed": False, "val_frequency": 1, "zeroshot_frequency": 1, "save_logs": False}
    return SimpleNamespace(**args | changes)


class Loader(list):
    num_samples = 16

    @property
    def num_batches(self):
        return len(self)


def batches(rows=4, count=4):
    made = torch.Generator().manual_seed(1)
    return Loader(
        (
            torch.randn(rows, 6, generator=made, dtype=torch.float64),
            torch.randint(9, (rows, 3), generator=made),
        )
        for _ in range(count)
    )


def train_data(loader):
    return {"train": SimpleNamespace(dataloader=loader, set_epoch=lambda epoch: None)}


def after_an_epoch(module, loader, **changes):
    model, args = Tiny(), options(**changes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = scheduler.cosine_lr(optimizer, 0.1, 1, 8)
    teacher = copy.deepcopy(model).eval() if args.distill else None
    loss = compat.DistillClipLoss() if args.distill else compat.ClipLoss()
    data = train_data(loader)
    module.train_one_epoch(model, data, loss, 0, optimizer, None, schedule, teacher, args)
    return dict(model.named_parameters())


@pytest.mark.parametrize("changes", [{}, {"distill": True}, {"grad_clip_norm": None}])
def test_an_epoch_is_open_clips(changes):
    mine = after_an_epoch(train, batches(), **changes)
    for name, peer in after_an_epoch(theirs, batches(), **changes).items():
        torch.testing.assert_close(mine[name], peer)


def test_accumulated_batches_are_one_batch():
    parts = batches()
    whole = Loader([tuple(torch.cat(each) for each in zip(*parts, strict=True))])
    mine = after_an_epoch(train, parts, accum_freq=4)
    for name, one in after_an_epoch(train, whole).items():
        torch.testing.assert_close(mine[name], one)


def test_a_batch_by_names_is_the_same():
    named = Loader({"image": images, "text": texts} for images, texts in batches())
    one, other = after_an_epoch(train, named), after_an_epoch(train, batches())
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("rate", [1e-3, 0.0])
@pytest.mark.parametrize("warmup", [3, 0, 2.5])
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("cosine_lr", ()),
        ("const_lr", ()),
        ("const_lr_cooldown", (4, 2.0, 1e-5)),
        ("const_lr_cooldown", (0, 3.0)),
        ("const_lr_cooldown", (12,)),
    ],
)
def test_rates_are_open_clips(name, more, warmup, rate):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    mine = getattr(scheduler, name)(optimizer, rate, warmup, 10, *more)
    peer = getattr(their_scheduler, name)(optimizer, rate, warmup, 10, *more)
    assert [mine(step) for step in range(10)] == pytest.approx([peer(step) for step in range(10)])


def test_groups_have_a_scale_of_their_own():
    groups = [{"params": [torch.zeros(1)], "lr_scale": 0.5}, {"params": [torch.zeros(1)]}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    scheduler.assign_learning_rate(optimizer, 0.2)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2]
    assert scheduler.get_learning_rate(optimizer) == 0.2
    scheduler.tensorize_learning_rate(optimizer)
    rates = [group["lr"] for group in optimizer.param_groups]
    scheduler.assign_learning_rate(optimizer, 0.4)
    assert rates == [pytest.approx(0.2), pytest.approx(0.4)]  # the same tensors
    assert scheduler.get_learning_rate(optimizer) == pytest.approx(0.4)


def test_retrieval_is_open_clips_in_pieces_too():
    torch.manual_seed(0)
    images, texts = (nn.functional.normalize(torch.randn(12, 5), dim=-1) for _ in range(2))
    peer = theirs.get_clip_metrics(images, texts, torch.tensor(3.0))
    mine = metrics.get_clip_metrics(images.split(5), texts.split(7), retrieval_chunk_size=3)
    assert mine == pytest.approx({name: float(value) for name, value in peer.items()})


def test_equal_vectors_stand_in_the_order_of_their_rows():
    """A collapsed model recalls as much as by chance, as open_clip's stable order has it."""
    same = torch.ones(8, 4) / 2
    found = metrics.get_clip_metrics(same, same)
    for way in ("image_to_text", "text_to_image"):
        assert found[f"{way}_mean_rank"] == 4.5
        assert (found[f"{way}_R@1"], found[f"{way}_R@5"]) == (1 / 8, 5 / 8)
    rows = torch.eye(4)[[0, 1, 1, 2]]  # the second's equal is behind it, the third's before
    found = metrics.get_clip_metrics(rows, rows)
    assert found["image_to_text_R@1"] == 0.75


def test_evaluation_is_open_clips(tmp_path):
    args = options(save_logs=True, checkpoint_path=str(tmp_path))
    found = [
        module.evaluate(Tiny(), {"val": SimpleNamespace(dataloader=batches())}, 1, args)
        for module in (train, theirs)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == found[0]
    assert not train.evaluate(Tiny(), {}, 1, options(rank=1))


def test_zero_shot_of_a_model_in_between(monkeypatch):
    model, names = compat.CLIP(32, VISION, TEXT), list("abcdef")
    monkeypatch.setattr("diptych.compat.open_clip_train.zero_shot.IMAGENET_CLASSNAMES", names)

    def tokenizer(texts):
        return torch.tensor([[1 + len(text) % 50, ord(text[-2]) % 60] * 4 for text in texts])

    pictures, templates = torch.rand(3, 3, 32, 32), compat.OPENAI_IMAGENET_TEMPLATES
    classes = compat.build_zero_shot_classifier(model, tokenizer, names, templates)
    order = (model.encode_image(pictures, normalize=True) @ classes).argsort(descending=True)
    target = torch.stack([order[0, 0], order[1, 3], order[2, -1]])
    data = {"imagenet-v2": SimpleNamespace(dataloader=[(pictures, target)])}
    found = zero_shot_eval(model, data, 2, options(zeroshot_frequency=2), tokenizer)
    assert list(found.values()) == [1 / 3, 2 / 3]
    assert next(iter(found)) == "imagenetv2-zeroshot-val-top1"
    assert zero_shot_eval(model, data, 1, options(zeroshot_frequency=3), tokenizer) == {}


def test_a_state_of_a_task_is_trained_and_gone_on_with():
    model, args = compat.CLIP(32, VISION, TEXT, output_dict=True), options(accum_freq=2)
    task = compat.CLIPTask(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = train.TrainState(task, optimizer, scheduler=lambda step: None, epoch=1)
    rows = {"image": torch.rand(2, 3, 32, 32), "text": torch.ones(2, 8).long()}
    before = model.visual.conv1.weight.detach().clone()
    train.train_one_epoch(state, train_data(Loader([rows] * 4)), args)
    assert (state.global_step, state.samples_seen) == (4, 8)
    assert not torch.equal(before, model.visual.conv1.weight)
    for metadata, wanted in (({"global_step": 7, "samples_seen": 42}, (7, 42)), ({}, (2, 16))):
        train.restore_train_state_counters(state, metadata, train_data(batches()), args)
        assert (state.global_step, state.samples_seen) == wanted


def test_batches_together_need_vectors_of_pairs():
    class Plain(TrainingTask):
        data_keys = ("image", "text")

    state = train.TrainState(Plain(Tiny()), torch.optim.SGD(Tiny().parameters()))
    with pytest.raises(ConfigError, match="Plain takes no batches together: set accum_freq 1"):
        train.train_one_epoch(state, train_data(batches()), options(accum_freq=2))


@pytest.mark.parametrize(
    ("parts", "said"),
    [((), "has no image tower"), (("visual",), "has no image tower"), (("encode_image",), "")],
)
def test_zero_shot_needs_both_towers(parts, said):
    held = {name: object() for name in ("visual", *parts) if parts}
    model = SimpleNamespace(module=SimpleNamespace(**held))
    data = {"imagenet-val": SimpleNamespace(dataloader=[])}
    if said:
        with pytest.raises(ConfigError, match=said):
            zero_shot_eval(model, data, 1, options())
        return
    with TestCase().assertLogs() as logged:
        assert zero_shot_eval(model, data, 1, options()) == {}
    assert "no text tower" in logged.output[0]


def test_the_newest_checkpoint(tmp_path):
    assert main.get_latest_checkpoint(str(tmp_path)) is None
    for name in (
        "archive/epoch_2.pt",
        "archive/epoch_10.pt",
        "epoch_20/.metadata",
        "epoch_30/part",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert main.get_latest_checkpoint(str(tmp_path)) == str(tmp_path / "epoch_20")
    newest = legacy_main.get_latest_checkpoint(str(tmp_path), False)
    assert newest == str(tmp_path / "archive" / "epoch_10.pt")


@pytest.mark.parametrize("module", [main, legacy_main])
def test_the_newest_checkpoint_of_a_bucket(module, monkeypatch):
    lines = b"   PRE code/\n2026-01-01 01:00 9 epoch_2.pt\n2026-01-01 02:00 9 epoch_10.pt\n"
    said = SimpleNamespace(returncode=0, stdout=lines, stderr=b"\nUnable to locate credentials\n")
    asked = []
    monkeypatch.setattr("subprocess.run", lambda words, **_: asked.append(words) or said)
    assert module.get_latest_checkpoint("s3://a/run", True) == "s3://a/run/epoch_10.pt"
    assert asked == [["aws", "s3", "ls", "s3://a/run/"]]
    said.returncode = 1
    assert module.get_latest_checkpoint("s3://a/run", True) is None
    said.returncode = 253
    with pytest.raises(ConfigError, match="s3 ls`: Unable to locate credentials$"):
        module.get_latest_checkpoint("s3://a/run", True)


def test_a_bucket_needs_its_program(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="s3://a is remote, and `aws` isn't installed"):
        main.get_latest_checkpoint("s3://a", True)


def test_seeds_are_open_clips():
    main.random_seed(19, rank=2)
    assert np.random.rand() == np.random.RandomState(21).rand()
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(21))


def test_alone_a_process_is_the_master():
    args = SimpleNamespace(device="cpu")
    assert distributed.init_distributed_device(args) == torch.device("cpu")
    assert (args.rank, args.local_rank, args.world_size, args.distributed) == (0, 0, 1, False)
    assert distributed.is_master(args)
    assert distributed.is_master(args, local=True)
    assert distributed.broadcast_object(args, "said") == "said"
    if not torch.cuda.is_available():
        with pytest.warns(AssumptionWarning, match="no GPU"):
            assert distributed.init_distributed_device_so("cuda")["device"] == "cpu"


def test_words_of_precision():
    with get_autocast("amp_bfloat16", "cpu")():
        assert (torch.eye(2) @ torch.eye(2)).dtype == torch.bfloat16
    with get_autocast("pure_bf16", "cpu")():
        assert (torch.eye(2) @ torch.eye(2)).dtype == torch.float32


def test_a_log_is_kept_in_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.WARNING)
    monkeypatch.setattr(logging.root.manager, "loggerDict", {})
    logger.setup_logging(str(tmp_path / "out.log"), logging.INFO, include_host=True)
    logging.info("an epoch")
    for handler in logging.root.handlers:
        handler.close()
    assert (tmp_path / "out.log").read_text().endswith("| INFO | an epoch\n")


def test_a_table_is_a_data_set(tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    (tmp_path / "pairs.csv").write_text("filepath\ttitle\na.png\t7\nb.png\tnone\n")
    pairs = CsvDataset(
        str(tmp_path / "pairs.csv"), lambda x: x.size, "filepath", "title", tokenizer=lambda x: x
    )
    assert len(pairs) == 2
    assert pairs[0] == {"image": (8, 6), "text": "7"}
    assert pairs.images.equals(pd.Series(["a.png", "b.png"]))
    assert pairs.captions.equals(pd.Series(["7", "none"]))
    with pytest.raises(DataError, match="b.png"):
        pairs[1]
    picture, ids = SyntheticDataset(lambda x: x.size, tokenizer=compat.tokenize)[3]
    assert picture == (224, 224)
    assert ids.shape == (77,)


def test_a_model_of_tuples_is_refused():
    task = compat.CLIPTask(compat.CLIP(32, VISION, TEXT)).train()
    with pytest.raises(ConfigError, match="output_dict=True"):
        task(torch.rand(2, 3, 32, 32), torch.ones(2, 8).long())
