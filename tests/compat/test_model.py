"""Models with open_clip's face beside open_clip's own, with the same weights."""

import copy

import pytest
import torch
from torch import nn

from diptych import compat, models, pretrained
from diptych.compat.utils import to_2tuple
from diptych.errors import ConfigError
from diptych.families.eva.layouts import eva
from tests.compat.peers import KINDS, ours_of, peer_of

pytest.importorskip("open_clip")
NEAR = {"rtol": 1e-5, "atol": 1e-5}


class Within(nn.Module):
    """A user's own module around a model."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model


def inputs(model: compat.OpenClipModel) -> tuple[torch.Tensor, torch.Tensor]:
    size, _ = to_2tuple(model.visual.image_size)
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    return pixels, compat.tokenize(["a cat", "two dogs on a mat"])


@pytest.fixture(params=KINDS)
def pair(request, quiet):
    """open_clip's model, and ours with its weights."""
    peer, ours = peer_of(request.param), ours_of(request.param)
    ours.load_state_dict(peer.state_dict())
    return peer, ours


@torch.no_grad()
def test_outputs_are_open_clips(pair):
    peer, ours = pair
    pixels, ids = inputs(ours)
    for given in ({"image": pixels, "text": ids}, {"image": pixels}, {"text": ids}):
        found, expected = ours(**given), peer(**given)
        assert isinstance(found, tuple)
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected):
            torch.testing.assert_close(mine, theirs, **NEAR)  # shapes count, that of the scale too
    assert ours(pixels)[1] is None
    for mine, theirs in zip(ours.get_logits(pixels, ids), peer.get_logits(pixels, ids)):
        torch.testing.assert_close(mine, theirs, **NEAR)
    for normalize in (False, True):
        mine, theirs = (m.encode_image(pixels, normalize=normalize) for m in pair)
        torch.testing.assert_close(mine, theirs, **NEAR)
    peer.output_dict = ours.output_dict = True
    found, expected = ours(pixels, ids), peer(pixels, ids)
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], **NEAR)


@torch.no_grad()
def test_the_image_tower_gives_what_open_clips_gives(pair):
    peer, ours = pair
    pixels, _ = inputs(ours)
    torch.testing.assert_close(ours.visual(pixels), peer.visual(pixels), **NEAR)
    peer.visual.output_tokens = ours.visual.output_tokens = True
    expected = peer.visual(pixels)
    if not isinstance(expected, tuple):  # open_clip passes it over for towers without tokens
        with pytest.raises(ConfigError, match="output_tokens"):
            ours.visual(pixels)
        return
    pooled, tokens = ours.visual(pixels)
    torch.testing.assert_close(pooled, expected[0], **NEAR)
    torch.testing.assert_close(tokens, expected[1], **NEAR)


def test_attributes(pair):
    peer, ours = pair
    assert (ours.context_length, ours.vocab_size) == (peer.context_length, peer.vocab_size)
    assert ours.logit_scale.shape == peer.logit_scale.shape == ()
    assert (ours.logit_bias is None) == (peer.logit_bias is None)
    assert ours.visual.image_size == peer.visual.image_size
    said = [getattr(model.visual, "output_dim", None) for model in pair]
    assert said[0] == said[1]
    assert ours.dtype == torch.float32


def test_names_go_both_ways(pair):
    peer, ours = pair
    state = peer.state_dict()
    back = ours.state_dict()
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(back[name], tensor), name
        assert back[name].shape == tensor.shape
    peer.load_state_dict(back)
    names = dict(ours.named_parameters())
    assert names.keys() == dict(peer.named_parameters()).keys()
    assert set(names.values()) == set(ours.parameters())
    assert ours.visual.state_dict().keys() == peer.visual.state_dict().keys()


def test_parameters_stand_in_open_clips_order(pair):
    """An optimiser's state goes by it. timm's towers are ours inside, in an order of their own."""
    for listed in ("named_parameters", "state_dict"):
        found = [dict(getattr(model, listed)()) for model in pair]
        theirs, mine = ([name for name in names if ".trunk." not in name] for names in found)
        assert mine == theirs


