"""No flag of `diptych evaluate` is ignored without a word."""

from dataclasses import replace

import pytest
import torch

from diptych import datasets, pretrained
from diptych.cli import main
from diptych.encoder import Encoder
from diptych.errors import ConfigError
from diptych.evaluation import evaluate
from diptych.models import build
from tests import tiny
from tests.datasets.miniature import write


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "tiny", *map(str, arguments)])
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tasks", "imagenet1k", "--templates", "declip-1"), "--templates would be ignored"),
        (
            ("--tasks", "imagenet1k", "--templates", "simple"),
            "templates and layout of imagenet1k are known",
        ),
        (
            ("--tasks", "eva27", "--class-names", "names.txt"),
            "1k, imagenet-a, imagenet-r, …",
        ),
        (
            ("--tasks", "cifar10", "--task", "retrieval"),
            "--task would be ignored: it",
        ),
        (("--data", "synthetic:8", "--profile", "openai"), "--profile would be ignored"),
        (("--data", "synthetic:8", "--sizes", "warn"), "--sizes would be ignored"),
        (("--data", "synthetic:8", "--data-root", "x"), "--data-root would be ignored"),
        (("--data", "synthetic:8", "--together", "1"), "--together would be ignored"),
        (("--tasks", "synthetic:8", "--profile", "openai"), "data of your own has none"),
        (("--data", "synthetic:8", "--shots", "4"), "--shots would be ignored: it is for fewshot"),
        (("--tasks", "linear/synthetic:8", "--templates", "simple"), "have no captions"),
        (("--tasks", "cifar10", "--image-key", "png"), "--image-key would be ignored"),
        (
            ("--tasks", "cifar10,coco", "--frames", "8"),
            "--frames would be ignored: it is for sets of",
        ),
        (("--data", "synthetic:8", "--frames", "8"), "--frames would be ignored"),
        (("--tasks", "ucf101", "--frames", "0"), "--frames 0 must be a number of at least 1"),
        (("--tasks", "ucf101", "--frames", "8", "--by", "tokens"), "patches of one picture a clip"),
        (
            ("--data", "a.csv", "--task", "retrieval", "--templates", "simple"),
            "retrieval takes the data's captions",
        ),
    ],
)
def test_a_flag_that_nothing_uses_is_refused(capsys, arguments, said):
    assert run(*arguments) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_python_refuses_them_as_well():
    with pytest.raises(ConfigError, match="data of your own"):
        evaluate(tiny.encoder(), "cifar10", templates="simple")


def test_where_one_task_is_data_of_ones_own_they_are_used(tmp_path):
    found = evaluate(
        tiny.encoder(), "synthetic:16,cifar10", data_root=tmp_path, templates="a {}, drawn."
    )
    assert found.only().protocol["templates"] == ["a {}, drawn."]


def test_known_sets_are_asked_token_by_token(tmp_path):
    torch.manual_seed(0)
    encoder = Encoder(build(replace(pretrained.get("tiny"), token_dim=16)).eval())
    write(datasets.get("cifar10"), tmp_path)
    options = {"data_root": tmp_path, "sizes": "warn", "profile": "declip"}
    found = evaluate(encoder, "cifar10", by="tokens-as-published", **options).only()
    assert "at each position of the context" in found.protocol["ensembling"]
    assert len(found.protocol["templates"]) == 18
    [why] = evaluate(encoder, "linear/cifar10", by="tokens", **options).failures.values()
    assert why.startswith(("--by tokens is for zero-shot", "CIFAR-10 (split train)"))
