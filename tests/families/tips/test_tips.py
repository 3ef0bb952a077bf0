"""transformers and timm compute what we compute, with the same TIPS weights, and both ways; every
published model is configured as they have it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import diptych
from diptych import compat, models, pretrained
from diptych.checkpoints import convert, detect, load_image_tower, load_model
from diptych.config import ClipConfig
from diptych.config.serialize import difference
from diptych.errors import AssumptionWarning, CheckpointError, ConfigError
from diptych.families.clip.layouts import open_clip
from diptych.families.clip.layouts.open_clip import export_table
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.tips import TipsImageConfig, TipsTextConfig
from diptych.families.tips.layouts import names, sections
from diptych.families.tips.pretrained import MODELS, PREPROCESS, SIZES, TOKENIZER, model_config
from diptych.inputs import build_tokenizer

transformers = pytest.importorskip("transformers")
timm = pytest.importorskip("timm")

CONFIG = ClipConfig(
    image=TipsImageConfig(image_size=42, width=384, layers=2, heads=6, mlp_width=96),
    text=TipsTextConfig(
        context_length=8, vocab_size=50, width=384, layers=2, heads=6, mlp_width=80
    ),
    embed_dim=384,
    logit_scale=5.0,
    preprocess=PREPROCESS,
    tokenizer=TOKENIZER,
)
"""Of the smallest published width, by which heads are told."""
GATED = replace(CONFIG, image=replace(CONFIG.image, mlp="swiglu"))
"""Two thirds of 144."""


def theirs_of(config: ClipConfig):
    vision = sections.image_json(config.image)
    text = sections.text_json(config.text)
    built = transformers.Tipsv2Config(vision_config=vision, text_config=text)
    return transformers.Tipsv2Model(built).eval()


@pytest.fixture(params=[CONFIG, GATED], ids=["gelu", "swiglu"])
def theirs(request, randomise):
    model = randomise(theirs_of(request.param))
    with torch.no_grad():
        model.temperature.fill_(0.01)
    return model


@pytest.fixture
def pixels():
    return torch.rand(3, 3, 42, 42, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def ids():
    """Of different lengths, padded with 0."""
    ids = torch.randint(1, 50, (3, 8), generator=torch.Generator().manual_seed(2))
    for row, length in zip(ids, (8, 5, 1)):
        row[length:] = 0
    return ids


@pytest.fixture
def tokenizer(tmp_path):
    """A small one of transformers' class, in a folder."""
    words = ["<pad>", "<unk>", "▁", *"abcdegorst", "▁d", "▁do", "▁dog"]
    vocab = {word: number for number, word in enumerate(words)}
    merges = [("▁", "d"), ("▁d", "o"), ("▁do", "g")]
    made = transformers.Tipsv2Tokenizer(vocab=vocab, merges=merges)
    made.save_pretrained(tmp_path / "tokenizer")
    return made, tmp_path / "tokenizer"


