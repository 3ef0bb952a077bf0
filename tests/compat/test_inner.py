"""The parts of models with open_clip's face: they are where public code looks for them, and what
stands there is what is computed."""

import copy
import json
import pickle

import pytest
import torch
from torch import nn

from diptych import compat, models, pretrained
from diptych.compat import clip
from diptych.compat.faces.openai_model import LogitsModel
from diptych.compat.faces.towers import OpenClipVisual
from diptych.compat.push_to_hf_hub import save_for_hf
from diptych.compat.utils import to_2tuple
from diptych.errors import ConfigError
from tests.compat.peers import KINDS, ours_of, peer_of

pytest.importorskip("open_clip")
NEAR = {"rtol": 1e-5, "atol": 1e-5}
VIT, TEXT = KINDS["vit"]["vision_cfg"], KINDS["vit"]["text_cfg"]
OPTIONS = {
    "clipa": (
        "CLIP",
        VIT | {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True},
        TEXT | {"no_causal_mask": True, "pool_type": "last"},
    ),
    "eos": ("CLIP", VIT, TEXT | {"pool_type": "eos", "eos_id": 49407}),
    "custom": ("CustomTextCLIP", VIT, TEXT),
    "biased": (
        "CustomTextCLIP",
        VIT,
        TEXT | {"no_causal_mask": True, "pool_type": "last", "proj_bias": True},
    ),
    "resnet": ("CLIP", KINDS["resnet"]["vision_cfg"], TEXT),
    "timm": ("CustomTextCLIP", KINDS["timm"]["vision_cfg"], TEXT),
    # As MobileCLIP's: the trunk's own classifier is the projection.
    "classifier": ("CustomTextCLIP", KINDS["timm"]["vision_cfg"] | {"timm_proj": None}, TEXT),
}
IDS = [[49406, 320, 49407, *[0] * 74], [49406, 320, 320, 49407, *[0] * 73]]


def both(name):
    """open_clip's model of these options, and ours with its weights."""
    import open_clip

    kind, vision, text = OPTIONS[name]
    given = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    torch.manual_seed(0)
    peer = getattr(open_clip, kind)(**copy.deepcopy(given)).eval()
    ours = getattr(compat, kind)(**copy.deepcopy(given)).eval()
    ours.load_state_dict(peer.state_dict())
    return peer, ours


@pytest.fixture
def pair(quiet):
    peer, ours = peer_of("vit"), ours_of("vit")
    ours.load_state_dict(peer.state_dict())
    return peer, ours


def inputs(model):
    side, _ = to_2tuple(model.visual.image_size)
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    return pixels, torch.tensor(IDS)


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **NEAR)


@torch.no_grad()
@pytest.mark.parametrize("name", OPTIONS)
def test_a_class_builds_the_model_of_its_options(quiet, name):
    peer, ours = both(name)
    pixels, ids = inputs(ours)
    assert ours.state_dict().keys() == peer.state_dict().keys()
    for mine, theirs in zip(ours(pixels, ids), peer(pixels, ids), strict=True):
        torch.testing.assert_close(mine, theirs, **NEAR)
    assert ours.no_weight_decay() == peer.no_weight_decay()
    for found in (
        {},
        {"image_indices": [0, -1], "normalize_intermediates": True, "normalize": False},
    ):
        options = found | {"text_output_fmt": "NLC", "text_indices": 1, "output_logits": True}
        same(
            ours.forward_intermediates(pixels, ids, **options),
            peer.forward_intermediates(pixels, ids, **options),
        )


@torch.no_grad()
def test_intermediates_stop_early_and_have_their_class_tokens(pair):
    peer, ours = pair
    pixels, ids = inputs(ours)
    early = {"image_indices": [0], "text_indices": [0], "stop_early": True}
    apart = {"image_output_fmt": "NLC", "image_output_extra_tokens": True, "image_indices": 1}
    for options in (early, apart, early | {"intermediates_only": True}):
        same(
            ours.forward_intermediates(pixels, ids, **options, output_logit_scale_bias=True),
            peer.forward_intermediates(pixels, ids, **options, output_logit_scale_bias=True),
        )
    with pytest.raises(AssertionError, match="out of range"):
        ours.forward_intermediates(pixels, image_indices=3)


