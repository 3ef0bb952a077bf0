"""The "modern" text tower and decoder compute what open_clip's main branch says, here written once
more from the formulas; its names and options, both ways. (open_clip 3.3 doesn't have them, and no
weights are published.)"""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diptych import models, pretrained
from diptych.checkpoints import convert, load_model
from diptych.config import ClipConfig
from diptych.config.serialize import difference
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip import VitConfig
from diptych.families.clip.layouts.open_clip import export_table, table
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.coca import CocaImageConfig
from diptych.families.infer import infer
from diptych.families.modern import ModernDecoderConfig, ModernTextConfig
from diptych.families.modern.pretrained import MODELS, TINY
from diptych.weights.native import save_model

IMAGE = VitConfig(image_size=32, patch_size=16, width=32, layers=1, heads=2, mlp_width=64)
TEXT = ModernTextConfig(
    context_length=12,
    vocab_size=40,
    width=32,
    layers=3,
    heads=4,
    mlp_width=50,
    start_id=37,
    end_id=38,
    pad_id=39,
)
DECODER = ModernDecoderConfig(
    context_length=12,
    vocab_size=40,
    width=32,
    layers=3,
    heads=4,
    mlp_width=50,
    start_id=37,
    end_id=38,
    pad_id=39,
)
EVERYTHING = {
    "qk_norm": True,
    "sandwich": True,
    "layer_scale": 0.7,
    "value_residual": True,
    "attention_bias": True,
    "gate_bias": True,
    "mlp_bias": True,
}
VARIANTS = {
    "plain": {"gated": False},
    "gated": {},
    "everything": EVERYTHING | {"pre_norm": True, "registers": 2, "projection_bias": True},
    "layer norms, both ways, a query": {
        "norm": "layer",
        "norm_eps": 1e-4,
        "causal": False,
        "reading": "query",
        "qk_norm": True,
        "mlp": "relu2",
    },
    "no places, the mean": {"rotary": False, "reading": "mean", "mlp": "gelu"},
    "both ways, registers": {"causal": False, "registers": 3, "reading": "mean", "theta": 50.0},
}


def model(**options) -> ClipConfig:
    return ClipConfig(image=IMAGE, text=replace(TEXT, **options), embed_dim=24)


def texts() -> torch.Tensor:
    """Three of different lengths; the last one lost its end."""
    ids = torch.randint(37, (3, 10), generator=torch.Generator().manual_seed(3))
    ids[0, 6], ids[1, 9] = 38, 38
    ids[0, 7:], ids[2, 4:] = 39, 39
    return ids


