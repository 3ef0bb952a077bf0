"""open_clip's `TimmModel`, beside the peer's of the same arguments and weights."""

import pytest
import torch
from open_clip.timm_model import TimmModel as Peer
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from diptych import compat
from diptych.compat.open_clip_train.optim import make_wd_exclude
from diptych.compat.timm_model import TimmModel
from diptych.errors import AssumptionWarning, ConfigError
from diptych.models.shapes import shapes_only
from tests.compat.peers import TEXT

NEAR = {"rtol": 1e-5, "atol": 1e-5}
PIXELS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
CASES = {
    "linear": ("resnet10t", {"proj_bias": True}, 64),
    "mlp": ("resnet10t", {"proj": "mlp", "drop_path": 0.1}, 64),
    "none": ("resnet10t", {"proj": "none"}, 64),
    "classifier": ("test_vit", {"proj": None, "pool": "token"}, 160),
    "patches": ("test_vit", {"patch_drop": 0.5, "pool": ""}, 160),
    "attention": ("resnet10t", {"pool": "abs_attn", "proj": ""}, 176),
    "rotary": ("resnet10t", {"pool": "rot_attn", "proj": "linear"}, 64),
}


def pair(case):
    name, options, size = CASES[case]
    peer, ours = (kind(name, 12, image_size=size, **options).eval() for kind in (Peer, TimmModel))
    ours.load_state_dict(peer.state_dict())
    pixels = torch.nn.functional.interpolate(PIXELS, (size, size))
    return peer, ours, pixels


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_vectors_and_what_blocks_give(case):
    peer, ours, pixels = pair(case)
    torch.testing.assert_close(ours(pixels), peer(pixels), **NEAR)
    options = {"indices": 1, "output_extra_tokens": "vit" in CASES[case][0]}
    found, wanted = (model.forward_intermediates(pixels, **options) for model in (ours, peer))
    assert found.keys() == wanted.keys()
    for name in found:
        torch.testing.assert_close(found[name], wanted[name], **NEAR)
    alone = ours.forward_intermediates(pixels, indices=1, intermediates_only=True)
    assert alone.keys() == {"image_intermediates"}


@pytest.mark.filterwarnings("ignore:Importing from timm.models.helpers")  # the peer does
@pytest.mark.parametrize("case", ["linear", "classifier"])
@pytest.mark.parametrize("unlocked", [0, 1, 2])
def test_locks(case, unlocked):
    peer, ours, _ = pair(case)
    for model in (peer, ours):
        model.lock(unlocked_groups=unlocked, freeze_bn_stats=True)
    trained = [
        {name for name, each in model.named_parameters() if each.requires_grad}
        for model in (peer, ours)
    ]
    assert trained[0] == trained[1]
    norms = [
        {name for name, each in model.named_modules() if isinstance(each, FrozenBatchNorm2d)}
        for model in (peer, ours)
    ]
    assert norms[0] == norms[1]


def test_layers_and_decay():
    """As open_clip's main branch has them."""
    model = TimmModel("test_vit", 12, image_size=160)
    names = [name for name, _ in model.layer_groups()]
    assert names == ["layer.0", *(f"layer.{i}" for i in range(1, len(names) - 1)), "proj"]
    assert model.layer_groups()[-1][1] == [model.head]
    parts = [part for _, members in model.layer_groups()[:-1] for part in members]
    assert len(parts) == len(set(parts)) == len([*model.trunk.parameters()])
    bare = TimmModel("test_vit", 12, proj=None, pool="token")
    assert "proj" not in dict(bare.layer_groups())
    assert "trunk.pos_embed" in model.no_weight_decay()
    assert make_wd_exclude(model)("trunk.pos_embed", model.trunk.pos_embed)
    assert TimmModel("resnet10t", 12).no_weight_decay() == set()


