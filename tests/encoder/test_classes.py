"""Class vectors from templates."""

import pytest
import torch
from torch.nn.functional import normalize

from diptych.encoder import class_vectors
from diptych.errors import ConfigError


def embed(texts: list[str]) -> torch.Tensor:
    return torch.stack([normalize(torch.tensor([len(t), t.count("a"), 1.0]), dim=0) for t in texts])


def test_the_mean_of_unit_vectors_at_unit_length():
    names, templates = ["cat", "{odd}"], ["a {}", "{} {}"]
    vectors = class_vectors(embed, names, templates)
    for name, vector in zip(names, vectors):
        mean = embed([f"a {name}", f"{name} {name}"]).mean(0)
        assert vector.tolist() == pytest.approx((mean / mean.norm()).tolist())


def test_all_prompts_in_one_call():
    calls = []
    class_vectors(
        lambda texts: calls.append(len(texts)) or embed(texts), ["a", "b"], ["{}", "a {}", "the {}"]
    )
    assert calls == [6]


@pytest.mark.parametrize(("names", "templates"), [([], ["{}"]), (["a"], []), (["a"], ["a photo"])])
def test_what_cannot_work_is_said(names, templates):
    with pytest.raises(ConfigError):
        class_vectors(embed, names, templates)