def test_freezing_by_name_freezes(pair):
    _, ours = pair
    for model in pair:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith("visual."))
    frozen = [{name for name, p in m.named_parameters() if not p.requires_grad} for m in pair]
    assert frozen[0] == frozen[1]
    assert not any(p.requires_grad for p in ours.clip.image.parameters())
    assert all(p.requires_grad for p in ours.clip.text.parameters())


def test_what_is_missing_and_what_is_unexpected_is_said(pair):
    peer, ours = pair
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    part = {"ln_final.weight": torch.full((64,), 2.0), "foo": torch.zeros(1)}
    part |= {"visual.foo": torch.zeros(1)}
    found, expected = (m.load_state_dict(part, strict=False) for m in (ours, peer))
    assert set(found.missing_keys) == set(expected.missing_keys)
    assert set(found.unexpected_keys) == set(expected.unexpected_keys) == {"foo", "visual.foo"}
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, part.get(name, before[name])), name
    with pytest.raises(RuntimeError, match="Missing key.*ln_final.bias"):
        ours.load_state_dict(part)
    with pytest.raises(RuntimeError, match="size mismatch for ln_final.weight: "):
        ours.load_state_dict(before | {"ln_final.weight": torch.zeros(3)}, strict=False)


def test_names_hold_below_another_module_and_in_copies(quiet):
    peer, ours = peer_of("vit"), ours_of("vit")
    outer = Within(copy.deepcopy(ours))
    outer.load_state_dict(Within(peer).state_dict())
    assert torch.equal(outer.model.clip.text.tokens.weight, peer.token_embedding.weight)
    assert outer.state_dict().keys() == Within(peer).state_dict().keys()
    frozen = [name for name, _ in outer.named_parameters() if name.startswith("model.visual.")]
    assert len(frozen) == len(list(outer.model.clip.image.parameters()))
    assert not torch.equal(ours.clip.text.tokens.weight, peer.token_embedding.weight)


def test_other_layouts_load_by_their_own_names(published):
    """eva_clip's state dicts, whose query, key and value stand apart as timm's do."""
    model = compat.create_model(published.config, load_weights=False)
    theirs = eva.export_table(published.model.config.image)
    model.load_state_dict(theirs.to_foreign(published.model.state_dict()))
    for name, tensor in published.model.state_dict().items():
        assert torch.equal(model.clip.state_dict()[name], tensor)
    query = "visual.trunk.blocks.0.attn.q_proj.weight"
    part = {query: torch.zeros_like(model.state_dict()[query])}
    assert query not in model.load_state_dict(part, strict=False).missing_keys
    assert torch.equal(model.state_dict()[query], part[query])
    key = query.replace("q_proj", "k_proj")
    assert model.state_dict()[key].any()


def test_our_own_names_load_too(quiet):
    ours, other = ours_of("vit"), models.build(ours_of("vit").config)
    ours.load_state_dict(other.state_dict())
    for name, tensor in other.state_dict().items():
        assert torch.equal(ours.clip.state_dict()[name], tensor)


def test_towers_that_open_clip_hasnt_have_our_names_behind_its_own():
    model = compat.OpenClipModel(models.build(pretrained.get("tiny")))
    state = model.state_dict()
    stem = [name for name in model.clip.state_dict() if name.startswith("image.stem.")]
    assert stem
    assert {f"visual.{name.removeprefix('image.')}" for name in stem} <= state.keys()
    assert all(name in state for name, _ in model.named_parameters())
    other = compat.OpenClipModel(models.build(pretrained.get("tiny")))
    other.load_state_dict(state)
    for name, tensor in model.clip.state_dict().items():
        assert torch.equal(other.clip.state_dict()[name], tensor)


def test_training_moves_the_model_that_is_saved(quiet):
    """One step of an optimiser over named_parameters, against open_clip's."""
    peer, ours = peer_of("bias"), ours_of("bias")
    ours.load_state_dict(peer.state_dict())
    pixels, ids = inputs(ours)
    for model in (peer, ours):
        optimizer = torch.optim.SGD([p for _, p in model.named_parameters()], lr=0.1)
        model.get_logits(pixels, ids)[0].diagonal().sum().backward()
        optimizer.step()
    for name, tensor in peer.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    assert ours.clip.logit_scale.shape == (1,)
    assert ours.clip.logit_scale.item() == ours.logit_scale.item()