def frozen(model, unlocked):
    """The names of what both locks freeze."""
    model.requires_grad_(True)
    model.lock_image_tower(unlocked_groups=unlocked)
    model.lock_text_tower(unlocked_layers=unlocked)
    return {name for name, p in model.named_parameters() if not p.requires_grad}


def test_locks_freeze_what_open_clips_freeze(quiet):
    for name in ("custom", "timm", "classifier", "eos"):
        peer, ours = both(name)
        for unlocked in (0, 1, 2, 3):
            assert frozen(peer, unlocked) == frozen(ours, unlocked), (name, unlocked)
    with pytest.raises(AssertionError, match="LayerNorm"):
        ours.lock_text_tower(1, freeze_layer_norm=False)


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "EVA02-B-16", "PE-Core-T-16-384"])
def test_locks_of_trunks_that_are_ours_freeze_what_open_clips_freeze(name, quiet):
    """Their final norm goes with the last block, what reads the vector is a group of its own."""
    import open_clip

    if name.startswith("PE"):
        why = "older ones leave the norm before the first block out of the groups"
        pytest.importorskip("timm", minversion="1.0.31", reason=why)
    config = open_clip.get_model_config(name)
    custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    with torch.device("meta"):
        peer = kind(**config)
    ours = compat.OpenClipModel(models.build(pretrained.get(name), "meta"))
    names = {each for each, _ in ours.named_parameters()}  # query, key and value are one of ours
    for unlocked in (0, 1, 2, 3):
        assert frozen(peer, unlocked) & names == frozen(ours, unlocked), unlocked


def test_frozen_statistics_stay_in_training(quiet):
    _, ours = both("resnet")
    pixels, _ = inputs(ours)
    ours.lock_image_tower(freeze_bn_stats=True)
    before = {name: tensor.clone() for name, tensor in ours.visual.state_dict().items()}
    ours.train()(pixels)
    for name, tensor in ours.visual.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@torch.no_grad()
def test_the_modules_themselves_give_open_clips_numbers(pair):
    """Stable Diffusion 2's text embedder, which stops before the last block."""
    peer, ours = pair
    _, ids = inputs(ours)
    for model in pair:
        del model.visual
        x = model.token_embedding(ids) + model.positional_embedding
        model.states = x
        for block in model.transformer.resblocks[:-1]:
            model.states = block(model.states, attn_mask=model.attn_mask)
        # With the length first, as its code has it for open_clip before 2.25.
        model.first = x.transpose(0, 1)
        for block in ours.transformer.resblocks[:-1]:
            model.first = block(model.first, attn_mask=model.attn_mask)
    torch.testing.assert_close(ours.ln_final(ours.states), peer.ln_final(peer.states), **NEAR)
    torch.testing.assert_close(ours.first.transpose(0, 1), ours.states, **NEAR)
    torch.testing.assert_close(ours.encode_text(ids), peer.encode_text(ids), **NEAR)
    assert not any(name.startswith("visual") for name in ours.state_dict())