def test_checkpointing_sizes_and_what_is_refused():
    model = TimmModel("test_vit", 12, image_size=160)
    model.set_grad_checkpointing()
    assert model.trunk.grad_checkpointing
    model.set_input_size(80)
    assert model.image_size == (80, 80)
    assert model(torch.zeros(1, 3, 80, 80)).shape == (1, 12)
    smaller = TimmModel("test_vit", 12, model_kwargs={"depth": 1})
    assert len(smaller.trunk.blocks) == 1
    model.trunk = nn.Identity()
    with pytest.warns(AssumptionWarning, match="an? Identity of timm's has no gradient"):
        model.set_grad_checkpointing()
    with pytest.raises(ConfigError, match="timm's nothing_of_the_kind with .* can't be built"):
        TimmModel("nothing_of_the_kind", 12)
    with pytest.raises(ConfigError, match="proj 'quadratic': linear, mlp, none"):
        TimmModel("resnet10t", 12, proj="quadratic")
    with pytest.raises(ConfigError, match="'abs_attn' is over a grid"):
        TimmModel("test_vit", 12, pool="abs_attn")


def whole():
    """open_clip's model with such a tower, and ours of the same weights."""
    import open_clip

    vision = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear"}
    options = {"embed_dim": 12, "vision_cfg": vision | {"image_size": 160}, "text_cfg": TEXT}
    peer, ours = (kind(**options).eval() for kind in (open_clip.CustomTextCLIP, compat.CLIP))
    ours.load_state_dict(peer.state_dict())
    return peer, ours


@torch.no_grad()
def test_a_models_tower_of_timms_is_one():
    """As programs for BiomedCLIP, SigLIP and MobileCLIP take it apart."""
    pair, found = whole(), []
    pixels = torch.nn.functional.interpolate(PIXELS, (160, 160))
    for model in pair:
        trunk = model.visual.trunk
        tokens = trunk.forward_features(pixels)
        read = model.visual.head(trunk.forward_head(tokens))
        x = trunk.norm(
            trunk.blocks[1:](trunk.blocks[0](trunk._pos_embed(trunk.patch_embed(pixels))))
        )
        other = {name: tensor.flip(0) for name, tensor in trunk.state_dict().items()}
        said = str(trunk.load_state_dict(other)), trunk.num_features, model.visual.head.proj.bias
        found.append([tokens, read, x, model.encode_image(pixels)])
        trunk.blocks[1].mlp = nn.Identity()
        found[-1].append(model.encode_image(pixels))
    torch.testing.assert_close(*found, **NEAR)
    ours = pair[1]
    assert said == ("<All keys matched successfully>", 64, None)
    assert isinstance(ours.visual, TimmModel)
    assert [name for name, _ in ours.visual.named_parameters()] == [
        name for name, _ in pair[0].visual.named_parameters()
    ]


def test_the_same_numbers_as_diptych_has_them():
    _, ours = whole()
    pixels = torch.nn.functional.interpolate(PIXELS, (160, 160))
    ours.visual.trunk.requires_grad_(False)
    clip = ours.clip
    with torch.no_grad():
        pooled = clip.image(pixels, tokens="none").pooled
        torch.testing.assert_close(pooled, ours.encode_image(pixels), **NEAR)
    assert clip.image.trunk.pos_embed.data_ptr() == ours.visual.trunk.pos_embed.data_ptr()
    assert not clip.image.trunk.pos_embed.requires_grad
    assert clip.image.projection.weight.requires_grad


def test_tables_that_no_state_dict_has_are_computed():
    """Rotary positions; on meta they stay there."""
    peer = Peer("vit_pe_core_tiny_patch16_384", 12, pool="token", proj=None).eval()
    with shapes_only():
        ours = TimmModel("vit_pe_core_tiny_patch16_384", 12, pool="token", proj=None).eval()
    ours.fill_computed()
    assert {buffer.device.type for buffer in ours.buffers()} == {"meta"}
    ours.load_state_dict(peer.state_dict(), assign=True)
    ours.fill_computed()
    tables = dict(ours.named_buffers())
    for name, table in peer.named_buffers():
        torch.testing.assert_close(tables[name], table)