class Reference:
    """open_clip's `ModernTextTransformer` and `ModernMultimodalTransformer` of a state dict in its
    names, token by token and head by head."""

    def __init__(self, state, config, before):
        self.state = {n.removeprefix(before): t for n, t in state.items() if n.startswith(before)}
        self.c = config

    def linear(self, name, x):
        bias = self.state.get(f"{name}.bias")
        y = x @ self.state[f"{name}.weight"].T
        return y if bias is None else y + bias

    def norm(self, name, x):
        weight, bias = self.state.get(f"{name}.weight"), self.state.get(f"{name}.bias")
        if weight is None:
            return x
        if self.c.norm == "layer":
            x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + self.c.norm_eps).sqrt()
        return x * weight if bias is None else x * weight + bias

    def heads(self, x):
        return x.unflatten(-1, (self.c.heads, -1)).transpose(1, 2)

    def turned(self, x):
        if not self.c.rotary:
            return x
        half = x.shape[-1] // 2
        angles = [[p / self.c.theta ** (m / half) for m in range(half)] for p in range(x.shape[2])]
        turn = torch.polar(torch.ones(x.shape[2], half), torch.tensor(angles))
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * turn).flatten(-2)

    def attend(self, q, k, v, hidden):
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        return scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v

    def gated(self, name, x, read):
        read = read.transpose(1, 2).flatten(2)
        if f"{name}.gate.weight" in self.state:
            read = read * torch.sigmoid(self.linear(f"{name}.gate", x))
        return self.linear(f"{name}.proj", read)

    def attention(self, name, x, hidden, first):
        q, k, v = map(self.heads, self.linear(f"{name}.qkv", x).chunk(3, -1))
        first = v if first is None else first
        share = self.state.get(f"{name}.vr_lambda")
        if share is not None:
            v = first + share * (v - first)
        q, k = self.norm(f"{name}.q_norm", q), self.norm(f"{name}.k_norm", k)
        read = self.attend(self.turned(q), self.turned(k), v, hidden)
        return self.gated(name, x, read), first

    def reader(self, name, x, pictures):
        q = self.norm(f"{name}.q_norm", self.heads(self.linear(f"{name}.q", x)))
        k, v = map(self.heads, self.linear(f"{name}.kv", pictures).chunk(2, -1))
        k = self.norm(f"{name}.k_norm", k)
        return self.gated(name, x, self.attend(q, k, v, torch.tensor(False)))

    def mlp(self, name, x):
        if self.c.mlp == "swiglu":
            value, gate = self.linear(f"{name}.w12", x).chunk(2, -1)
            return self.linear(f"{name}.w3", value * F.silu(gate))
        hidden = self.linear(f"{name}.c_fc", x)
        hidden = F.gelu(hidden) if self.c.mlp == "gelu" else hidden.clamp(min=0) ** 2
        return self.linear(f"{name}.c_proj", hidden)

    def branch(self, norm, scale, y):
        return self.norm(norm, y) * self.state.get(f"{scale}.gamma", 1)

    def blocks(self, x, hidden, pictures=None):
        first = None
        for i in range(self.c.layers):
            name = f"blocks.{i}"
            y, first = self.attention(f"{name}.attn", self.norm(f"{name}.norm1", x), hidden, first)
            x = x + self.branch(f"{name}.norm1_post", f"{name}.ls1", y)
            if f"{name}.xattn.q.weight" in self.state:
                y = self.reader(f"{name}.xattn", self.norm(f"{name}.norm_x", x), pictures)
                x = x + self.branch(f"{name}.norm_x_post", f"{name}.ls_x", y)
            y = self.mlp(f"{name}.mlp", self.norm(f"{name}.norm2", x))
            x = x + self.branch(f"{name}.norm2_post", f"{name}.ls2", y)
        return x

    def text(self, ids):
        x = self.state["token_embedding.weight"][ids]
        extra = self.c.registers
        if extra:
            x = torch.cat([self.state["reg_tokens"].expand(len(x), -1, -1), x], dim=1)
        real, count = ids != self.c.pad_id, ids.shape[1] + extra
        hidden = ~F.pad(real, (extra, 0), value=True)[:, None, None]
        if self.c.causal:
            hidden = torch.ones(count, count).triu(1).bool()
        x = self.blocks(self.norm("norm_pre", x), hidden)
        x = self.norm("ln_final", x)[:, extra:]
        return x, self.linear("text_projection", self.pool(x, ids, real))

    def pool(self, x, ids, real):
        if self.c.reading == "mean":
            return torch.stack([row[kept].mean(0) for row, kept in zip(x, real)])
        if self.c.reading == "end":
            ends = [
                row.tolist().index(38) if 38 in row else int(kept.sum()) - 1
                for row, kept in zip(ids, real)
            ]
            return torch.stack([row[end] for row, end in zip(x, ends)])
        q = self.heads(self.linear("pool.q", self.state["pool.query"].expand(len(x), -1, -1)))
        k, v = map(self.heads, self.linear("pool.kv", x).chunk(2, -1))
        q, k = self.norm("pool.q_norm", q), self.norm("pool.k_norm", k)
        return self.attend(q, k, v, ~real[:, None, None]).transpose(1, 2).flatten(1)

    def decoder(self, x, pictures):
        hidden = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        return (
            self.norm("ln_final", self.blocks(x, hidden, pictures)) @ self.state["lm_head.weight"].T
        )


def shaken(config: ClipConfig):
    """A model in which every number is another one than at the start."""
    made = models.build(config).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return made


