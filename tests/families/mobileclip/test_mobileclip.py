"""open_clip, timm and plain code compute what we compute with MobileCLIP's weights, in its layout
and in Apple's; merged branches give the same vectors."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diptych import models, pretrained
from diptych.checkpoints import detect, load_model
from diptych.config import ClipConfig
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip.layouts.open_clip import WEIGHTS, export, export_table
from diptych.families.clip.layouts.open_clip_config import to_json
from diptych.families.mobileclip import MobileTextConfig
from diptych.families.mobileclip.layouts import apple
from diptych.families.mobileclip.layouts.open_clip import OPEN_CLIP
from diptych.families.mobileclip.text import MobileTextTower
from diptych.inputs import tokenizer_of
from diptych.models import build_tower
from diptych.weights.mapping import Table
from diptych.weights.state import State
from tests.models.peers import shake

open_clip = pytest.importorskip("open_clip")
pytest.importorskip("timm")

TEXT = MobileTextConfig(context_length=9, vocab_size=50, width=16, layers=2, heads=2, mlp_width=40)
MIXED = replace(TEXT, mixer_kernel=5)


@pytest.fixture
def ids():
    """Ends of text at different places, zeros behind them."""
    ids = torch.randint(1, 49, (3, 9), generator=torch.Generator().manual_seed(2))
    for row, end in zip(ids, (3, 8, 1)):
        row[end], row[end + 1 :] = 49, 0
    return ids


def tower(config, randomise) -> MobileTextTower:
    made = randomise(build_tower(config, 12))
    assert isinstance(made, MobileTextTower)
    return made


def test_the_text_tower_is_open_clips(randomise, ids):
    ours = tower(TEXT, randomise)
    theirs = open_clip.transformer.TextTransformer(
        context_length=9,
        vocab_size=50,
        width=16,
        heads=2,
        layers=2,
        mlp_ratio=2.5,
        output_dim=12,
        no_causal_mask=True,
    ).eval()
    foreign = Table(rules=OPEN_CLIP[0].export_rules(TEXT)).to_foreign(
        {f"text.{name}": tensor for name, tensor in ours.state_dict().items()}
    )
    theirs.load_state_dict({name.removeprefix("text."): t for name, t in foreign.items()})
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).pooled, theirs(ids), atol=1e-5, rtol=1e-5)
        other = ids.clone()
        other[0, 5] = 7  # behind the end of the first text alone
        assert not torch.allclose(ours(other).pooled[0], ours(ids).pooled[0])
        torch.testing.assert_close(ours(other).pooled[1:], ours(ids).pooled[1:])


def plain_mixer(x, names, prefix):
    """Apple's RepMixer block over pictures one pixel high, from its published weights' names."""

    def norm(x, name):
        part = [names[f"{prefix}{name}.{end}"] for end in ("running_mean", "running_var")]
        gain, bias = (names[f"{prefix}{name}.{end}"] for end in ("weight", "bias"))
        return F.batch_norm(x, *part, gain, bias)

    def conv(x, name):
        weight = names[f"{prefix}{name}.weight"]
        return F.conv2d(x, weight, padding=(0, weight.shape[-1] // 2), groups=len(weight))

    def dense(x, name):
        return F.conv2d(x, names[f"{prefix}{name}.weight"], names[f"{prefix}{name}.bias"])

    x = x.permute(0, 2, 1)[:, :, None]
    one = norm(x, "token_mixer.mixer.rbr_skip")
    one = one + norm(
        conv(x, "token_mixer.mixer.rbr_conv.0.conv"), "token_mixer.mixer.rbr_conv.0.bn"
    )
    other = norm(x, "token_mixer.norm.rbr_skip")
    x = x + names[f"{prefix}token_mixer.layer_scale"] * (one - other)
    y = norm(conv(x, "convffn.conv.conv"), "convffn.conv.bn")
    y = dense(F.gelu(dense(y, "convffn.fc1")), "convffn.fc2")
    x = x + names[f"{prefix}layer_scale"] * y
    return x[:, :, 0].permute(0, 2, 1)


def test_a_convolutional_block_is_apples(randomise):
    ours = tower(MIXED, randomise)
    foreign = apple.table(()).to_foreign(
        {f"text.{name}": tensor for name, tensor in ours.state_dict().items()}
    )
    x = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(0))
    for place in (0, 3):  # before the transformer and behind it
        wanted = plain_mixer(x, foreign, f"text_encoder.transformer.{place}.")
        with torch.no_grad():
            torch.testing.assert_close(ours.blocks[place](x), wanted, atol=1e-5, rtol=1e-5)
    assert foreign["text_encoder.transformer.0.convffn.fc1.weight"].shape == (40, 16, 1, 1)
    assert "text_encoder.transformer.1.pre_norm_mha.1.qkv_proj.weight" in foreign


@pytest.mark.parametrize("text", [TEXT, MIXED], ids=["plain", "mixed"])
def test_operations_are_counted_and_texts_are_whole(randomise, ids, text):
    ours = tower(text, randomise)
    plain = sdpa_kernel(SDPBackend.MATH)  # torch before 2.13 doesn't count the fused one
    with FlopCounterMode(display=False) as counter, torch.no_grad(), plain:
        ours(ids[:1])
    assert ours.flops() == counter.get_total_flops()
    with pytest.raises(ConfigError, match="5 tokens; .* padded to 9"):
        ours(ids[:, :5])


@pytest.mark.parametrize("text", [TEXT, MIXED], ids=["plain", "mixed"])
@torch.no_grad()
def test_the_pooled_token_alone_is_the_same(randomise, ids, text):
    ours = tower(text, randomise).eval()
    alone, all_of_them = ours(ids, "none"), ours(ids)
    torch.testing.assert_close(alone.pooled, all_of_them.pooled)
    attends = text is TEXT  # a convolution needs its neighbours
    with FlopCounterMode(display=False) as few, sdpa_kernel(SDPBackend.MATH):
        ours(ids[:1], "none")
    assert (few.get_total_flops() < ours.flops()) == attends


def test_fresh_blocks_do_little():
    torch.manual_seed(0)
    ours = build_tower(MIXED, 12)
    ours.init()
    x = torch.randn(2, 9, 16)
    with torch.no_grad():
        assert 0 < float((ours.eval().blocks[0](x) - x).abs().max()) < 1e-3


def test_texts_are_padded_to_the_context():
    tokenizer = tokenizer_of(pretrained.get("MobileCLIP-S0"))
    theirs = open_clip.get_tokenizer("MobileCLIP-S1")
    texts = ["a cat", "Two DOGS, running; " * 40]
    assert tokenizer(texts).tolist() == theirs(texts).tolist()
    assert not tokenizer_of(pretrained.get("MobileCLIP-B")).whole_length


@pytest.fixture(scope="module")
def config() -> ClipConfig:
    """The smallest image tower, with a small text tower."""
    published = pretrained.get("MobileCLIP-S0")
    assert published.image == pretrained.get("MobileCLIP2-S0").image
    assert published.text == MobileTextConfig(layers=4, mixer_kernel=11)
    return replace(published, text=replace(TEXT, vocab_size=49408))


@pytest.fixture(scope="module")
def state(config):
    """Of a model of it, in which no number is another's; the image tower's bias is zero."""
    torch.manual_seed(0)
    model = models.build(config)
    shake(model)
    model.image.projection.bias.data.zero_()
    return model.state_dict()


@pytest.fixture(scope="module")
def peer(config, state):
    """open_clip's model of the same weights."""
    cfg = to_json(config)["model_cfg"]
    assert cfg.pop("custom_text")
    made = open_clip.CustomTextCLIP(**cfg).eval()
    made.load_state_dict(export_table(config).to_foreign(state))
    return made


