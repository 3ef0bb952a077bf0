"""The snippet on the card of CLIP-UniRepLKNet-L, and what its `strict=False` must not let
through."""

import pytest
import torch

from diptych.compat.unireplknet import unireplknet_a, unireplknet_l
from diptych.errors import CheckpointError
from diptych.families.unireplknet.deploy import deploy
from diptych.weights.state import State
from tests.families.unireplknet import golden_rules
from tests.models.peers import shake

CARD = """
model_large = unireplknet_l() ## provided in modeling_UniRepLKNet.py
print(model_large)
ckpt = torch.load("UniRepLKNet-L-b75k_s10B_CLIP-in1k_75.72.pt")
model_large.load_state_dict(ckpt,strict=False)
# Since we do not need cls heads in CLIP pretraining.
print("Loaded CLIP Pretrained Models")
"""
FILE = "UniRepLKNet-L-b75k_s10B_CLIP-in1k_75.72.pt"
PIXELS = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = unireplknet_a()
    shake(model)
    return model.eval()


def published(model, merged=False):
    state = State.of(model.trunk.state_dict())
    if merged:
        state, _ = deploy(state, model.trunk.config)
    return golden_rules.to_published(dict(state))


def features(model):
    with torch.no_grad():
        return model.eval().forward_features(PIXELS)


def run_card(factory, path):
    names = {"torch": torch, "unireplknet_l": factory}
    exec(CARD.replace(FILE, str(path)), names)
    return names["model_large"]


def test_the_cards_snippet(trained, tmp_path, capsys):
    """A small net of the family stands for the large one; nothing but the path changes."""
    torch.save(published(trained), tmp_path / FILE)
    model = run_card(unireplknet_a, tmp_path / FILE)
    assert torch.equal(features(model), features(trained))
    assert capsys.readouterr().out.endswith("Loaded CLIP Pretrained Models\n")


@pytest.mark.slow
def test_the_cards_snippet_at_full_size(tmp_path):
    torch.manual_seed(0)
    torch.save(published(unireplknet_l()), tmp_path / FILE)
    assert features(run_card(unireplknet_l, tmp_path / FILE)).shape == (1, 1536)


def test_what_strict_false_ignores_is_returned(trained):
    tensors = published(trained) | {
        "head.proj.weight": torch.ones(4, 320),
        "logit_scale": torch.ones(()),
    }
    model = unireplknet_a()
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert (missing, unexpected) == (
        ["head.weight", "head.bias"],
        ["head.proj.weight", "logit_scale"],
    )
    assert torch.equal(features(model), features(trained))
    with pytest.raises(
        CheckpointError, match="head.weight, head.bias, head.proj.weight are missing or unexpected"
    ):
        model.load_state_dict(tensors)


def test_a_classifier_comes_along_if_it_fits(trained):
    head = {"head.weight": torch.randn(1000, 320), "head.bias": torch.randn(1000)}
    model = unireplknet_a()
    model.load_state_dict(
        {f"module.{name}": tensor for name, tensor in (published(trained) | head).items()}
    )
    with torch.no_grad():
        wanted = features(trained) @ head["head.weight"].T + head["head.bias"]
        torch.testing.assert_close(model.eval()(PIXELS), wanted, rtol=0, atol=1e-5)
    with pytest.raises(
        CheckpointError, match=r"head.weight is \[1000, 320\] where the model has \[10, 320\]"
    ):
        unireplknet_a(num_classes=10).load_state_dict(published(trained) | head, strict=False)


def test_a_wrong_prefix_loads_nothing_and_says_so(trained):
    with pytest.raises(CheckpointError, match="are missing"):
        unireplknet_a().load_state_dict(
            {f"teacher.{n}": t for n, t in published(trained).items()}, strict=False
        )


def test_forms_are_recognised_and_merged(trained):
    merged = unireplknet_a(deploy=True)
    for tensors in (published(trained), published(trained, merged=True)):
        merged.load_state_dict(tensors, strict=False)
        torch.testing.assert_close(features(merged), features(trained), rtol=0, atol=1e-5)
    with pytest.raises(CheckpointError, match="build it with deploy=True"):
        unireplknet_a().load_state_dict(published(trained, merged=True), strict=False)


def test_no_part_of_the_trunk_may_be_missing(trained):
    tensors = published(trained)
    del tensors["stages.1.0.dwconv.lk_origin.weight"]
    with pytest.raises(CheckpointError, match="mix.dense.weight is missing"):
        unireplknet_a().load_state_dict(tensors, strict=False)
