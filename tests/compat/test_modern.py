"""open_clip's "modern" texts over compat: its names, and Diptych's numbers."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from diptych import compat, models
from diptych.compat import CLIP, CLIPTextCfg, CLIPVisionCfg, CoCa, CustomTextCLIP
from diptych.compat.coca_model import MultimodalCfg
from diptych.compat.model_traits import InputMode, traits_from_config, traits_from_model
from diptych.compat.open_clip_train.optim import OptimizerCfg, create_optimizer
from diptych.compat.task.blocks import blocks_of
from diptych.compat.transformer import (
    ModernMultimodalTransformer,
    ModernTextAttention,
    ModernTextBlock,
    ModernTextCrossAttention,
    ModernTextPool,
    ModernTextTransformer,
    RotaryEmbedding1D,
)
from diptych.errors import ConfigError

EVERYTHING = {
    "qk_norm": True,
    "norm_placement": "sandwich",
    "ls_init_value": 0.7,
    "value_residual": True,
    "attention_bias": True,
    "mlp_bias": True,
    "pre_norm": True,
    "reg_tokens": 2,
    "pool_type": "map",
}
TEXT = {
    "text_arch": "modern",
    "context_length": 12,
    "vocab_size": 40,
    "width": 32,
    "heads": 4,
    "layers": 2,
    "attn_gated": True,
    "pad_id": 39,
    "bos_id": 37,
    "eos_id": 38,
    "variable_text": True,
}
VISION = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}
POOLED = VISION | {"attentional_pool": "cascade", "attn_pooler_queries": 5, "attn_pooler_heads": 2}
IDS = torch.tensor([[37, 5, 6, 38, 39, 39], [37, 7, 8, 9, 10, 38]])


def shaken(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def coca(**options) -> CoCa:
    decoder = {name: value for name, value in TEXT.items() if name != "variable_text"} | options
    return shaken(CoCa(32, decoder, TEXT | options, POOLED))


@pytest.mark.parametrize(
    "options", [{}, EVERYTHING, {"mlp_type": "relu2", "norm_type": "layernorm"}]
)
def test_a_model_has_open_clips_parts_and_diptychs_numbers(options):
    model = shaken(CustomTextCLIP(24, VISION, TEXT | options))
    assert isinstance(model.text, ModernTextTransformer)
    with torch.no_grad():
        ours = model.clip.text(IDS).pooled
        torch.testing.assert_close(model.encode_text(IDS), ours, atol=1e-5, rtol=1e-5)
    again = CustomTextCLIP(24, VISION, TEXT | options)
    again.load_state_dict(model.state_dict())
    names = {name for name in model.state_dict() if name.startswith("text.blocks.1.")}
    assert "text.blocks.1.attn.qkv.weight" in names
    assert names >= (
        {"text.blocks.1.attn.vr_lambda", "text.blocks.1.ls1.gamma"} if len(options) > 2 else set()
    )
    with torch.no_grad():
        assert torch.equal(again.eval().encode_text(IDS), model.encode_text(IDS))
    with torch.no_grad():  # what stands in its parts is what is computed
        model.text.blocks[0].mlp = nn.Identity()
        assert not torch.equal(again.encode_text(IDS), model.encode_text(IDS))


def test_a_mask_says_what_padding_is():
    model = shaken(CustomTextCLIP(24, VISION, TEXT | {"attention_mode": "bidirectional"}))
    valid, other = IDS != 39, IDS.masked_fill(IDS == 39, 3)
    with torch.no_grad():
        masked = model.encode_text(other, text_valid=valid)
        torch.testing.assert_close(masked, model.encode_text(IDS))
        assert torch.equal(model.text(other, attention_mask=valid), masked)
        assert not torch.allclose(masked, model.encode_text(other))


def test_intermediates_leave_registers_out():
    model = shaken(CustomTextCLIP(24, VISION, TEXT | EVERYTHING))
    found = model.text.forward_intermediates(IDS, indices=[0, -1], output_extra_tokens=True)
    assert [each.shape for each in found["text_intermediates"]] == [(2, 6, 32)] * 2
    assert [each.shape for each in found["text_intermediates_extra"]] == [(2, 2, 32)] * 2
    torch.testing.assert_close(found["text_features"], model.text(IDS))
    early = model.text.forward_intermediates(
        IDS, indices=[0], stop_early=True, intermediates_only=True
    )
    assert list(early) == ["text_intermediates"]
    torch.testing.assert_close(early["text_intermediates"][0], found["text_intermediates"][0])
    model.text.output_tokens = True
    pooled, tokens = model.text(IDS)
    last = model.text.forward_intermediates(IDS, indices=1, normalize_intermediates=True)
    torch.testing.assert_close(tokens, last["text_intermediates"][0])
    torch.testing.assert_close(pooled, last["text_features"])


def test_layers_are_locked_decayed_and_computed_again():
    text = CustomTextCLIP(24, VISION, TEXT | EVERYTHING).text
    assert text.no_weight_decay() == {"reg_tokens", "pool.query"}
    for in_head, last in ((True, ["pool", "text_projection"]), (False, ["text_projection"])):
        groups = dict(text.layer_groups(in_head))
        assert list(groups) == ["embeddings", "layer.0", "layer.1", "proj"]
        parts = [
            name for name, each in text.named_children() if any(each is p for p in groups["proj"])
        ]
        assert parts == last
    text.lock(unlocked_layers=1)
    trained = {name.partition(".")[0] for name, p in text.named_parameters() if p.requires_grad}
    assert trained == {"pool", "text_projection"}
    text.lock(unlocked_layers=4)
    plain = torch.autograd.grad(text(IDS).sum(), text.token_embedding.weight)[0]
    text.set_grad_checkpointing()
    again = torch.autograd.grad(text(IDS).sum(), text.token_embedding.weight)[0]
    torch.testing.assert_close(again, plain)
    assert plain[39].eq(0).all()


def test_an_optimizer_takes_it_layer_by_layer():
    model = CustomTextCLIP(24, VISION, TEXT | EVERYTHING)
    optimizer = create_optimizer(model, OptimizerCfg(opt="adamw", lr=1e-3, text_layer_decay=0.5))
    lrs = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            lrs[parameter] = group["lr"] * group.get("lr_scale", 1)
    text = model.text
    assert lrs[text.token_embedding.weight] < lrs[text.blocks[1].attn.qkv.weight]
    assert len(lrs) == len(list(model.parameters()))


def test_traits_say_that_texts_are_of_their_own_length():
    model = CustomTextCLIP(24, VISION, TEXT)
    traits = traits_from_model(model)
    assert (traits.variable_text, traits.image_input) == (True, InputMode.FIXED)
    name = "moderntext-ViT-B-32-256"
    assert traits_from_config(compat.get_model_config(name)) == traits
    assert not traits_from_model(
        CustomTextCLIP(24, VISION, TEXT | {"variable_text": False})
    ).variable_text


def test_named_models_are_main_branchs():
    said = compat.get_model_config("moderntext-ViT-B-32-256")
    main = {  # model_configs/moderntext-ViT-B-32-256.json of open_clip's main branch
        "text_arch": "modern",
        "context_length": 256,
        "variable_text": True,
        "vocab_size": 50260,
        "width": 512,
        "heads": 8,
        "layers": 12,
        "pad_id": 50258,
        "bos_id": 50259,
        "eos_id": 50257,
        "pool_type": "eos",
        "attention_mode": "causal",
        "pos_embed": "rope",
        "mlp_type": "swiglu",
        "norm_type": "rmsnorm",
        "norm_eps": 1e-6,
        "qk_norm": False,
        "attn_gated": True,
        "tokenizer_type": "tiktoken",
        "tiktoken_name": "r50k_base",
    }
    assert {name: said["text_cfg"][name] for name in main} == main
    assert int(512 * said["text_cfg"]["mlp_ratio"]) == int(512 * 2.6666667)
    assert said["vision_cfg"]["image_size"] == 256
    assert "moderntext-ViT-B-32-256" in compat.list_models()


def test_coca_is_built_of_both():
    model = coca()
    assert isinstance(model.text_decoder, ModernMultimodalTransformer)
    assert model.traits.variable_text
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        image, tokens = model.visual(images)
        found = model(images, IDS, output_labels=False)["logits"]
        clip = model.clip
        ours = clip.next_tokens(IDS, clip.read_pictures(images))
        torch.testing.assert_close(found, ours, atol=1e-5, rtol=1e-5)
        padded = torch.cat([tokens, torch.randn(2, 3, 32)], dim=1)
        valid = torch.arange(tokens.shape[1] + 3).expand(2, -1) < tokens.shape[1]
        texts = torch.randn(2, 6, 32)
        decoder = model.text_decoder
        torch.testing.assert_close(decoder(padded, texts, valid), decoder(tokens, texts))
        hidden = decoder(tokens, texts, return_hidden=True)
        torch.testing.assert_close(hidden @ decoder.lm_head_params[0].T, decoder(tokens, texts))
    assert image.shape == (2, 32)
    assert len(blocks_of(model)) == 1 + 2 + 2
    again = CoCa(32, TEXT, TEXT, POOLED)
    again.load_state_dict(model.state_dict())
    later = IDS.clone()
    later[:, 4] = 11
    with torch.no_grad():  # causal
        other = model(images, later, output_labels=False)["logits"]
    torch.testing.assert_close(other[:, :4], found[:, :4])
    assert not torch.allclose(other[:, 4:], found[:, 4:])


@pytest.mark.parametrize("kind", ["beam_search", "top_k"])
def test_coca_writes_between_its_own_ids(kind):
    model = coca(qk_norm=True)
    ids = model.generate(torch.randn(2, 3, 32, 32), seq_len=8, min_seq_len=3, generation_type=kind)
    assert ids[:, 0].eq(37).all()
    assert ids.shape[1] <= 8


def test_what_doesnt_fit_is_a_value_error():
    with pytest.raises(ValueError, match="requires CustomTextCLIP"):
        CLIP(16, CLIPVisionCfg(**VISION), CLIPTextCfg(**TEXT))
    with pytest.raises(ValueError, match="bidirectional"):
        CoCa(32, MultimodalCfg(**TEXT), TEXT | {"attention_mode": "bidirectional"}, POOLED)
    for options, said in (
        ({"pool_type": "last"}, "pool_type"),
        ({"eos_id": None}, "eos_id"),
        ({"width": 30, "heads": 8}, r"width \(30\) must be divisible by heads \(8\)"),
        ({"norm_type": "batch"}, "norm_type"),
    ):
        with pytest.raises(ConfigError, match=said):
            ModernTextTransformer(CLIPTextCfg(**TEXT | options), 16)


def test_parts_are_built_by_their_own_arguments():
    rope = RotaryEmbedding1D(8)(6, torch.device("cpu"), torch.float32)
    x = torch.randn(2, 6, 16)
    block = ModernTextBlock(16, 2, 2.0, nn.LayerNorm, value_residual=True, mlp_type="relu2")
    out, first = block(x, rope_embed=rope, is_causal=True)
    assert out.shape == x.shape
    assert first.shape == (2, 2, 6, 8)
    attention = ModernTextAttention(16, 2, qk_norm=True, gated=True)
    assert attention(x, rope_embed=rope)[0].shape == x.shape
    turned = attention.turned(x[:, None, :, :8], rope)[:, 0]
    pairs = torch.view_as_complex(x[..., :8].unflatten(-1, (-1, 2)).contiguous())
    wanted = pairs * torch.complex(*rope.chunk(2, dim=-1))
    torch.testing.assert_close(turned, torch.view_as_real(wanted).flatten(-2))
    assert ModernTextCrossAttention(16, 2)(x, torch.randn(2, 3, 16)).shape == x.shape
    pool = ModernTextPool(16, "mean")
    mean = pool(x, IDS, valid=IDS != 39)
    torch.testing.assert_close(mean[1], x[1].mean(0))
    torch.testing.assert_close(mean[0], x[0, :4].mean(0))
    for made in (
        lambda: ModernTextPool(16, "last"),
        lambda: ModernTextAttention(16, 3),
        lambda: ModernTextBlock(16, 2, 2.0, nn.LayerNorm, mlp_type="moe"),
        lambda: ModernTextBlock(16, 2, 2.0, nn.LayerNorm, norm_placement="post"),
        lambda: RotaryEmbedding1D(7),
    ):
        with pytest.raises(ConfigError):
            made()


def test_every_parameter_is_filled_wherever_it_was_built():
    cfg = CLIPTextCfg(**TEXT | EVERYTHING)
    for build in (
        lambda: ModernTextTransformer(cfg, 24),
        lambda: ModernMultimodalTransformer(
            MultimodalCfg(**TEXT | EVERYTHING | {"reg_tokens": 0, "pre_norm": False})
        ),
    ):
        with torch.device("meta"):
            made = build()
        made.to_empty(device="cpu")
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.fill_(torch.nan)
        made.init_parameters()
        assert all(parameter.isfinite().all() for parameter in made.parameters())


def test_low_precision_leaves_norms_as_they_are():
    text = CustomTextCLIP(24, VISION, TEXT | EVERYTHING | {"ls_init_value": None}).text
    compat.convert_weights_to_lp(text, torch.bfloat16)
    assert text.blocks[1].attn.vr_lambda.dtype == torch.float32
    assert text.blocks[1].attn.qkv.weight.dtype == torch.bfloat16
    assert text(IDS).dtype == torch.bfloat16


def test_a_model_of_diptychs_is_shown_so():
    clip = models.build(replace(compat.create_model("tiny-moderntext", load_weights=False).config))
    face = CustomTextCLIP.of(clip)
    assert isinstance(face.text, ModernTextTransformer)
    assert face.text.cfg.attention_mode == "causal"
    assert face.text.token_embedding.padding_idx is None