def compare(ours, theirs, pixels, ids):
    with torch.no_grad():
        wanted = theirs(pixel_values=pixels, input_ids=ids, attention_mask=(ids != 0).long())
        images, texts = ours(pixels, ids)
        tokens = ours.image(pixels, tokens="normed").tokens
        words = ours.text(ids, tokens="normed").tokens[ids != 0]
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(images, wanted.image_embeds, **close)
    torch.testing.assert_close(texts, wanted.text_embeds, **close)
    torch.testing.assert_close(tokens, wanted.vision_model_output.last_hidden_state, **close)
    hidden = wanted.text_model_output.last_hidden_state[ids != 0]
    torch.testing.assert_close(words, hidden, **close)
    logits = ours.logits(images, texts)
    torch.testing.assert_close(logits, wanted.logits_per_image, atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize("original", [True, False], ids=["written", "modules"])
def test_a_folder_of_transformers_is_read(theirs, tmp_path, pixels, ids, original):
    theirs.save_pretrained(tmp_path / "theirs", save_original_format=original)
    assert detect(tmp_path / "theirs") == "tips"
    ours, meta = load_model(tmp_path / "theirs")
    assert meta.config.preprocess == PREPROCESS
    assert meta.config.tokenizer == TOKENIZER
    assert meta.provenance["unused"][0].endswith("mask_token")
    compare(ours, theirs, pixels, ids)


def test_a_model_becomes_a_folder_of_transformers(theirs, tmp_path, tokenizer, pixels, ids):
    theirs.save_pretrained(tmp_path / "theirs")
    tokenizer[0].save_pretrained(tmp_path / "theirs")
    ours, meta = load_model(tmp_path / "theirs")
    out = convert(tmp_path / "theirs", "transformers", tmp_path / "out")
    again, info = transformers.Tipsv2Model.from_pretrained(out, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    compare(ours, again.eval(), pixels, ids)
    assert again.temperature.item() == pytest.approx(0.01, rel=1e-6)
    with torch.no_grad():
        before, after = (
            model(pixel_values=pixels, input_ids=ids, attention_mask=(ids != 0).long())
            for model in (theirs, again)
        )
    torch.testing.assert_close(after.image_embeds, before.image_embeds, atol=1e-5, rtol=1e-5)
    assert load_file(out / "model.safetensors").keys() >= {"vision_encoder.mask_token"}
    processor = transformers.AutoImageProcessor.from_pretrained(out)
    picture = torch.randint(256, (3, 50, 40), dtype=torch.uint8)
    made = processor(images=picture, return_tensors="pt")["pixel_values"]
    assert made.shape == (1, 3, 42, 42)
    assert 0 <= made.min() < made.max() <= 1
    assert not difference(load_model(out).meta.config, meta.config).keys() - {"tokenizer.name"}


@pytest.mark.parametrize("part", ["image", "text"])
def test_a_tower_alone_comes_and_goes(theirs, tmp_path, tokenizer, pixels, ids, part):
    tower = theirs.vision_model if part == "image" else theirs.text_model
    tower.save_pretrained(tmp_path / "theirs")
    tokenizer[0].save_pretrained(tmp_path / "theirs")
    ours, meta = load_model(tmp_path / "theirs")
    assert meta.config.missing == ("text" if part == "image" else "image")
    if part == "image":
        assert meta.config.preprocess == PREPROCESS
    out = convert(tmp_path / "theirs", "transformers", tmp_path / "out")
    kind = transformers.Tipsv2VisionModel if part == "image" else transformers.Tipsv2TextModel
    again, info = kind.from_pretrained(out, output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys"))
    with torch.no_grad():
        if part == "image":
            found, wanted = ours.encode_image(pixels), again(pixels).pooler_output
        else:
            found = ours.encode_text(ids)
            wanted = again(ids, attention_mask=(ids != 0).long()).pooler_output
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_weights_without_a_temperature_have_config_jsons(tmp_path, randomise):
    """As those on the hub."""
    theirs = randomise(theirs_of(CONFIG))
    state = {n: t for n, t in theirs.state_dict().items() if n != "temperature"}
    theirs.config.temperature_init_value = 0.02
    theirs.save_pretrained(tmp_path / "m", state_dict=state)
    assert "temperature" not in load_file(tmp_path / "m" / "model.safetensors")
    scale = load_model(tmp_path / "m").model.logit_scale.item()
    assert scale == pytest.approx(-math.log(0.02))
    named = load_model(tmp_path / "m", config=CONFIG).model.logit_scale.item()
    assert named == scale


def archives(folder, theirs):
    """The authors' two files."""
    theirs.save_pretrained(folder / "theirs")
    state = load_file(folder / "theirs" / "model.safetensors")
    files = {"image": folder / "tips_vision.npz", "text": folder / "tips_text.npz"}
    for side, prefix in (("image", names.IMAGE), ("text", names.TEXT)):
        own = {n.removeprefix(prefix): t.numpy() for n, t in state.items() if n.startswith(prefix)}
        if side == "text":
            own["temperature"] = np.array(0.01, dtype=np.float32)
        np.savez(files[side], **own)
    return files


def test_the_authors_archives_are_read(theirs, tmp_path, pixels, ids):
    files = archives(tmp_path, theirs)
    with pytest.warns(AssumptionWarning, match="heads of the published widths"):
        image = load_model(files["image"]).model
    with pytest.warns(AssumptionWarning, match="TIPS's preprocessing and tokenizer"):
        text, meta = load_model(files["text"])
    assert meta.config.tokenizer == TOKENIZER
    with torch.no_grad():
        wanted = theirs(pixel_values=pixels, input_ids=ids, attention_mask=(ids != 0).long())
        seen, read = image.encode_image(pixels, True), text.encode_text(ids, True)
    torch.testing.assert_close(seen, wanted.image_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(read, wanted.text_embeds, atol=1e-5, rtol=1e-5)


def test_a_state_dict_alone_is_told_by_its_shapes(theirs, tmp_path, pixels, ids):
    torch.save(theirs.state_dict(), tmp_path / "model.pt")
    with pytest.warns(AssumptionWarning, match="heads of the published widths"):
        ours = load_model(tmp_path / "model.pt").model
    compare(ours, theirs, pixels, ids)


@pytest.mark.parametrize(
    ("part", "name", "value", "said"),
    [
        ("vision_config", "hidden_act", "silu", "vision_config.hidden_act = 'silu' has no place"),
        ("vision_config", "image_size", [42, 28], "42 x 28 pixels are no square"),
        ("text_config", "pad_token_id", 10**12, "pad_token_id 1000000000000 must be one of the"),
        ("text_config", "scale_sqrt_depth", False, "text_config.scale_sqrt_depth = False"),
        ("text_config", "hidden_size", 100, "doesn't describe a TIPS model"),
        (None, "temperature_init_value", -1, "temperature_init_value -1 must be a number above 0"),
    ],
)
def test_another_model_is_refused(tmp_path, randomise, part, name, value, said):
    theirs_of(CONFIG).save_pretrained(tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    content = diptych.weights.read.read_json(file)
    (content if part is None else content[part])[name] = value
    file.write_text(__import__("json").dumps(content))
    with pytest.raises(CheckpointError, match=said):
        load_model(tmp_path / "m")


SIDES = ("14", "ab", 14.0, -14, 0, True, None, [14, 14, 14], [], [14.5, 14.5], {"height": 14})


@pytest.mark.parametrize("name", ["image_size", "patch_size"])
@pytest.mark.parametrize("side", SIDES, ids=str)
def test_a_side_that_is_none_is_refused(name, side):
    with pytest.raises(CheckpointError, match=f"vision_config.{name} .* must be a whole number of"):
        sections.image_config({name: side})


def test_a_side_may_be_said_twice():
    found = sections.image_config({"image_size": [42, 42], "patch_size": [14]})
    assert (found.image_size, found.patch_size) == (42, 14)


def test_dinov2_with_registers_is_no_tips(tmp_path):
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=384, num_hidden_layers=1, num_attention_heads=6, image_size=42, patch_size=14
    )
    transformers.Dinov2WithRegistersModel(config).save_pretrained(tmp_path / "dino")
    with pytest.raises(CheckpointError, match="dinov2_with_registers|no layout"):
        load_model(tmp_path / "dino")


def timms(config: TipsImageConfig):
    vision = pytest.importorskip("timm.models.vision_transformer")
    gated = config.mlp == "swiglu"
    kind = {"mlp_layer": vision.SwiGLUPacked, "act_layer": torch.nn.SiLU} if gated else {}
    return vision.VisionTransformer(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=config.width,
        depth=config.layers,
        num_heads=config.heads,
        mlp_ratio=config.mlp_width / config.width * (2 if gated else 1),
        init_values=1.0,
        reg_tokens=config.registers,
        no_embed_class=True,
        num_classes=0,
        **kind,
    ).eval()


def test_timm_reads_the_folder_as_we_do(theirs, tmp_path, pixels):
    vision = pytest.importorskip("timm.models.vision_transformer")
    theirs.save_pretrained(tmp_path / "theirs")
    ours, meta = load_model(tmp_path / "theirs")
    trunk = timms(meta.config.image)
    prefix = "vision_encoder.blocks"
    state = {
        name.replace("mlp.c_fc", "mlp.fc1").replace("mlp.c_proj", "mlp.fc2")
        if name.startswith(prefix)
        else name: tensor
        for name, tensor in load_file(tmp_path / "theirs" / "model.safetensors").items()
    }
    trunk.load_state_dict(vision.checkpoint_filter_fn(state, trunk))
    with torch.no_grad():
        tokens, _, pooled = ours.image(pixels, tokens="normed")
        torch.testing.assert_close(tokens, trunk.forward_features(pixels), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(pooled, trunk(pixels), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["TIPSv2-B-14", "TIPSv2-g-14"])
def test_names_and_shapes_are_transformers_and_timms(name):
    """On `meta`."""
    size, config = MODELS[name][0], pretrained.get(name)
    with torch.device("meta"):
        theirs = theirs_of(config).state_dict()
        trunk = timm.create_model(f"vit_{size}_patch14_reg1_tipsv2").state_dict()
    ours = models.build(config, device="meta").state_dict()
    read = names.table(theirs).to_ours(theirs).shapes
    assert {name: tensor.shape for name, tensor in read.items()} == {
        name: tensor.shape for name, tensor in ours.items()
    }
    in_open_clip = export_table(config).to_foreign(ours)
    found = {n.removeprefix("visual.trunk."): t.shape for n, t in in_open_clip.items()}
    image = {n: s for n, s in found.items() if not n.startswith(("text.", "logit"))}
    assert image == {name: tensor.shape for name, tensor in trunk.items()}


COUNTS = {
    "TIPSv2-B-14": (85.7, 109.6),
    "TIPSv2-L-14": (303.2, 183.9),
    "TIPSv2-SO400M-14": (412.4, 448.3),
    "TIPSv2-g-14": (1134.8, 389.1),
}
"""Millions of parameters, by the README, which counts the first version's table of positions."""


@pytest.mark.parametrize("name", MODELS)
def test_every_published_model_is_as_large_as_its_authors_say(name):
    config, own = pretrained.get(name), MODELS[name][1]
    model = models.build(config, device="meta")
    image, text = (
        sum(p.numel() for p in tower.parameters()) for tower in (model.image, model.text)
    )
    image += (1 + 16 * 16) * config.image.width - model.image.positions.numel()
    assert (image / 1e6, text / 1e6) == pytest.approx(COUNTS[name], abs=0.15)
    assert pretrained.get(own) == config
    weights = pretrained.weights(f"google/{own}")
    assert weights is not None
    assert weights.repo == f"google/{own}"


@pytest.mark.parametrize("name", MODELS)
def test_open_clips_configuration_comes_and_goes(name):
    """As the pull request has it."""
    config = pretrained.get(name)
    written = to_json(config)
    vision, text = written["model_cfg"]["vision_cfg"], written["model_cfg"]["text_cfg"]
    assert vision == {
        "image_size": 448,
        "timm_model_name": f"vit_{MODELS[name][0]}_patch14_reg1_tipsv2",
        "timm_model_pretrained": False,
        "timm_pool": "token",
        "timm_proj": "none",
    }
    wanted = {
        "context_length": 64,
        "vocab_size": 32000,
        "hf_tokenizer_name": "tips",
        "tokenizer_mode": "tips",
        "no_causal_mask": True,
        "use_pad_mask": True,
        "pad_id": 0,
        "pool_type": "mean",
        "pos_embed_type": "sinusoidal",
        "scale_sqrt_depth": True,
        "proj_type": "none",
        "act_layer": "relu",
    }
    assert text.items() >= wanted.items()
    assert written["model_cfg"]["custom_text"] is True
    assert difference(from_json(written), config).keys() <= {"logit_scale"}


def test_open_clips_layout_comes_and_goes(random_model, tmp_path, ids, monkeypatch):
    small = replace(SIZES["base"], width=384, heads=6, layers=2, image_mlp=96)
    monkeypatch.setitem(SIZES, "base", small)
    model = random_model(CONFIG)
    open_clip.export(tmp_path / "out", CONFIG, model.state_dict())
    again, meta = load_model(tmp_path / "out")
    assert difference(meta.config, CONFIG).keys() <= {"logit_scale"}
    mine, back = model.state_dict(), again.state_dict()
    assert all(torch.equal(mine[name], back[name]) for name in mine)
    assert again.encode_text(ids).shape == (3, 384)
    (tmp_path / "out" / "open_clip_config.json").unlink()
    with pytest.raises(CheckpointError, match="no open_clip_config.json lies beside it"):
        load_model(tmp_path / "out")
    assert load_model(tmp_path / "out", config=CONFIG).meta.config == CONFIG


def test_other_pictures_interpolate_as_transformers_does(random_model, tmp_path):
    theirs = theirs_of(CONFIG)
    with torch.no_grad():
        for parameter in theirs.vision_model.parameters():
            parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_image_tower(tmp_path / "theirs", image_size=70).tower
    pixels = torch.rand(1, 3, 70, 70, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted = theirs.vision_model(pixels).pooler_output
        torch.testing.assert_close(ours(pixels).pooled, wanted, atol=1e-5, rtol=1e-5)


def test_heat_maps_are_of_the_authors_patches(theirs, tmp_path, pixels):
    """The last block's values in place of its attention; residual and perceptron stay."""
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_image_tower(tmp_path / "theirs").tower
    tower, layer = theirs.vision_model, theirs.vision_model.encoder.layer[-1]
    with torch.no_grad():
        x = tower(pixels, output_hidden_states=True).hidden_states[-2]
        own = layer.attention.o_proj(layer.attention.v_proj(layer.norm1(x)))
        x = x + layer.layer_scale1(own)
        x = x + layer.layer_scale2(layer.mlp(layer.norm2(x)))
        wanted = tower.layernorm(x)[:, 2:]
        torch.testing.assert_close(ours.patch_vectors(pixels), wanted, atol=1e-5, rtol=1e-5)


def test_padding_changes_nothing_and_an_empty_text_is_zero(random_model, ids):
    text = random_model(CONFIG).text
    with torch.no_grad():
        full = text(ids).pooled
        short = text(ids[1:, :5]).pooled
        torch.testing.assert_close(short, full[1:], atol=1e-6, rtol=1e-5)
        assert not text(torch.zeros(1, 4, dtype=torch.long)).pooled.any()
    with pytest.raises(ConfigError, match="9 tokens; this tower takes at most 8"):
        text(torch.ones(1, 9, dtype=torch.long))


def test_one_token_is_computed_as_all_are(random_model, pixels):
    tower = random_model(GATED).image
    with torch.no_grad():
        alone, among = tower(pixels, "none").pooled, tower(pixels).pooled
        torch.testing.assert_close(alone, among, atol=1e-5, rtol=1e-5)
        projected = tower(pixels, "projected").tokens
        assert torch.equal(projected, tower(pixels, "normed").tokens)
        assert tower.patch_vectors(pixels).shape == (3, 9, 384)


@pytest.mark.parametrize("config", [CONFIG, GATED])
def test_flops_are_torchs(random_model, pixels, ids, config):
    model = random_model(config)
    for tower, inputs in ((model.image, pixels[:1]), (model.text, ids[:1])):
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            tower(inputs)
        assert tower.flops() == counter.get_total_flops()


def test_every_parameter_gets_a_gradient(random_model, pixels, ids):
    model = models.build(GATED).train()
    images, texts = model(pixels, ids)
    logits = model.logits(images, texts)
    torch.nn.functional.cross_entropy(logits, torch.arange(3)).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert not without
    with pytest.raises(ConfigError, match="embed_dim must be its width, 384"):
        models.build(replace(CONFIG, embed_dim=64))


def test_the_tokenizer_lowers_and_pads_with_zero(tokenizer):
    _, folder = tokenizer
    how = replace(TOKENIZER, name=str(folder))
    made = build_tokenizer(how, 8)
    assert made.pad_id == 0
    assert made.encode("A  DOG") == made.encode("a dog")
    assert made(["a dog", "dog"], pad_to=8)[1].tolist()[1:] == [0] * 7


def test_tables_of_another_version(tmp_path, theirs, pixels):
    """TIPS of the first version has a table of 16 x 16 places for pictures of 448 pixels: the
    authors' code interpolates it, and so does `image_size`."""
    small = replace(CONFIG, image=replace(CONFIG.image, image_size=28))
    model = theirs_of(small)
    files = archives(tmp_path, model)
    with pytest.warns(AssumptionWarning):
        tower = load_image_tower(files["image"], image_size=42).tower
    with torch.no_grad():
        wanted = model.vision_model(pixels).pooler_output
        torch.testing.assert_close(tower(pixels).pooled, wanted, atol=1e-5, rtol=1e-5)


def test_open_clips_face_takes_the_folder(theirs, tmp_path, tokenizer, pixels, ids):
    """And weights under the names of transformers'."""
    theirs.save_pretrained(tmp_path / "theirs")
    tokenizer[0].save_pretrained(tmp_path / "theirs")
    ours = compat.create_model(f"local-dir:{tmp_path / 'theirs'}")
    assert {"visual.trunk.reg_token", "text.ln_final.bias"} <= ours.state_dict().keys()
    with torch.no_grad():
        wanted = theirs(pixel_values=pixels, input_ids=ids, attention_mask=(ids != 0).long())
        seen, read = ours.encode_image(pixels, True), ours.encode_text(ids, True)
    torch.testing.assert_close(seen, wanted.image_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(read, wanted.text_embeds, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        theirs.text_model.final_layer_norm.bias.add_(1)
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours.text.ln_final.bias, theirs.text_model.final_layer_norm.bias)
    found = compat.get_tokenizer(f"local-dir:{tmp_path / 'theirs'}")
    assert found(["A dog"]).shape == (1, 8)


def test_a_published_model_needs_but_its_name():
    assert model_config("base") == pretrained.get("TIPSv2-B-14")
    assert pretrained.get("tipsv2-g14").image.mlp_width == 4096
