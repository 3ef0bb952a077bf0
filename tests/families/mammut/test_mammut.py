"""Both passes of MaMMUT are the formulas of open_clip's and of LAION's fork, with their names of
weights."""

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import diptych
from diptych import models, pretrained
from diptych.checkpoints import convert, load_model
from diptych.config import ClipConfig
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip import VitConfig
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.coca import CocaDecoderConfig
from diptych.families.mammut import MammutDecoderConfig, MammutTextConfig
from diptych.families.mammut.open_clip import fork_json
from diptych.families.mammut.pretrained import MODELS
from diptych.weights.native import save_model

VISION = {
    "image_size": 36,
    "layers": 2,
    "width": 64,
    "head_width": 32,
    "patch_size": 16,
    "output_tokens": True,
    "pool_type": "avg",
    "final_ln_after_pool": True,
}
SIZES = {"context_length": 9, "vocab_size": 60, "width": 32, "heads": 4, "layers": 5}
OPEN_CLIP = {
    "embed_dim": 24,
    "vision_cfg": VISION,
    "multimodal_cfg": SIZES | {"cross_attn_ratio": 2, "proj_type": "linear"},
}
FORK = {
    "embed_dim": 32,
    "vision_cfg": VISION | {"pool_type": "avg_all"},
    "text_cfg": SIZES
    | {
        "vocab_size": 49408,
        "layers": 4,
        "output_tokens": True,
        "cross_attn_ratio": 2,
        "does_full_decoding": True,
    },
    "custom_text": True,
}
LEAN = FORK | {"text_cfg": FORK["text_cfg"] | {"has_mlp": False}}
CFGS = {"open_clip": OPEN_CLIP, "fork": FORK, "lean": LEAN}
IDS = torch.tensor(
    [
        [58, 5, 7, 59, 0, 0, 0, 0, 0],
        [58, *range(20, 27), 59],
        [0] * 9,
        [58, 0, 8, 59, 0, 0, 0, 0, 0],
    ]
)
"""Short, as long as the context, all padding, with padding's id in the middle."""


def config_of(cfg):
    return from_json({"model_cfg": cfg})


@pytest.fixture
def pixels():
    return torch.randn(4, 3, 36, 36, generator=torch.Generator().manual_seed(1))


