"""timm, open_clip and transformers compute what we compute, with the same SigLIP weights; every
published model is configured as they have it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import diptych
from diptych import models, pretrained
from diptych.checkpoints import convert, detect, load_image_tower, load_model
from diptych.config import ClipConfig, PreprocessConfig, TokenizerConfig
from diptych.config.serialize import difference
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip.layouts.open_clip import export_table
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.siglip import SiglipImageConfig, SiglipTextConfig
from diptych.families.siglip.layouts.open_clip import TOWERS
from diptych.families.siglip.pretrained import MODELS
from diptych.inputs import tokenizer_of
from diptych.weights.mapping import Table
from diptych.weights.native import save_model

open_clip = pytest.importorskip("open_clip")
timm = pytest.importorskip("timm.models.vision_transformer")
transformers = pytest.importorskip("transformers")

CONFIG = ClipConfig(
    image=SiglipImageConfig(image_size=34, patch_size=8, width=64, layers=2, heads=4, mlp_width=96),
    text=SiglipTextConfig(
        context_length=8, vocab_size=50, width=48, layers=2, heads=4, mlp_width=80
    ),
    embed_dim=64,
    logit_bias=-10.0,
    preprocess=PreprocessConfig(resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
)
"""Pictures of which a margin of two pixels makes no patch, as with 384 of 14."""
SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
VISION = SHAPE | {"image_size": 34, "patch_size": 8, "num_attention_heads": 4}
TEXT = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 50,
    "max_position_embeddings": 8,
    "projection_size": 64,
}


@pytest.fixture
def pixels():
    return torch.randn(3, 3, 34, 34, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def ids():
    return torch.randint(50, (3, 8), generator=torch.Generator().manual_seed(2))


@pytest.fixture
def ours(random_model):
    return random_model(CONFIG)


def test_the_image_tower_is_timms(ours, pixels):
    theirs = timm.VisionTransformer(
        img_size=34,
        patch_size=8,
        embed_dim=64,
        depth=2,
        num_heads=4,
        mlp_ratio=1.5,
        num_classes=0,
        class_token=False,
        global_pool="map",
        act_layer="gelu_tanh",
    ).eval()
    foreign = Table(rules=TOWERS[0].rules(())).to_foreign(
        {f"image.{name}": tensor for name, tensor in ours.image.state_dict().items()}
    )
    theirs.load_state_dict({n.removeprefix("visual.trunk."): t for n, t in foreign.items()})
    with torch.no_grad():
        tokens, _, pooled = ours.image(pixels, tokens="normed")
        torch.testing.assert_close(tokens, theirs.forward_features(pixels), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(pooled, theirs(pixels), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("projection", [True, False])
def test_the_text_tower_is_open_clips(random_model, ids, projection):
    dim = 64 if projection else 48
    image = replace(CONFIG.image, width=dim)
    text = replace(CONFIG.text, projection=projection)
    ours = random_model(replace(CONFIG, image=image, text=text, embed_dim=dim))
    theirs = open_clip.transformer.TextTransformer(
        context_length=8,
        vocab_size=50,
        width=48,
        heads=4,
        layers=2,
        mlp_ratio=80 / 48,
        output_dim=dim,
        no_causal_mask=True,
        pool_type="last",
        proj_type="linear" if projection else "none",
        proj_bias=projection,
        act_layer=lambda: torch.nn.GELU(approximate="tanh"),
        norm_layer=lambda width: torch.nn.LayerNorm(width, eps=1e-6),
    ).eval()
    foreign = Table(rules=TOWERS[1].rules(())).to_foreign(
        {f"text.{name}": tensor for name, tensor in ours.text.state_dict().items()}
    )
    theirs.load_state_dict({name.removeprefix("text."): t for name, t in foreign.items()})
    with torch.no_grad():
        wanted = theirs(ids)
        torch.testing.assert_close(ours.encode_text(ids), wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.text(ids).pooled, wanted, atol=1e-5, rtol=1e-5)


def test_transformers_folders_are_read_and_written(randomise, tmp_path, pixels, ids):
    config = transformers.SiglipConfig(text_config=TEXT, vision_config=VISION)
    peer = randomise(transformers.SiglipModel(config)).eval()
    peer.save_pretrained(tmp_path / "in")
    assert detect(tmp_path / "in") == "siglip-transformers"
    ours, meta = load_model(tmp_path / "in")
    tokenizer = TokenizerConfig(kind="huggingface", name=str(tmp_path / "in"), clean="canonical")
    # Its folder holds no processor's file: transformers' SiglipImageProcessor as it is.
    assert not difference(meta.config, replace(CONFIG, tokenizer=tokenizer))
    with pytest.raises(ConfigError, match="in lacks the model's tokenizer: put its files"):
        diptych.load(tmp_path / "in")
    with torch.no_grad():
        theirs = peer(pixel_values=pixels, input_ids=ids)
        images, texts = ours(pixels, ids)
        logits = ours.logits(images, texts)
    torch.testing.assert_close(images, theirs.image_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(texts, theirs.text_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits, theirs.logits_per_image, atol=1e-4, rtol=1e-5)
    # Their tokenizer lies nowhere: the model is written without.
    model = models.build(replace(meta.config, tokenizer=TokenizerConfig()))
    model.load_state_dict(ours.state_dict())
    convert(save_model(tmp_path / "native", model), "transformers", tmp_path / "out")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "out")
    assert type(processor).__name__.startswith("SiglipImageProcessor")
    before, after = peer.state_dict(), load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = transformers.SiglipModel.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        logits = again(pixel_values=pixels, input_ids=ids).logits_per_image
    torch.testing.assert_close(logits, theirs.logits_per_image)


@pytest.mark.parametrize(
    ("kind", "said"),
    [("clip", "a 'clip' model"), ("siglip2", "patches of 16 pixels; the tower's are of 8")],
)
def test_another_kind_of_folder_is_called_by_its_name(randomise, tmp_path, kind, said):
    config = transformers.SiglipConfig(text_config=TEXT, vision_config=VISION)
    randomise(transformers.SiglipModel(config)).save_pretrained(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(described | {"model_type": kind}))
    with pytest.raises(CheckpointError, match=said):
        load_model(tmp_path)


def test_an_image_tower_alone(randomise, tmp_path, pixels):
    config = transformers.SiglipVisionConfig(**VISION)
    peer = randomise(transformers.SiglipVisionModel(config)).eval()
    peer.save_pretrained(tmp_path / "in")
    tower = load_image_tower(tmp_path / "in").tower
    with torch.no_grad():
        wanted = peer(pixel_values=pixels).pooler_output
        torch.testing.assert_close(tower(pixels).pooled, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_published_model_is_open_clips(model):
    file = Path(open_clip.__file__).parent / "model_configs" / f"{model.name}.json"
    wanted = json.loads(file.read_text())
    grey = {"mean": [0.5] * 3, "std": [0.5] * 3}
    preprocess = {"interpolation": "bicubic", "resize_mode": "squash", "fill_color": 0} | grey
    theirs = from_json({"model_cfg": wanted, "preprocess_cfg": preprocess})
    ours = pretrained.get(model.name)
    # The temperature at the start, which the weights replace.
    assert set(difference(ours, theirs)) == {"logit_scale"}
    written = to_json(ours)
    assert written["preprocess_cfg"] == preprocess
    found = written["model_cfg"]
    assert found.keys() == wanted.keys()
    assert found["vision_cfg"] == wanted["vision_cfg"]
    hidden = [
        int(text["width"] * text.pop("mlp_ratio", 4))
        for text in (found["text_cfg"], wanted["text_cfg"])
    ]
    assert hidden[0] == hidden[1]
    assert found["text_cfg"] == wanted["text_cfg"]
    known = open_clip.get_pretrained_cfg(model.name, "webli")
    assert pretrained.weights(f"{model.name}/webli").repo == known["hf_hub"].rstrip("/")


@pytest.mark.parametrize(
    "name", ["ViT-B-16-SigLIP", "ViT-SO400M-16-SigLIP-i18n-256", "ViT-gopt-16-SigLIP2-384"]
)
def test_names_and_shapes_are_open_clips(name):
    file = Path(open_clip.__file__).parent / "model_configs" / f"{name}.json"
    cfg = json.loads(file.read_text())
    del cfg["custom_text"]
    with torch.device("meta"):
        theirs = open_clip.CustomTextCLIP(**cfg).state_dict()
    config = pretrained.get(name)
    ours = export_table(config).to_foreign(models.build(config, device="meta").state_dict())
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}


def test_texts_are_padded_to_the_context_and_lose_case_and_punctuation(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "s", "dog"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    text = replace(CONFIG.text, vocab_size=len(words))
    tokenizer = TokenizerConfig(kind="huggingface", name=str(tmp_path), clean="canonical")
    config = replace(CONFIG, text=text, tokenizer=tokenizer)
    theirs = open_clip.tokenizer.HFTokenizer(str(tmp_path), context_length=8, clean="canonicalize")
    texts = ["A CAT's, a_dog!", "dog", "a cat & a dog and a cat, a dog"]
    ours = tokenizer_of(config)
    assert ours(texts).tolist() == theirs(texts).tolist()
    assert ours("dog").tolist() == [[2, 8, 3, 0, 0, 0, 0, 0]]
    # And so through whatever encodes: alone or beside longer ones, a text has one vector.
    encoder = diptych.Encoder(models.build(config))
    alone, beside = encoder.embed_texts("dog"), encoder.embed_texts(["dog", texts[0]])
    torch.testing.assert_close(alone, beside[:1])
    with torch.no_grad():
        wanted = encoder.model.encode_text(theirs(["dog"]), normalize=True)
    torch.testing.assert_close(alone, wanted)


def test_what_does_not_fit_is_said(ours, ids):
    with pytest.raises(ConfigError, match="padded to 8"):
        ours.encode_text(ids[:, :5])
    with pytest.raises(ConfigError, match="no projection: embed_dim must be its width, 64"):
        models.build(replace(CONFIG, embed_dim=32))
    with pytest.raises(CheckpointError, match="timm has none of width 64"):
        to_json(CONFIG)


@pytest.mark.parametrize("side", ["image", "text"])
def test_operations_are_counted(ours, pixels, ids, side):
    tower, example = (ours.image, pixels) if side == "image" else (ours.text, ids)
    plain = sdpa_kernel(SDPBackend.MATH)  # torch before 2.13 doesn't count the fused one
    with FlopCounterMode(display=False) as counter, torch.no_grad(), plain:
        tower(example[:1])
    assert tower.flops() == counter.get_total_flops()


def test_from_its_end_the_attention_pool_is_unlocked_first(ours):
    *_, block, pool = ours.image.layer_groups()
    assert {name.partition(".")[0] for name in pool} == {"pool"}
    assert len(pool) == len(list(ours.image.pool.parameters()))
    assert {name.partition(".")[0] for name in block} == {"blocks", "norm_post"}
    assert ours.text.layer_groups()[-1] == ["projection.weight", "projection.bias"]


def test_fresh_weights_have_their_published_spread():
    torch.manual_seed(0)
    wide = replace(CONFIG, image=replace(CONFIG.image, width=256, mlp_width=1024), embed_dim=256)
    model = models.build(wide)
    block = model.image.blocks[0]
    for found, wanted in (
        (block.attention.qkv.weight, (2 / 512) ** 0.5),  # each of the three by itself
        (block.mlp.up.weight, (2 / 1280) ** 0.5),
        (model.image.patch.weight, (1 / 192) ** 0.5),
        (model.image.positions, 1 / 16),
        (model.text.tokens.weight, 48**-0.5),
    ):
        assert float(found.detach().std()) == pytest.approx(wanted, rel=0.05)
    assert float(model.logit_bias.detach()) == -10