@torch.no_grad()
def test_hooks_and_replaced_parts_are_seen_by_the_forward_pass(pair):
    peer, ours = pair
    pixels, ids = inputs(ours)
    seen = {"peer": [], "ours": []}
    for model, kept in zip(pair, seen.values()):
        for block in (*model.visual.transformer.resblocks, *model.transformer.resblocks):
            block.register_forward_hook(lambda _, __, output, kept=kept: kept.append(output))
        model(pixels, ids)
    assert len(seen["ours"]) == 4
    for mine, theirs in zip(seen["ours"], seen["peer"], strict=True):
        torch.testing.assert_close(mine, theirs, **NEAR)
    for model in pair:
        model.visual.proj = None
        model.visual.ln_post = nn.Identity()
        model.visual.transformer.resblocks = model.visual.transformer.resblocks[:-1]
        model.logit_scale = nn.Parameter(torch.tensor(2.0))
    for mine, theirs in zip(ours(pixels), peer(pixels)):
        assert (mine is None and theirs is None) or torch.allclose(mine, theirs, **NEAR)
    with pytest.raises(ConfigError, match="none of Diptych's any more"):
        _ = ours.clip


@torch.no_grad()
def test_parts_of_other_libraries_towers_are_found_by_name(quiet):
    for name, path in (("resnet", "layer4"), ("timm", "trunk.layer2")):
        peer, ours = both(name)
        pixels, _ = inputs(ours)
        outputs = []
        for model in (peer, ours):
            part = model.visual
            for word in path.split("."):
                part = getattr(part, word)
            part[-1].register_forward_hook(lambda _, __, output, kept=outputs: kept.append(output))
            model.visual(pixels)
        torch.testing.assert_close(outputs[1], outputs[0], **NEAR)
    own = ours.clip
    visual = OpenClipVisual(own.image, own.config)  # as a tower stands that timm doesn't have
    part, expected = visual.trunk.layer2[-1], []
    part.register_forward_hook(lambda _, __, output: expected.append(output))
    visual(pixels)
    torch.testing.assert_close(outputs[1], expected[0], **NEAR)
    with pytest.raises(AttributeError, match="nothing that open_clip calls 'resblocks'"):
        _ = visual.resblocks


def test_a_resnet_is_computed_part_by_part(quiet):
    """CLIPasso's features, and Grad-CAM's hook on a whole stage."""
    peer, ours = both("resnet")
    pixels, _ = inputs(ours)
    found = []
    for model in (peer, ours):
        visual, maps = model.visual, []
        visual.layer4.register_forward_hook(lambda _, __, output, kept=maps: kept.append(output))
        x = visual.stem(pixels)
        stem = visual.avgpool(visual.act3(visual.bn3(visual.conv3(pixels.new_ones(1, 8, 8, 8)))))
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = getattr(visual, name)(x)
        whole = visual(pixels)
        assert torch.equal(maps[0], x)
        assert len(maps) == 2
        found.append((stem, x, visual.attnpool(x), whole, visual.attnpool.positional_embedding))
    for mine, theirs in zip(*reversed(found), strict=True):
        torch.testing.assert_close(mine, theirs, **NEAR)


def test_children_of_a_resnet_stand_in_the_order_of_computing(quiet):
    """By which torchvision's `IntermediateLayerGetter` runs them."""
    peer, ours = both("resnet")
    names = [[name for name, _ in model.visual.named_modules()] for model in (peer, ours)]
    assert names[0] == names[1]


def test_neither_class_is_the_other_and_a_precision_may_be_said(quiet):
    _, custom = both("custom")
    assert not isinstance(custom, compat.CLIP)
    custom.dtype = torch.float16  # as prompt learners note it
    assert custom.dtype == torch.float16
    assert custom.encode_image(inputs(custom)[0]).dtype == torch.float32


@torch.no_grad()
def test_a_text_tower_alone(quiet):
    """As nodes of ComfyUI make it of Stable Diffusion XL's, with open_clip's builder patched."""
    peer, _ = both("eos")
    alone = compat.CLIP(24, None, compat.CLIPTextCfg(**OPTIONS["eos"][2])).eval()
    found = alone.load_state_dict(peer.state_dict(), strict=False)
    assert alone.visual is None
    assert not found.missing_keys
    assert all(name.startswith("visual.") for name in found.unexpected_keys)
    ids = torch.tensor(IDS)
    torch.testing.assert_close(alone.encode_text(ids), peer.encode_text(ids), **NEAR)