def same(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


class Reference:
    """The model as its programs say it, by foreign names of weights and nothing of ours."""

    def __init__(self, weights, cfg):
        self.w, self.fork = weights, "text_cfg" in cfg
        self.text = cfg.get("text_cfg") or cfg["multimodal_cfg"]
        self.vision = cfg["vision_cfg"]

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def linear(self, x, name):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def attention(self, x, keys, name, heads, hidden):
        (wq, wk, wv), (bq, bk, bv) = (
            self.w[f"{name}.in_proj_{kind}"].chunk(3) for kind in ("weight", "bias")
        )
        q, k, v = (
            part.unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in (x @ wq.T + bq, keys @ wk.T + bk, keys @ wv.T + bv)
        )
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        if hidden is not None:
            scores = scores + torch.zeros(hidden.shape).masked_fill(hidden, -math.inf)
        return self.linear((scores.softmax(-1) @ v).transpose(1, 2).flatten(2), f"{name}.out_proj")

    def block(self, x, name, heads, keys=None, hidden=None):
        normed = self.norm(x, f"{name}.ln_1")
        keys = normed if keys is None else self.norm(keys, f"{name}.ln_1_kv")
        x = x + self.attention(normed, keys, f"{name}.attn", heads, hidden)
        if f"{name}.ln_2.weight" not in self.w:
            return x
        wide = F.gelu(self.linear(self.norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc"))
        return x + self.linear(wide, f"{name}.mlp.c_proj")

    def image(self, pixels):
        """The vector, and the patches as the last block leaves them."""
        kernel = self.w["visual.conv1.weight"]
        x = F.conv2d(pixels, kernel, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
        first = self.w["visual.class_embedding"].expand(len(x), 1, -1)
        x = torch.cat([first, x], 1) + self.w["visual.positional_embedding"]
        x = self.norm(x, "visual.ln_pre")
        for i in range(self.vision["layers"]):
            x = self.block(x, f"visual.transformer.resblocks.{i}", 2)
        mean = x.mean(1) if self.vision["pool_type"] == "avg_all" else x[:, 1:].mean(1)
        return self.norm(mean, "visual.ln_post") @ self.w["visual.proj"], x[:, 1:]

    def states(self, ids, keys, hidden):
        every, heads = self.text["cross_attn_ratio"], self.text["heads"]
        x = self.w["text.token_embedding.weight"][ids]
        x = x + self.w["text.positional_embedding"][: ids.shape[1]]
        for i in range(self.text["layers"]):
            x = self.block(x, f"text.resblocks.{i}", heads, hidden=hidden)
            if keys is not None and i % every == 0:
                x = self.block(x, f"text.cross_attn.{i // every}", heads, keys=keys)
        return self.norm(x, "text.ln_final")

    def contrast(self, ids):
        if self.fork:  # every place sees every other one, and all are averaged
            return self.states(ids, None, None).mean(1)
        real = ids != 0
        real[:, 0] |= ~real.any(1)
        x = self.states(ids, None, ~real[:, None, None])
        return (x * real[..., None]).sum(1) / real.sum(1)[:, None] @ self.w["text.text_projection"]

    def captions(self, pixels, ids):
        keys = self.image(pixels)[1] @ self.w["map_viz2txt_kv"]
        later = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).triu(1)
        words = self.w["text.text_projection" if self.fork else "text.lm_head"]
        return self.states(ids, keys, later) @ words


def written(model, folder, to):
    """What `convert` makes of a model, as a program finds it."""
    save_model(folder / "native", model)
    convert(folder / "native", to, folder / to)
    cfg = json.loads((folder / to / "open_clip_config.json").read_text())["model_cfg"]
    return load_file(folder / to / "open_clip_model.safetensors"), cfg


@pytest.mark.parametrize("name", CFGS)
def test_both_passes_are_the_formulas(random_model, tmp_path, pixels, name):
    ours = random_model(config_of(CFGS[name])).eval()
    weights, cfg = written(ours, tmp_path, "open-clip" if name == "open_clip" else "mammut")
    assert config_of(cfg) == ours.config
    theirs = Reference(weights, cfg)
    assert ("text.lm_head" in weights) == (name == "open_clip")
    with torch.inference_mode():
        same(ours.encode_image(pixels), theirs.image(pixels)[0])
        same(ours.encode_text(IDS), theirs.contrast(IDS))
        read = ours.read_pictures(pixels)
        logits = ours.next_tokens(IDS, read)
        same(logits, theirs.captions(pixels, IDS))
        same(ours.next_tokens(IDS[:, :4], read, last=True)[:, 0], logits[:, 3])
        # Several texts of a picture stand beside each other.
        both = torch.stack([IDS, IDS.flip(1)], 1).flatten(0, 1)
        same(ours.next_tokens(both, read)[::2], logits)
        # Padding is seen in the fork, and there alone.
        short, whole = ours.encode_text(IDS[:1, :4]), ours.encode_text(IDS[:1])
        assert torch.allclose(short, whole, atol=1e-5) == (name == "open_clip")


@pytest.mark.parametrize("name", CFGS)
def test_both_layouts_both_ways(random_model, tmp_path, name):
    """To the bit, each from its own file and through the other."""
    ours = random_model(config_of(CFGS[name]))
    before, _ = written(ours, tmp_path, "open-clip")
    again, meta = load_model(tmp_path / "open-clip")
    assert meta.config == ours.config
    assert all(torch.equal(value, ours.state_dict()[n]) for n, value in again.state_dict().items())
    if name == "open_clip":
        with pytest.raises(CheckpointError, match="--to open-clip keeps this model"):
            convert(tmp_path / "native", "mammut", tmp_path / "mammut")
        return
    convert(tmp_path / "open-clip", "mammut", tmp_path / "mammut")
    forked = load_file(tmp_path / "mammut" / "open_clip_model.safetensors")
    renamed = {n.replace("text.lm_head", "text.text_projection"): t for n, t in before.items()}
    assert forked.keys() == renamed.keys()
    assert all(torch.equal(forked[n], renamed[n]) for n in renamed)
    read, meta = load_model(tmp_path / "mammut")
    assert meta.config == ours.config
    assert all(torch.equal(value, ours.state_dict()[n]) for n, value in read.state_dict().items())


@pytest.mark.parametrize("name", MODELS)
def test_a_published_file_tells_its_model(name):
    """Heads, sizes and how tokens are read follow from names and shapes."""
    config = MODELS[name]
    assert config_of(to_json(config)["model_cfg"]) == config
    fork = name.startswith("mammut_")
    if fork:
        assert config_of(fork_json(config)) == config
    meta = models.build(config, device="meta")
    counted = {
        "mammut_ViT-S-32": 85_615_873,
        "mammut_ViT-B-16": 290_521_345,
        "mammut_ViT-L-14": 508_294_913,
        "mammut_ViT-H-14": 1_188_144_641,
        "mammut2_ViT-B-32": 195_625_729,
    }
    parameters = sum(p.numel() for p in meta.parameters())
    assert parameters == counted.get(name, parameters)
    assert pretrained.get(name) == config
    by_formula = sum(
        math.prod(shape)
        for shape in shapes(fork_json(config) if fork else to_json(config)["model_cfg"])
    )
    assert parameters == by_formula


def shapes(cfg):
    """Of all tensors, as the programs make them; those of equal blocks as one."""
    vision, text = cfg["vision_cfg"], cfg.get("text_cfg") or cfg["multimodal_cfg"]
    wide, width, patch = vision["width"], text["width"], vision["patch_size"]
    words, length = text["vocab_size"], text["context_length"]
    yield from ((wide,), ((vision["image_size"] // patch) ** 2 + 1, wide), (wide, 3, patch, patch))
    yield from ((4, wide), (wide, cfg["embed_dim"]), (wide, width), ())
    yield from ((words, width), (length, width), (width, words), (2, width))
    layers = text["layers"]
    readers = -(-layers // text["cross_attn_ratio"])
    lean = 0 if text.get("has_mlp", True) else readers
    for size, attentions, mlps in (
        (wide, vision["layers"], vision["layers"]),
        (width, layers + readers, layers + readers - lean),
    ):
        yield (attentions, 4 * size * size + 6 * size)
        yield (mlps, 8 * size * size + 7 * size)
    yield (readers, 2, width)


@pytest.fixture
def tiny_published(monkeypatch):
    """A published size that is small: heads are of 64 channels."""
    cfg = FORK | {
        "embed_dim": 64,
        "vision_cfg": FORK["vision_cfg"] | {"head_width": 64},
        "text_cfg": FORK["text_cfg"] | {"width": 64, "heads": 1},
    }
    config = config_of(cfg)
    known = {
        "mammut_ViT-X-16": config,
        "mammut2_ViT-X-16": replace(
            config,
            image=replace(config.image, pool="patches"),
            text=replace(config.text, pool="real", masked=True),
        ),
    }
    monkeypatch.setattr("diptych.families.mammut.layouts.MODELS", known)
    return known


def test_a_file_alone_is_recognised(tiny_published, random_model, tmp_path):
    """As `epoch_latest.pt` of LAION's research repository is written, and as open_clip's."""
    for name, to in (("mammut_ViT-X-16", "mammut"), ("mammut2_ViT-X-16", "open-clip")):
        ours = random_model(tiny_published[name])
        weights, _ = written(ours, tmp_path / name, to)
        file = tmp_path / f"{name}.pt"
        state = {f"module.{key}": value for key, value in weights.items()}
        torch.save({"epoch": 1, "name": "run", "state_dict": state}, file)
        with pytest.warns(UserWarning, match="means of tokens"):
            loaded = diptych.load(file)
        assert loaded.model.config == ours.config  # 36 pixels of 16 have a margin
        found = loaded.model.state_dict()
        assert all(torch.equal(found[key], value) for key, value in ours.state_dict().items())


def test_wrong_files_are_refused_in_a_sentence(tiny_published, random_model, tmp_path):
    ours = random_model(tiny_published["mammut_ViT-X-16"])
    weights, _ = written(ours, tmp_path, "mammut")
    unknown = {n: t for n, t in weights.items() if "resblocks.3" not in n}
    renamed = weights | {"text.extra": torch.zeros(1)}
    blind = {n: t for n, t in weights.items() if "cross_attn" not in n}
    for tensors, message in (
        (unknown, "no published MaMMUT has towers of these shapes"),
        (renamed, "text.extra"),
        (blind, "it has no decoder.readers.0.mlp.up.weight"),
    ):
        torch.save(tensors, tmp_path / "odd.pt")
        with pytest.raises(CheckpointError, match=message):
            diptych.load(tmp_path / "odd.pt")


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (OPEN_CLIP | {"multimodal_cfg": SIZES | {"pool_type": "eos"}}, "pool_type 'eos'"),
        (OPEN_CLIP | {"multimodal_cfg": SIZES | {"text_arch": "fast"}}, "text_arch = 'fast'"),
        (OPEN_CLIP | {"multimodal_cfg": SIZES | {"cross_attn_ratio": 6}}, "every 6 is above"),
        (
            FORK | {"text_cfg": SIZES | {"is_multimodal_decoder": True}},
            "LAION's fork says does_full_decoding",
        ),
        ({"embed_dim": 8, "vision_cfg": VISION}, "has no 'text_cfg'"),
    ],
)
def test_other_configurations_are_refused(cfg, message):
    with pytest.raises((CheckpointError, ConfigError), match=message):
        config_of(cfg)


def test_parts_that_do_not_fit_are_refused():
    text, image = MammutTextConfig(width=64, heads=1), VitConfig(width=128, heads=2)
    decoder = MammutDecoderConfig(width=64, heads=1, picture_width=128)
    whole = ClipConfig(image=image, text=text, decoder=decoder, embed_dim=64)
    models.build(whole, device="meta")
    for changed, message in (
        (replace(whole, embed_dim=32), "embed_dim 32 must be the text tower's width 64"),
        (replace(whole, text=replace(text, layers=3)), "text.layers 12, and this model has 3"),
        (replace(whole, decoder=replace(decoder, picture_width=64)), "image.width 64"),
        (replace(whole, text=pretrained.get("tiny").text), "is a TextConfig"),
        (
            replace(whole, decoder=CocaDecoderConfig(width=64, heads=1)),
            "tokens of width 64, but those of pictures have 128",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            models.build(changed, device="meta")
    with pytest.raises(CheckpointError, match="MammutTextConfig with no decoder"):
        to_json(replace(whole, decoder=None))


@pytest.mark.parametrize("name", CFGS)
def test_operations_are_counted(name):
    model = models.build(config_of(CFGS[name])).requires_grad_(False).eval()
    config = model.config.decoder
    pictures = torch.zeros(1, 256, config.picture_width)
    counts = []
    for run in (
        lambda: model.text(IDS[1:2].repeat(1, 2)[:, :9]),
        lambda: model.decoder.next_tokens(
            model.text, IDS[1:2].repeat(1, 2)[:, :9], model.decoder.read(pictures)
        ),
    ):
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            run()
        counts.append(counter.get_total_flops())
    text = model.text.flops()
    assert counts[0] == text
    if name != "open_clip":  # whose projection the pass of captions computes in vain
        assert counts[1] == text + model.decoder.flops()


def test_fresh_weights_have_their_spread():
    torch.manual_seed(0)
    model = models.build(config_of(LEAN))
    lean, whole, reader = model.text.blocks[0], model.text.blocks[1], model.decoder.readers[0]
    for found, wanted in (
        (model.text.tokens.weight, 0.02),
        (model.text.positions, 0.01),
        (lean.attention.qkv.weight, 32**-0.5),
        (lean.attention.out.weight, (2 * 4 * 32) ** -0.5),
        (whole.mlp.up.weight, 64**-0.5),
        (reader.out.weight, (2 * 4 * 32) ** -0.5),
        (model.decoder.pictures.weight, 64**-0.5),
        (model.decoder.projection.weight, 32**-0.5),
    ):
        assert float(found.detach().std()) == pytest.approx(wanted, rel=0.25)
