"""open_clip's parts, built alone: beside the peer's of the same arguments and weights."""

import copy
import importlib
import math
import pickle

import open_clip
import pytest
import torch
from torch import nn

from diptych import compat
from diptych.compat import transformer
from diptych.compat.clip import model as openai
from diptych.compat.faces.openai_model import LogitsModel
from diptych.compat.modified_resnet import ModifiedResNet
from diptych.compat.transformer import (
    Attention,
    CustomTransformer,
    TextTransformer,
    Transformer,
    VisionTransformer,
    lock_text_tower,
)
from diptych.errors import AssumptionWarning, ConfigError
from tests.compat.peers import KINDS, ours_of

NEAR = {"rtol": 1e-5, "atol": 1e-5}
TOKENS = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
MORE = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(1))
PIXELS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
IDS = torch.tensor([[28, 5, 7, 29, 0, 0], [28, 5, 0, 7, 9, 29]])
MASK = {"attn_mask": torch.full((5, 5), -math.inf).triu(1)}
CUSTOM = {"qk_norm": True, "scale_heads": True, "scale_attn": True, "scale_fc": True}
VIT = {"image_size": 64, "patch_size": 32, "width": 16, "layers": 2, "heads": 2, "mlp_ratio": 2.5}
WORDS = {"context_length": 6, "vocab_size": 30, "width": 16, "heads": 2, "layers": 2}
ALONE = {
    "scale": ("transformer.LayerScale", {"dim": 16, "init_values": 0.1}, (TOKENS,), {}),
    "norm": ("transformer.LayerNorm", {"normalized_shape": 16, "eps": 1e-6}, (TOKENS,), {}),
    "block": ("transformer.ResidualAttentionBlock", {"d_model": 16, "n_head": 2}, (TOKENS,), MASK),
    "deaf": (
        "transformer.ResidualAttentionBlock",
        {"d_model": 16, "n_head": 2},
        (TOKENS, MORE),
        {},
    ),
    "cross": (
        "transformer.ResidualAttentionBlock",
        {"d_model": 16, "n_head": 2, "is_cross_attention": True, "ls_init_value": 0.3},
        (TOKENS, MORE, MORE),
        {},
    ),
    "turned block": (
        "transformer.ResidualAttentionBlock",
        {"d_model": 16, "n_head": 2, "act_layer": nn.SiLU, "batch_first": False},
        (TOKENS.transpose(0, 1),),
        MASK,
    ),
    "custom block": (
        "transformer.CustomResidualAttentionBlock",
        {"d_model": 16, "n_head": 2, "scale_attn_inner": True, "norm_layer": nn.LayerNorm} | CUSTOM,
        (TOKENS,),
        MASK,
    ),
    "attention": (
        "transformer.Attention",
        {"dim": 16, "num_heads": 4, "qkv_bias": False, "scale_heads": True},
        (TOKENS,),
        {"attn_mask": torch.ones(5, 5, dtype=torch.bool).triu(1)},
    ),
    "rows": (
        "transformer.Attention",
        {"dim": 16, "num_heads": 2},
        (TOKENS,),
        {"attn_mask": torch.randn(4, 5, 5, generator=torch.Generator().manual_seed(3))},
    ),
    "pooler": (
        "transformer.AttentionalPooler",
        {"d_model": 8, "context_dim": 16, "n_head": 2, "n_queries": 3},
        (TOKENS,),
        {},
    ),
    "stack": ("transformer.Transformer", {"width": 16, "layers": 2, "heads": 2}, (TOKENS,), MASK),
    "turned": (
        "transformer.Transformer",
        {"width": 16, "layers": 2, "heads": 2, "batch_first": False, "ls_init_value": 0.2},
        (TOKENS,),
        MASK,
    ),
    "custom": (
        "transformer.Transformer",
        {"width": 16, "layers": 2, "heads": 2} | CUSTOM,
        (TOKENS,),
        {},
    ),
    "named": (
        "transformer.CustomTransformer",
        {"width": 16, "layers": 1, "heads": 2},
        (TOKENS,),
        {},
    ),
    "vision": ("transformer.VisionTransformer", VIT | {"output_dim": 8}, (PIXELS,), {}),
    "oblong": (
        "transformer.VisionTransformer",
        VIT | {"image_size": (64, 32), "output_dim": 8, "pool_type": "avg", "no_ln_pre": True},
        (PIXELS[..., :32],),
        {},
    ),
    "pooled": (
        "transformer.VisionTransformer",
        VIT
        | {"attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 2}
        | {"output_dim": 8, "output_tokens": True},
        (PIXELS,),
        {},
    ),
    "options": (
        "transformer.VisionTransformer",
        VIT | CUSTOM | {"pool_type": "none"},
        (PIXELS,),
        {},
    ),
    "text": ("transformer.TextTransformer", WORDS | {"output_dim": 8}, (IDS,), {}),
    "biased": (
        "transformer.TextTransformer",
        WORDS | {"proj_bias": True, "pool_type": "eos", "eos_id": 29, "ls_init_value": 0.1},
        (IDS,),
        {},
    ),
    "coca": (
        "transformer.TextTransformer",
        WORDS | {"embed_cls": True, "output_tokens": True},
        (IDS,),
        {},
    ),
    "right": (
        "transformer.TextTransformer",
        WORDS | {"embed_cls": True, "correct_cls_mask": True},
        (IDS,),
        {},
    ),
    "seeing": (
        "transformer.TextTransformer",
        WORDS | {"no_causal_mask": True, "use_pad_mask": True, "pool_type": "first"} | CUSTOM,
        (IDS[:, :5],),
        {},
    ),
    "bare": (
        "transformer.TextTransformer",
        WORDS | {"output_dim": 0, "pool_type": "last"},
        (IDS,),
        {},
    ),
    "decoder": (
        "transformer.MultimodalTransformer",
        {"width": 16, "layers": 2, "heads": 2, "context_length": 8, "output_dim": 30},
        (MORE, TOKENS),
        {},
    ),
    "turned decoder": (
        "transformer.MultimodalTransformer",
        {"width": 16, "layers": 1, "heads": 2, "context_length": 8, "batch_first": False},
        (MORE, TOKENS),
        {},
    ),
    "bottleneck": (
        "modified_resnet.Bottleneck",
        {"inplanes": 3, "planes": 4, "stride": 2},
        (PIXELS,),
        {},
    ),
    "pool": (
        "modified_resnet.AttentionPool2d",
        {"spacial_dim": 4, "embed_dim": 16, "num_heads": 2, "output_dim": 6},
        (torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(4)),),
        {},
    ),
    "resnet": (
        "modified_resnet.ModifiedResNet",
        {"layers": [1, 2, 1, 1], "output_dim": 6, "heads": 4, "image_size": 64, "width": 8},
        (PIXELS,),
        {},
    ),
}