def test_vectors_are_open_clips_with_branches_and_merged(config, state, peer, tmp_path):
    export(tmp_path / "out", config, state)
    pixels = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = peer.encode_image(pixels, normalize=True)
        for deploy in (False, True):
            made = load_model(tmp_path / "out", deploy=deploy)
            found = made.model.encode_image(pixels, normalize=True)
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
            assert made.config.image.deploy is deploy
    names = set(made.model.image.state_dict())
    assert not any("conv_kxk" in name or "identity" in name for name in names)
    # Merged weights in open_clip's layout, as its users save them, say of themselves what they are.
    merged = export_table(config).to_foreign(made.model.state_dict())
    save_file(merged, tmp_path / "out" / WEIGHTS)
    assert load_model(tmp_path / "out").config.image.deploy


def test_apples_files_are_read_and_written(config, state, peer, tmp_path, monkeypatch):
    monkeypatch.setitem(apple.MODELS, "MobileCLIP-S0", config)
    apple.export_file(tmp_path / "mobileclip_s0.pt", config, state)
    assert detect(tmp_path / "mobileclip_s0.pt") == "mobileclip"
    again = load_model(tmp_path / "mobileclip_s0.pt")
    assert again.config == config
    found = again.model.state_dict()
    assert all(torch.equal(state[name], found[name]) for name in state)
    # open_clip's own conversion of Apple's names to its own.
    written = torch.load(tmp_path / "mobileclip_s0.pt", weights_only=True)
    converted = open_clip.convert.convert_state_dict(peer, written)
    theirs = peer.state_dict()
    assert converted.keys() == theirs.keys()
    assert all(torch.equal(converted[name], theirs[name]) for name in theirs)
    biased = state | {"image.projection.bias": torch.ones(512)}
    with pytest.raises(CheckpointError, match="is not zero; --to open-clip keeps it"):
        apple.export_file(tmp_path / "biased.pt", config, biased)


def test_what_apples_code_does_not_build_is_refused(config, tmp_path):
    with pytest.raises(CheckpointError, match="MobileCLIP-S0, S1, S2 and B, and this is none"):
        apple.export_file(tmp_path / "out.pt", pretrained.get("MobileCLIP2-S3"), {})
    with pytest.raises(CheckpointError, match="no convolutional blocks.*--to mobileclip"):
        to_json(replace(config, text=MIXED))
    shapes = {"image.trunk.stem.0.conv_kxk.0.conv.weight": torch.empty(96, 3, 3, 3)}
    with pytest.raises(CheckpointError, match="no published MobileCLIP has a stem of 96 channels"):
        apple.name_of(State.of(shapes))


def test_apples_other_image_tower_has_the_names_that_open_clip_converts():
    config = pretrained.get("MobileCLIP-B")
    ours = models.build(config, device="meta").state_dict()
    bare = {n: t for n, t in ours.items() if n != "image.projection.bias"}
    apples = apple.table(["image_encoder.model.patch_emb.0.block.conv.weight"]).to_foreign(bare)
    cfg = open_clip.get_model_config("MobileCLIP-B")
    del cfg["custom_text"]
    with torch.device("meta"):
        peer = open_clip.CustomTextCLIP(**cfg)
    theirs = open_clip.convert.convert_state_dict(peer, apples)
    wanted = export_table(config).to_foreign(ours)
    assert {n: t.shape for n, t in theirs.items()} == {n: t.shape for n, t in wanted.items()}