@pytest.mark.parametrize("name", VARIANTS)
def test_the_tower_computes_the_formulas(name):
    config = model(**VARIANTS[name])
    made, ids = shaken(config), texts()
    foreign = export_table(config).to_foreign(made.state_dict())
    tokens, pooled = Reference(foreign, config.text, "text.").text(ids)
    with torch.no_grad():
        ours = made.text(ids, "normed")
        assert torch.equal(made.text(ids, "none").pooled, ours.pooled)
    torch.testing.assert_close(ours.pooled, pooled, atol=1e-5, rtol=1e-5)
    real = ids != 39
    torch.testing.assert_close(ours.tokens[real], tokens[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_padding_changes_no_number(name):
    made, ids = shaken(model(**VARIANTS[name])), texts()
    with torch.no_grad():
        long = F.pad(ids, (0, 2), value=39)
        torch.testing.assert_close(made.text(ids).pooled, made.text(long).pooled)
        assert made.text(torch.full((1, 4), 39)).pooled.isfinite().all()


@pytest.mark.parametrize(
    "options", [{}, EVERYTHING | {"step": 2}, {"mlp": "relu2", "norm": "layer"}]
)
def test_the_decoder_computes_the_formulas(options):
    config = replace(
        model(),
        image=CocaImageConfig(
            image_size=32, width=32, layers=1, heads=2, mlp_width=64, queries=5, pool_heads=2
        ),
        embed_dim=32,
        decoder=replace(DECODER, **options),
    )
    made = shaken(config)
    foreign = export_table(config).to_foreign(made.state_dict())
    x, pictures = torch.randn(4, 7, 32), torch.randn(2, 5, 32)
    each = pictures.repeat_interleave(2, dim=0)
    wanted = Reference(foreign, made.decoder.config, "text_decoder.").decoder(x, each)
    with torch.no_grad():
        written = made.decoder(x, made.decoder.read(pictures))
        trained = made.decoder.logits(made.decoder.states(x, each))
        last = made.decoder(x, made.decoder.read(pictures), last=True)
    for ours in (written, trained):
        torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last, wanted[:, -1:], atol=1e-5, rtol=1e-5)
    assert not difference(from_json(to_json(config)), config)


@pytest.mark.parametrize("name", VARIANTS)
def test_open_clips_names_and_options_both_ways(name, tmp_path):
    config = model(**VARIANTS[name])
    assert not difference(from_json(to_json(config)), config)
    made = shaken(config)
    foreign = export_table(config).to_foreign(made.state_dict())
    back = table(foreign).to_ours(foreign)
    assert all(torch.equal(back[n], t) for n, t in made.state_dict().items())
    folder = convert(save_model(tmp_path / "native", made), "open-clip", tmp_path / "out")
    again, meta = load_model(folder)
    assert not difference(meta.config, config)
    with torch.no_grad():
        assert torch.equal(again.encode_text(texts()), made.encode_text(texts()))


def test_a_configuration_is_inferred_from_keys():
    options = {n: v for n, v in EVERYTHING.items() if n != "layer_scale"}
    ids = {"vocab_size": 50260, "start_id": 50259, "end_id": 50257, "pad_id": 50258}
    text = replace(TEXT, **options, **ids, context_length=256, pre_norm=True, registers=2)
    image = replace(pretrained.get("vit-b-32").image, layers=1)
    decoder = replace(DECODER, **options, **ids, context_length=256, step=2)
    config = ClipConfig(image=image, text=text, decoder=decoder, embed_dim=32)
    shapes = models.build(replace(config, decoder=None), device="meta").state_dict()
    shapes |= {
        f"decoder.{name}": tensor
        for name, tensor in models.build_decoder(decoder, torch.device("meta")).state_dict().items()
    }
    assert not difference(infer(shapes, "gelu"), config)
    unknown = models.build(replace(model(), image=image), device="meta").state_dict()
    with pytest.raises(CheckpointError, match="which of the 40 ids"):
        infer(unknown, "gelu")


_SAID = {
    "text_arch": "modern",
    "width": 512,
    "heads": 8,
    "layers": 12,
    "pos_embed": "rope",
    "mlp_type": "swiglu",
    "norm_type": "rmsnorm",
    "norm_eps": 1e-6,
    "attn_gated": True,
}
_TIKTOKEN = _SAID | {
    "context_length": 256,
    "variable_text": True,
    "vocab_size": 50260,
    "mlp_ratio": 2.6666667,
    "pad_id": 50258,
    "bos_id": 50259,
    "eos_id": 50257,
    "pool_type": "eos",
    "attention_mode": "causal",
    "tokenizer_type": "tiktoken",
    "tiktoken_name": "r50k_base",
}
_CLIP = _SAID | {"context_length": 76, "vocab_size": 49408}
_OF_CLIP = {"bos_id": 49406, "eos_id": 49407, "freeze_pad_embed": False, "pool_type": "eos"}
_LONG = _SAID | {
    "context_length": 128,
    "vocab_size": 50260,
    "pad_id": 50258,
    "bos_id": 50259,
    "eos_id": 50257,
    "qk_norm": True,
}
_WORDS = {
    "tokenizer_type": "tiktoken",
    "tiktoken_name": "r50k_base",
    "tokenizer_kwargs": {"clean": "whitespace"},
}
MAIN = {  # model_configs of open_clip's main branch
    "moderntext-ViT-B-32-256": {
        "vision_cfg": {"image_size": 256, "layers": 12, "width": 768, "patch_size": 32},
        "text_cfg": _TIKTOKEN,
    },
    "moderntext-naflex_ViT-B-32": {
        "vision_cfg": {
            "image_size": 256,
            "image_seq_len": 64,
            "timm_model_name": "naflexvit_base_patch16_gap",
            "timm_model_kwargs": {"patch_size": 32, "pos_embed_grid_size": [8, 8]},
        },
        "text_cfg": _TIKTOKEN,
    },
    "coca2-moderntext_ViT-B-32": {
        "vision_cfg": {
            "image_size": 224,
            "layers": 12,
            "width": 768,
            "patch_size": 32,
            "attentional_pool": "cascade",
            "attn_pooler_heads": 8,
        },
        "text_cfg": _CLIP | _OF_CLIP,
        "multimodal_cfg": _CLIP,
    },
    "coca2-moderntext-naflex_ViT-B-32": {
        "vision_cfg": {
            "image_size": 256,
            "image_seq_len": 64,
            "timm_model_name": "naflexvit_base_patch16_gap",
            "timm_model_kwargs": {
                "patch_size": 32,
                "pre_norm": True,
                "pos_embed_grid_size": [8, 8],
            },
            "attentional_pool": "parallel",
            "attn_pooler_queries": 128,
            "output_tokens": True,
        },
        "text_cfg": _LONG | {"variable_text": True, "pool_type": "mean", **_WORDS},
        "multimodal_cfg": _LONG,
    },
    "mammut2-moderntext_ViT-B-32": {
        "vision_cfg": {
            "image_size": 224,
            "layers": 12,
            "width": 768,
            "patch_size": 32,
            "output_tokens": True,
            "pool_type": "avg",
            "final_ln_after_pool": True,
        },
        "multimodal_cfg": _LONG | {"variable_text": True, "cross_attn_ratio": 2, **_WORDS},
    },
}


@pytest.mark.parametrize("name", MODELS)
def test_named_models_are_open_clips(name):
    entry = pretrained.entry(name)
    assert not entry.weights
    assert not difference(from_json({"model_cfg": MAIN[name] | {"embed_dim": 512}}), entry.config)
    written = to_json(entry.config)
    assert not difference(from_json(written), entry.config)
    for section, said in MAIN[name].items():
        ours = written["model_cfg"][section]
        assert {key: ours[key] for key in said if key != "mlp_ratio"} == {
            key: value for key, value in said.items() if key != "mlp_ratio"
        }


def test_a_named_model_is_built():
    made = models.build(pretrained.get("coca2-moderntext_ViT-B-32"), device="meta")
    assert made.text.tokens.weight.shape == (49408, 512)
    assert made.decoder.projection.weight.shape == (49408, 512)


def test_it_starts_as_open_clip_does():
    torch.manual_seed(0)
    config = replace(TEXT, width=64, layers=12, mlp_width=170, attention_bias=True, gate_bias=True)
    made = models.build_tower(config, 48)
    made.init()
    spread = {
        name: torch.stack([block.get_parameter(name) for block in made.blocks]).std().item()
        for name in ("attention.qkv.weight", "attention.out.weight", "mlp.gate_up.weight")
    }
    wanted = (64**-0.5, (24 * 64) ** -0.5, 1.22 * 128**-0.5)
    assert list(spread.values()) == pytest.approx(wanted, rel=0.1)
    assert made.blocks[0].attention.gate.bias.eq(1).all()
    assert made.blocks[0].attention.qkv.bias.eq(0).all()
    assert made.tokens.weight[39].eq(0).all()
    zero = models.build_tower(replace(TEXT, zero_residual=True), 48)
    zero.init()
    ids = texts()
    with torch.no_grad():  # each block leaves its input as it is
        torch.testing.assert_close(zero(ids).tokens, zero.tokens(ids))


def test_still_padding_gets_no_gradient_and_all_else_does():
    made = models.build_tower(replace(TEXT, **EVERYTHING, registers=2, reading="query"), 48)
    made.init()
    made(texts()).pooled.square().sum().backward()
    missing = [name for name, p in made.named_parameters() if p.grad is None]
    assert not missing
    assert made.tokens.weight.grad[39].eq(0).all()
    assert made.tokens.weight.grad[38].any()


def test_layers_and_decay():
    made = models.build_tower(replace(TEXT, registers=2, reading="query", value_residual=True), 48)
    groups = made.layer_groups()
    assert groups[0] == ["registers", "tokens.weight"] or set(groups[0]) == {
        "registers",
        "tokens.weight",
    }
    assert len(groups) == 5
    assert all(name.startswith(("pool.", "projection.")) for name in groups[-1])
    assert "norm_post.weight" in groups[-2]
    assert {"registers", "pool.query", "blocks.1.attention.value_mix"} <= made.no_decay
    assert "blocks.0.attention.gate.weight" not in made.no_decay


@pytest.mark.parametrize("options", [{}, {"reading": "query", "registers": 2, "mlp": "gelu"}])
def test_flops_are_torchs(options):
    made = models.build_tower(replace(TEXT, **options), 48).eval()
    made.init()
    made.requires_grad_(False)
    plain = sdpa_kernel(SDPBackend.MATH)  # whose products all versions of torch count
    with FlopCounterMode(display=False) as counter, plain:
        made(torch.full((1, 12), 3))
    assert made.flops() == counter.get_total_flops()


def test_what_doesnt_fit_is_refused():
    for options, said in (
        ({"width": 30}, r"width \(30\) must be divisible by heads \(4\)"),
        ({"width": 36}, "RoPE head dim must be even"),
        ({"end_id": None}, "end_id"),
        ({"pad_id": 40}, "pad_id 40 is none of vocab_size 40"),
    ):
        with pytest.raises(ConfigError, match=said):
            replace(TEXT, **options)
    with pytest.raises(ConfigError, match="step 4 is above layers 3"):
        replace(DECODER, step=4)
    with pytest.raises(ConfigError, match="bidirectional"):
        replace(model(causal=False), decoder=DECODER)
    with pytest.raises(ConfigError, match="13 tokens"):
        models.build(model()).text(torch.ones(1, 13, dtype=torch.long))
    with pytest.raises(ConfigError, match="embed_dim must be its width, 32"):
        models.build(model(projection=False))
    said = to_json(model())
    said["model_cfg"]["text_cfg"]["pool_type"] = "last"
    with pytest.raises(CheckpointError, match="no pool_type of modern texts is called 'last'"):
        from_json(said)


def test_the_tiny_one_is_trained():
    made = models.build(TINY)
    images, words = made(torch.zeros(2, 3, 48, 48), torch.tensor([[49406, 320, 49407]]))
    made.logits(images, words).sum().backward()
    assert made.text.tokens.weight.grad.isfinite().all()