def built(package, name, options):
    module, cls = name.split(".")
    return getattr(importlib.import_module(f"{package}.{module}"), cls)(**copy.copy(options)).eval()


def shaken(module):
    """Weights of which none is what it begins as; the same for each seed."""
    generator = torch.Generator().manual_seed(7)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return module


@torch.no_grad()
@pytest.mark.parametrize("name", ALONE)
def test_a_part_alone_computes_what_open_clips_does(name):
    where, options, given, named = ALONE[name]
    peer, ours = shaken(built("open_clip", where, options)), built("diptych.compat", where, options)
    ours.load_state_dict(peer.state_dict())  # strictly: the names are the same
    torch.testing.assert_close(ours(*given, **named), peer(*given, **named), **NEAR)
    if "Transformer" in where and "Multi" not in where:
        options = {"indices": [0, -1]} | ({"output_fmt": "NLC"} if "Text" in where else {})
        found, wanted = (m.forward_intermediates(*given, **options) for m in (ours, peer))
        torch.testing.assert_close(found, wanted, **NEAR)
    again = pickle.loads(pickle.dumps(ours))
    torch.testing.assert_close(again(*given, **named), ours(*given, **named))


@pytest.mark.parametrize("name", ["scale", "block", "text", "vision", "pool", "resnet", "stack"])
def test_a_part_starts_as_open_clips_starts(name):
    """Each tensor's deviation, of a width at which it can be told; constants exactly."""
    torch.manual_seed(0)
    where, options, _, _ = ALONE[name]
    wide = {"scale": {}, "block": {"d_model": 256}, "text": {"width": 256, "output_dim": 256}}
    wide |= {"vision": {"width": 256}, "pool": {"embed_dim": 256, "output_dim": 256}}
    wide |= {"resnet": {"width": 16, "output_dim": 256}}
    options = options | wide.get(name, {"width": 256})
    peer, ours = built("open_clip", where, options), built("diptych.compat", where, options)
    for (title, mine), theirs in zip(ours.named_parameters(), peer.parameters(), strict=True):
        spread = theirs.std(unbiased=False).item()
        assert mine.std(unbiased=False).item() == pytest.approx(spread, rel=0.15, abs=1e-3), title
        if spread == 0:
            assert torch.equal(mine, theirs), title


