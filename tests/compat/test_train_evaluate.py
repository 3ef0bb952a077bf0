"""What is measured of a task: averaged weights, over one process's batches, with a batch's mask."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from diptych import compat
from diptych.compat.model_traits import COCA_TRAITS
from diptych.compat.open_clip_train.evaluate import evaluate
from diptych.compat.open_clip_train.zero_shot import run_zero_shot_classifier
from diptych.errors import ConfigError
from tests.compat.sections import TEXT, VISION
from tests.compat.test_train_loop import options


def pairs(**more):
    made = torch.Generator().manual_seed(3)
    text = torch.randint(1, 60, (4, 8), generator=made)
    return {"image": torch.rand(4, 3, 32, 32, generator=made), "text": text, **more}


def measured(model, batch):
    return evaluate(model, {"val": SimpleNamespace(dataloader=[batch])}, 1, options())


def ids(texts):
    return torch.tensor([[1 + len(text), *text.ljust(7).encode()[-7:]] for text in texts]) % 60


def test_averaged_weights_are_measured():
    torch.manual_seed(0)
    task = compat.CLIPTask(compat.CLIP(32, VISION, TEXT, output_dict=True)).setup_ema(0.5)
    average = task.trainable_module_ema.module
    nn.init.normal_(average.text_projection)
    found = measured(task, pairs())
    assert found == measured(average, pairs())
    assert found["clip_val_loss"] != measured(task.trainable_module, pairs())["clip_val_loss"]
    given = (ids, ["ox", "owl"], ["a {}"])
    classes = compat.build_zero_shot_classifier(task, *given)
    assert torch.equal(classes, compat.build_zero_shot_classifier(average, *given))
    nn.init.normal_(average.visual.proj)
    loader = [(pairs()["image"], torch.tensor([0, 1, 0, 1]))]
    accuracies = [
        run_zero_shot_classifier(each, classes, loader, options()) for each in (task, average)
    ]
    assert accuracies[0] == accuracies[1]


def test_a_captioner_is_told_which_ids_are_a_texts():
    class Captioner(nn.Module):
        traits, pad_id, told = COCA_TRAITS, 0, []

        def forward(self, image, text, text_valid=None):
            self.told.append(text_valid)
            vectors = nn.functional.normalize(image.mean((2, 3)), dim=-1)
            found = {"image_features": vectors, "text_features": vectors.flip(0)}
            return {**found, "logit_scale": torch.ones(()), "logits": torch.zeros(4, 8, 60)}

    valid = torch.arange(8).expand(4, 8) < 5
    measured(compat.CoCaTask(Captioner()), pairs(text_valid=valid))
    assert torch.equal(Captioner.told[0], valid)


class Rows:
    """Its pictures are their own vectors."""

    def __init__(self):
        self.seen = []

    def create_dummy_batch(self, batch_size, device, dtype):
        return {"image": torch.zeros(batch_size, 3, device=device, dtype=dtype)}

    def __call__(self, image):
        self.seen.append(len(image))
        return {"image_features": image}


def test_all_processes_run_over_the_first_ones_batches(monkeypatch):
    said = []
    monkeypatch.setattr("torch.distributed.broadcast", lambda word, src: said.append(int(word)))
    loader = [(torch.eye(3)[:count], torch.arange(count)) for count in (2, 3)]
    first, other = Rows(), Rows()
    shared = {"use_fsdp_eval": True}
    given = (torch.eye(3), loader, options())
    assert run_zero_shot_classifier(first, *given, **shared) == (1.0, 1.0)
    assert (first.seen, said) == ([2, 3], [1, 1, 0])
    heard = iter(said)
    monkeypatch.setattr("torch.distributed.broadcast", lambda word, src: word.fill_(next(heard)))
    given = (torch.eye(3), None, options(rank=1))
    assert run_zero_shot_classifier(other, *given, **shared) == (0.0, 0.0)
    assert (other.seen, list(heard)) == ([1, 1], [])


def test_shards_that_cannot_be_measured_are_refused():
    given = (torch.eye(3), [], options())
    with pytest.raises(ConfigError, match="none of the processes have met"):
        run_zero_shot_classifier(Rows(), *given, use_fsdp_eval=True)
    given = (torch.eye(3), [], options(rank=1))
    with pytest.raises(ConfigError, match="is evaluated as a task"):
        run_zero_shot_classifier(nn.Linear(3, 3), *given, use_fsdp_eval=True)