def test_json_says_custom_text(tmp_path, quiet):
    (tmp_path / "mine.json").write_text(json.dumps(KINDS["vit"] | {"custom_text": True}))
    model = compat.create_model(tmp_path / "mine.json", load_weights=False)
    assert isinstance(model, compat.CustomTextCLIP)
    assert "text.token_embedding.weight" in model.state_dict()


@torch.no_grad()
def test_attention_may_be_wrapped(pair):
    """As adapters do it: what wraps it has its call, and none of its attributes."""

    class Wrapped(nn.Module):
        def __init__(self, attention):
            super().__init__()
            self.inner = attention

        def forward(self, *given, **options):
            return self.inner(*given, **options)

    ours = pair[1]
    pixels, ids = inputs(ours)
    before = ours(pixels, ids)[:2]
    for blocks in (ours.visual.transformer.resblocks, ours.transformer.resblocks):
        for block in blocks:
            block.attn = Wrapped(block.attn)
    for now, then in zip(ours(pixels, ids)[:2], before, strict=True):
        torch.testing.assert_close(now, then)


def test_openais_modules_have_what_scripts_read(pair):
    from diptych.compat.clip import clip as functions
    from diptych.compat.clip import model as parts

    model = LogitsModel.of(pair[1].clip)
    parts.convert_weights(model)
    assert isinstance(model, parts.CLIP)
    assert isinstance(model.ln_final, parts.LayerNorm)
    assert model.visual.conv1.weight.dtype == torch.float16
    assert model.ln_final.weight.dtype == torch.float32
    assert clip.model.build_model is clip.build_model
    assert functions._tokenizer.encode("a cat") == compat.tokenizer._tokenizer.encode("a cat")
    assert [type(step).__name__ for step in functions._transform(32).transforms][-1] == "Normalize"
    with pytest.raises(AttributeError, match="no attribute '_nothing'"):
        _ = functions._nothing