def test_cosines_are_scaled_by_each_head():
    """open_clip 3.3's own fails (`bmm` of four dimensions), so by hand (arXiv:2111.09883)."""
    made = shaken(Attention(16, num_heads=2, scaled_cosine=True)).eval()
    made.logit_scale.data = torch.tensor([2.0, 9.0]).view(2, 1, 1)  # the second is bounded by 100
    qkv = TOKENS @ made.in_proj_weight.T + made.in_proj_bias
    q, k, v = (each.unflatten(-1, (2, 8)).transpose(1, 2) for each in qkv.chunk(3, dim=-1))
    cosines = torch.cosine_similarity(q[:, :, :, None], k[:, :, None], dim=-1)
    shares = (cosines * torch.tensor([math.exp(2), 100.0]).view(2, 1, 1)).softmax(-1)
    wanted = made.out_proj((shares @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(made(TOKENS), wanted, **NEAR)
    with pytest.raises(AssertionError, match="exclude each other"):
        Attention(16, num_heads=2, scaled_cosine=True, qk_norm=True)


@torch.no_grad()
def test_padding_is_not_read():
    """Which open_clip's main branch has: a context with padding, and a mask of texts."""
    valid = torch.tensor([[True] * 5 + [False] * 2, [False] * 7])
    pool = transformer.AttentionalPooler(8, 16, n_head=2, n_queries=3)
    torch.testing.assert_close(pool(MORE, valid)[:1], pool(MORE[:1, :5]), **NEAR)
    assert pool(MORE, valid).isfinite().all()
    decoder = transformer.MultimodalTransformer(16, 2, 2, context_length=8)
    cut = decoder(MORE[:1, :5], TOKENS[:1])
    torch.testing.assert_close(decoder(MORE, TOKENS, context_valid=valid)[:1], cut, **NEAR)
    assert not torch.allclose(decoder(MORE[:1], TOKENS[:1]), cut)
    text = TextTransformer(**WORDS, embed_cls=True)
    assert torch.equal(text(IDS), text(IDS, text_valid=IDS != 0))
    real = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    assert not torch.allclose(text(IDS)[1], text(IDS, text_valid=real)[1])  # an id 0 in between


def test_a_decoder_fills_memory_that_was_anything():
    with torch.device("meta"):
        made = transformer.MultimodalTransformer(256, 2, 4, context_length=8, ls_init_value=0.25)
    made.to_empty(device="cpu").init_parameters()
    block = made.resblocks[1]
    for tensor, value in (
        (block.ls_1.gamma, 0.25),
        (made.cross_attn[0].ln_1_kv.weight, 1.0),
        (block.attn.in_proj_bias, 0.0),
        (block.mlp.c_fc.bias, 0.0),
    ):
        assert torch.equal(tensor, torch.full_like(tensor, value))
    assert block.mlp.c_proj.weight.std().item() == pytest.approx((2 * 2 * 256) ** -0.5, rel=0.1)
    assert torch.equal(made.attn_mask, made.build_attention_mask())
    with pytest.raises(AssertionError, match="not implemented for MultimodalTransformer"):
        made.forward_intermediates(TOKENS)
    both = transformer.MultimodalDecoder(8, 30, 256, 4, 2, ls_init_value=0.25, proj_type="linear")
    with torch.no_grad():
        for parameter in both.parameters():
            parameter.fill_(torch.nan)
    both.attn_mask.zero_()
    both.init_parameters()
    assert all(parameter.isfinite().all() for parameter in both.parameters())
    assert torch.equal(both.attn_mask, made.attn_mask)


@pytest.mark.parametrize("options", [{}, CUSTOM])
def test_blocks_computed_again_give_the_same_gradients(options):
    made = Transformer(16, 2, 2, **options)
    grads = []
    for enable in (False, True):
        made.zero_grad()
        made.set_grad_checkpointing(enable, impl="composable")
        made(TOKENS, **MASK).square().mean().backward()
        grads.append([parameter.grad for parameter in made.parameters()])
    torch.testing.assert_close(*grads)
    with pytest.raises(ConfigError, match="impl 'both' is neither"):
        made.set_grad_checkpointing(impl="both")


def test_custom_blocks_by_name():
    made = CustomTransformer(
        16, 2, 2, 2.5, 0.1, nn.SiLU, nn.LayerNorm, ["CustomResidualAttentionBlock"] * 2
    )
    other = Transformer(16, 2, 2, 2.5, 0.1, nn.SiLU, nn.LayerNorm, block_type="custom")
    other.load_state_dict(made.state_dict())
    assert torch.equal(made(TOKENS), other(TOKENS))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Transformer(16, 1, 2, block_type="own"), ConfigError, "neither 'default' nor"),
        (
            lambda: Transformer(16, 1, 2, block_type="default", qk_norm=True, scale_fc=True),
            ConfigError,
            "no qk_norm and no scale_fc",
        ),
        (lambda: CustomTransformer(16, 2, 2, block_types="Own"), AssertionError, "'Own' are not"),
        (lambda: VisionTransformer(**VIT, pool_type="max"), ConfigError, "avg, avg_all or none"),
        (
            lambda: VisionTransformer(**VIT, attentional_pool="serial"),
            ConfigError,
            "cascade, parallel, or false",
        ),
        (
            lambda: VisionTransformer(**VIT, pos_embed_type="sin_cos_2d"),
            ConfigError,
            "positions are learnable",
        ),
        (lambda: TextTransformer(**WORDS, pool_type="tok"), ConfigError, "first, last, argmax"),
        (lambda: Attention(16, num_heads=3), AssertionError, "not a multiple of num_heads 3"),
        (lambda: transformer.PatchDropout(1.0), AssertionError, "below 1"),
    ],
)
def test_what_a_part_cannot_be_is_said(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_mask_of_padding_that_hides_nothing_is_said():
    with pytest.warns(AssumptionWarning, match="use_pad_mask"):
        TextTransformer(**WORDS, use_pad_mask=True)


@torch.no_grad()
def test_patches_are_dropped_in_training_alone():
    made = transformer.PatchDropout(0.5)
    kept = made(TOKENS)
    assert kept.shape == (2, 3, 16)
    assert torch.equal(kept[:, 0], TOKENS[:, 0])
    assert made.eval()(TOKENS) is TOKENS
    made.prob = 0.75
    assert made.train()(TOKENS).shape == (2, 2, 16)
    assert transformer.PatchDropout(0.5, exclude_first_token=False)(MORE[:, :6]).shape == (2, 3, 16)


@torch.no_grad()
def test_openais_parts_alone(quiet):
    """Their signatures; the numbers are those of the same parts in a model."""
    model = LogitsModel.of(ours_of("quick").clip).eval()
    pixels = PIXELS[..., :32, :32]
    vision = openai.VisionTransformer(32, 8, width=64, layers=2, heads=2, output_dim=24)
    vision.load_state_dict(model.visual.state_dict())
    torch.testing.assert_close(vision(pixels), model.visual(pixels), **NEAR)
    ids = torch.tensor([[49406, 320, 49407, *[0] * 74]])
    x = (model.token_embedding(ids) + model.positional_embedding).transpose(0, 1)
    mask = torch.full((77, 77), -math.inf).triu(1)
    stack = openai.Transformer(64, 2, 2, mask)
    stack.load_state_dict(model.transformer.state_dict())
    torch.testing.assert_close(stack.resblocks(x), model.transformer(x), **NEAR)
    block = openai.ResidualAttentionBlock(64, 2, mask)
    block.load_state_dict(stack.resblocks[0].state_dict())
    torch.testing.assert_close(block(x), stack.resblocks[0](x), **NEAR)
    for part, kind in (
        (model.visual, openai.VisionTransformer),
        (model.transformer, openai.Transformer),
        (model.transformer.resblocks[0], openai.ResidualAttentionBlock),
    ):
        assert type(part) is kind


def test_a_resnets_parts_are_what_it_computes(quiet):
    """CLIPasso, LSeg and others take its map by replacing the pool."""
    model = ours_of("resnet")
    assert isinstance(model.visual, ModifiedResNet)
    model.visual.attnpool = nn.Identity()
    seen = []
    model.visual.layer4[-1].conv3.register_forward_hook(lambda *given: seen.append(given[-1]))
    assert model.visual(PIXELS).shape == (2, 512, 2, 2)
    assert seen[0].shape == (2, 512, 2, 2)
    early = model.visual.forward_intermediates(PIXELS, [0, 2], intermediates_only=True)
    assert [each.shape[1] for each in early["image_intermediates"]] == [16, 128]
    grads = []
    for enable in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        model.visual(PIXELS).square().mean().backward()
        grads.append([p.grad for p in model.visual.parameters() if p.grad is not None])
    torch.testing.assert_close(*grads)
    with pytest.raises(ConfigError, match="none of Diptych's any more"):
        _ = model.clip


@pytest.mark.parametrize("kind", ["CLIP", "CustomTextCLIP"])
def test_text_towers_are_locked_by_a_function(kind, quiet):
    peer, ours = (getattr(m, kind)(**copy.deepcopy(KINDS["vit"])) for m in (open_clip, compat))
    for unlocked in (0, 1, 2, 9):
        for model, lock in ((peer, open_clip.transformer.lock_text_tower), (ours, lock_text_tower)):
            model.requires_grad_(True)
            lock(model, unlocked)
        kept = [{n for n, p in m.named_parameters() if p.requires_grad} for m in (peer, ours)]
        assert kept[0] == kept[1], unlocked


@torch.no_grad()
@pytest.mark.parametrize("sizes", [(32, 2, 64, 8), (64, (1, 1, 1, 1), 16, None)])
def test_a_model_is_built_by_openais_arguments(sizes, quiet):
    """And takes the weights of open_clip's of the same sizes."""
    side, layers, width, patch = sizes
    made = openai.CLIP(24, side, layers, width, patch, 77, 49408, 64, 1, 2).eval()
    vision = {"image_size": side, "layers": layers, "width": width, "patch_size": patch}
    vision |= {"layers": list(layers)} if patch is None else {}
    text = {"width": 64, "heads": 1, "layers": 2}
    peer = open_clip.CLIP(24, vision, text, quick_gelu=True).eval()
    made.load_state_dict(peer.state_dict())
    pixels, ids = PIXELS[..., :side, :side], torch.tensor([[49406, 320, 49407, *[0] * 74]])
    torch.testing.assert_close(made(pixels, ids), peer.get_logits(pixels, ids), **NEAR)
    kind = openai.ModifiedResNet if patch is None else openai.VisionTransformer
    assert type(made.visual) is kind


@torch.no_grad()
def test_towers_alone_of_their_configurations():
    """Scripts import the two private builders."""
    theirs, ours = open_clip.model, compat.model
    vision, text = KINDS["resnet"]["vision_cfg"], KINDS["vit"]["text_cfg"]
    for name, cfg, given in (
        ("_build_vision_tower", vision, PIXELS),
        ("_build_text_tower", text, torch.tensor([[49406, 320, 49407, *[0] * 74]])),
    ):
        peer, made = (getattr(m, name)(24, copy.copy(cfg), True).eval() for m in (theirs, ours))
        made.load_state_dict(peer.state_dict())
        torch.testing.assert_close(made(given), peer(given), **NEAR)


@torch.no_grad()
@pytest.mark.parametrize("vision", [{"image_size": 32, "patch_size": 8}, {"layers": [1, 1, 1, 1]}])
def test_a_model_of_openais_state_dict(vision, quiet):
    sizes = {"width": 64, "layers": 2, "image_size": 64} | vision
    text = {"width": 64, "heads": 1, "layers": 1}
    torch.manual_seed(0)
    state = open_clip.CLIP(24, sizes, text, quick_gelu=True).state_dict()
    peer = open_clip.model.build_model_from_openai_state_dict(dict(state)).float()
    ours = compat.model.build_model_from_openai_state_dict(state)
    assert isinstance(ours, compat.CLIP)
    assert ours.visual.conv1.weight.dtype == torch.float16
    assert not ours.training
    side = sizes["image_size"]
    pixels, ids = PIXELS[..., :side, :side], torch.tensor([[49406, 320, 49407, *[0] * 74]])
    for mine, theirs in zip(ours.float()(pixels, ids), peer(pixels, ids), strict=True):
        torch.testing.assert_close(mine, theirs, **NEAR)


def test_a_picture_tower_keeps_what_its_constructor_drew():
    tower = compat.create_model("ViT-S-32-alt", load_weights=False).visual
    before = {name: tensor.clone() for name, tensor in tower.state_dict().items()}
    tower.init_parameters()
    assert all(torch.equal(before[name], tensor) for name, tensor in tower.state_dict().items())