@torch.no_grad()
def test_openais_blocks_are_replaced_by_ones_that_take_tokens_alone(pair, monkeypatch):
    """As exporters to ONNX patch `attention`, and CLIP's explainers wrap whole blocks."""
    model = LogitsModel.of(pair[1].clip).eval()
    pixels, ids = inputs(model)
    expected, seen = (model.encode_image(pixels), model.encode_text(ids)), []

    def attention(self, x):
        seen.append(x.shape)
        return self.attn(x, x, x, need_weights=True, attn_mask=self.attn_mask)[0]

    class Wrapped(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.block = block

        def forward(self, x):
            x = x + self.block.attention(self.block.ln_1(x))
            return x + self.block.mlp(self.block.ln_2(x))

    def check():
        torch.testing.assert_close(model.encode_image(pixels), expected[0], **NEAR)
        torch.testing.assert_close(model.encode_text(ids), expected[1], **NEAR)

    with monkeypatch.context() as patch:
        patch.setattr(clip.model.ResidualAttentionBlock, "attention", attention)
        check()
        assert len(seen) == len(model.visual.transformer.resblocks) + len(
            model.transformer.resblocks
        )
    for stack in (model.visual.transformer, model.transformer):
        stack.resblocks = nn.Sequential(*map(Wrapped, stack.resblocks))
    check()


def test_a_subclass_of_openais_model_has_parts_of_its_own():
    """As X-CLIP's is made."""

    class Video(clip.model.CLIP):
        def __init__(self, *sizes):
            super().__init__(*sizes)
            self.transformer = clip.model.Transformer(64, 1, 1, self.build_attention_mask())
            self.initialize_parameters()

    model = Video(24, 32, 1, 64, 16, 77, 49408, 64, 1, 1)
    mask = model.transformer.resblocks[0].attn_mask
    assert torch.equal(mask, torch.full((77, 77), -torch.inf).triu(1))
    block = model.transformer.resblocks[0]
    assert 0.01 < model.token_embedding.weight.std().item() < 0.03
    assert abs(block.attn.in_proj_weight.std().item() - 64**-0.5) < 0.01


@torch.no_grad()
def test_openais_blocks_take_the_length_first_and_know_their_mask(pair):
    """CoOp's text encoder."""
    peer, ours = pair
    pixels, ids = inputs(ours)
    model = LogitsModel.of(ours.clip).eval()
    x = model.token_embedding(ids) + model.positional_embedding
    x = model.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
    x = model.ln_final(x)[torch.arange(2), ids.argmax(dim=-1)] @ model.text_projection
    torch.testing.assert_close(x, peer.encode_text(ids), **NEAR)
    torch.testing.assert_close(model(pixels, ids)[0], peer.get_logits(pixels, ids)[0], **NEAR)


def test_checkpointing_gives_the_same_gradients(pair):
    _, ours = pair
    pixels, ids = inputs(ours)
    grads = []
    for enable in (False, True):
        ours.zero_grad()
        ours.set_grad_checkpointing(enable)
        ours.get_logits(pixels, ids)[0].sum().backward()
        grads.append({name: p.grad for name, p in ours.named_parameters() if p.grad is not None})
    assert ours.visual.transformer.grad_checkpointing
    same(*grads)


@torch.no_grad()
def test_copies_pickles_and_half_precision(pair):
    _, ours = pair
    pixels, ids = inputs(ours)
    expected = ours(pixels, ids)
    for again in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert all(map(torch.equal, again(pixels, ids), expected))
    half = copy.deepcopy(ours).to(torch.bfloat16)
    torch.testing.assert_close(half(pixels, ids)[0], expected[0], rtol=0.1, atol=0.05)
    assert torch.equal(ours.clip.text.tokens.weight, ours.token_embedding.weight)


@torch.no_grad()
def test_traces_take_other_batches_and_other_weights(pair):
    """immich's exporter traces each tower; torch.func swaps parameters."""
    _, ours = pair
    pixels, ids = inputs(ours)
    traced = torch.jit.trace(ours.visual, (pixels,), check_trace=False)
    torch.testing.assert_close(traced(pixels[:1]), ours.visual(pixels[:1]), **NEAR)
    doubled = {"text_projection": 2 * ours.text_projection, "visual.proj": 2 * ours.visual.proj}
    found = torch.func.functional_call(ours, doubled, (pixels, ids))
    for mine, theirs in zip(found[:2], ours(pixels, ids)[:2]):
        torch.testing.assert_close(mine, theirs, **NEAR)  # of unit length both


def test_what_is_shared_is_one_parameter_in_the_form_of_diptych_and_in_files(tmp_path):
    ours = ours_of("vit")
    apart = len(list(ours.clip.parameters()))
    first, second = ours.transformer.resblocks[:2]
    second.mlp.c_fc.weight = first.mlp.c_fc.weight
    clip = ours.clip
    assert len(list(clip.parameters())) == apart - 1
    assert clip.text.blocks[1].mlp.up.weight is clip.text.blocks[0].mlp.up.weight
    config = {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT}
    save_for_hf(ours, compat.SimpleTokenizer(), config, tmp_path, True)
    again = compat.create_model(f"local-dir:{tmp_path}").state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in ours.state_dict().items())


def test_which_class_a_model_is(quiet):
    made = compat.create_model("tiny", load_weights=False)
    assert isinstance(made, compat.CLIP)
    assert not hasattr(made, "text")
    custom = compat.create_model("tiny", load_weights=False, force_custom_text=True)
    assert isinstance(custom, compat.CustomTextCLIP)
    assert "text.token_embedding.weight" in custom.state_dict()
    assert made.visual.preprocess_cfg == compat.get_model_preprocess_cfg(made)
    assert made.visual.preprocess_cfg["mean"] == made.visual.image_mean
    assert made.visual.grid_size == (3, 3)
