"""transformers computes what we compute with the same Chinese-CLIP weights, and both ways."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import diptych
from diptych import models, pretrained
from diptych.checkpoints import convert, detect, load_image_tower, load_model
from diptych.config import ClipConfig, PreprocessConfig, TokenizerConfig
from diptych.config.serialize import difference
from diptych.families.clip import TextConfig, VitConfig
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.huggingface import HuggingFaceTextConfig
from diptych.families.huggingface.chinese_clip import TABLE
from diptych.families.huggingface.known import bert
from diptych.weights.native import save_model
from tests.families.huggingface.refusals import refuse_bare, refuse_changed, refuse_to_write

transformers = pytest.importorskip("transformers")

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"一只猫狗的图片和", "cat", "##s", "a"]
TEXT = {"vocab_size": len(WORDS), "hidden_size": 48, "max_position_embeddings": 60}
IMAGE = {"hidden_size": 64, "image_size": 32, "patch_size": 16}
CONFIG = ClipConfig(
    image=VitConfig(
        image_size=32,
        patch_size=16,
        width=64,
        layers=2,
        heads=4,
        mlp_width=80,
        activation="quick_gelu",
    ),
    text=HuggingFaceTextConfig(
        model_type="bert",
        options=bert().options | SIZES | TEXT,
        context_length=52,
        pool="cls",
    ),
    embed_dim=40,
    preprocess=PreprocessConfig(resize="squash"),
)
IDS = torch.tensor(
    [[2, 5, 6, 7, 3, 0, 0, 0], [2, 8, 9, 10, 11, 12, 13, 3], [2, 3, 0, 0, 0, 0, 0, 0]]
)
"""Start, words, end, padding."""
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def described():
    vision, text = SIZES | IMAGE, SIZES | TEXT
    return transformers.ChineseCLIPConfig(vision_config=vision, text_config=text, projection_dim=40)


@pytest.fixture
def theirs(randomise):
    return randomise(transformers.ChineseCLIPModel(described())).eval()


@pytest.fixture
def folder(theirs, tmp_path):
    """As transformers writes it, with the words of the published folders."""
    theirs.save_pretrained(tmp_path / "in")
    squash = {"size": {"height": 32, "width": 32}, "do_center_crop": False, "resample": 3}
    transformers.ChineseCLIPImageProcessor(**squash).save_pretrained(tmp_path / "in")
    (tmp_path / "in/vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    return tmp_path / "in"


@pytest.fixture
def pixels():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def compare(ours, theirs, pixels):
    with torch.no_grad():
        wanted = theirs(pixel_values=pixels, input_ids=IDS, attention_mask=(IDS != 0).long())
        images, texts = ours(pixels, IDS)
        lengths = diptych.batch.TextLengths.of([5, 8, 2])
        by_length = ours.encode_text(IDS, lengths=lengths)
    torch.testing.assert_close(images, wanted.image_embeds, **CLOSE)
    torch.testing.assert_close(texts, wanted.text_embeds, **CLOSE)
    unit = torch.nn.functional.normalize(by_length, dim=-1)
    torch.testing.assert_close(unit, wanted.text_embeds, **CLOSE)
    logits = ours.logits(images, texts)
    torch.testing.assert_close(logits, wanted.logits_per_image, **CLOSE)


def test_folders_of_transformers_are_read_and_written(theirs, folder, tmp_path, pixels):
    assert detect(folder) == "chinese-clip"
    ours, meta = load_model(folder)
    own = TokenizerConfig(kind="huggingface", name=str(folder))
    assert not difference(meta.config, replace(CONFIG, tokenizer=own))
    compare(ours, theirs, pixels)
    out = convert(folder, "transformers", tmp_path / "out")
    before, after = theirs.state_dict(), load_file(out / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    again, info = transformers.ChineseCLIPModel.from_pretrained(out, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    compare(ours, again.eval(), pixels)
    native = convert(folder, "native", tmp_path / "native")
    back = convert(native, "transformers", tmp_path / "back")
    assert load_file(back / "model.safetensors").keys() == before.keys()


def test_pictures_and_texts_are_transformers(theirs, folder, tmp_path):
    picture = Image.radial_gradient("L").convert("RGB").resize((61, 40))
    texts = ["一只猫", "狗的图片和 cats", "A cat"]
    clip = diptych.load(folder)
    processor = transformers.ChineseCLIPProcessor.from_pretrained(folder)
    made = processor(text=texts, images=picture, return_tensors="pt", padding=True)
    assert torch.equal(clip.tokenizer(texts), made["input_ids"])
    assert clip.tokenizer.encode("猫" * 99) == [2, *[7] * 50, 3]
    torch.testing.assert_close(
        clip.preprocess(picture)[None], made["pixel_values"], atol=0.06, rtol=0
    )
    with torch.no_grad():
        wanted = theirs(**made).text_embeds
    found = torch.as_tensor(clip.embed_texts(texts))
    torch.testing.assert_close(found, wanted, **CLOSE)
    exported = convert(folder, "transformers", tmp_path / "out")
    again = transformers.AutoProcessor.from_pretrained(exported)
    assert type(again.image_processor).__name__.startswith("ChineseCLIPImageProcessor")
    same = again(text=texts, images=picture, return_tensors="pt", padding=True)
    assert all(torch.equal(same[name], made[name]) for name in made)


def test_older_files_and_what_config_json_leaves_out(theirs, folder, pixels):
    """The published folders hold tables of positions' numbers, and an older one a size without
    sides."""
    state = theirs.state_dict() | {"text_model.embeddings.position_ids": torch.arange(60)[None]}
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    how = {
        "size": 32,
        "do_center_crop": False,
        "feature_extractor_type": "ChineseCLIPFeatureExtractor",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(how))
    content = json.loads((folder / "config.json").read_text())
    content["text_config"] |= {"pooler_type": "first_token_transform", "hidden_dropout_prob": 0.0}
    del content["text_config"]["type_vocab_size"]
    (folder / "config.json").write_text(json.dumps(content))
    ours, meta = load_model(folder)
    assert meta.config.preprocess == PreprocessConfig(resize="squash")
    assert meta.config.text.options == CONFIG.text.options | {"hidden_dropout_prob": 0.0}
    compare(ours, theirs, pixels)


def test_an_image_tower_is_read_from_a_model_and_alone(theirs, folder, tmp_path, pixels):
    theirs.vision_model.save_pretrained(tmp_path / "image")
    with torch.no_grad():
        wanted = theirs.vision_model(pixel_values=pixels).pooler_output
        for place in (folder, tmp_path / "image"):
            tower = load_image_tower(place).tower
            torch.testing.assert_close(tower(pixels).feature, wanted, **CLOSE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "clip"}, "describes a 'clip' model, not a 'chinese_clip' one"),
        ({"text_config": 3}, "config.json doesn't describe a CLIP model"),
        ({"model_type": "altclip"}, "describes a 'altclip' model, not a 'chinese_clip' one"),
        ({"text_config": {"hidden_size": "wide"}}, "hidden_size"),
        ({"text_config": {"pad_token_id": 10**12}}, "pad_token_id 1000000000000 must be one of t"),
        ({"text_config": {"num_hidden_layers": 10**9}}, "num_hidden_layers 1000000000 must be"),
        ({"vision_config": {"hidden_act": "silu"}}, "our towers have .*, not 'silu'"),
        ({"vision_config": {"image_size": 33}}, "image_size 33 is not a multiple of patch_size 32"),
    ],
)
def test_another_folder_is_refused_in_a_sentence(folder, change, said):
    refuse_changed(folder, change, said)


def test_without_its_configuration_it_is_refused(folder):
    refuse_bare(folder, "config.json isn't beside the weights")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pool": "mean"}, "not a bert with 'mean' and 'linear'"),
        (
            {"options": CONFIG.text.options | {"is_decoder": False}},
            "no place for a bert's is_decoder",
        ),
    ],
)
def test_what_the_layout_cant_hold_stays_where_it_is(random_model, tmp_path, change, said):
    refuse_to_write(CONFIG, change, said, random_model, tmp_path)


def test_a_longer_context_is_kept_and_clips_texts_go_to_clips_layout(random_model, tmp_path):
    for text, kind in (
        (replace(CONFIG.text, context_length=60), "chinese_clip"),
        (TextConfig(context_length=8, vocab_size=50, width=48, layers=1, heads=4), "clip"),
    ):
        native = save_model(tmp_path / f"{kind}-native", random_model(replace(CONFIG, text=text)))
        out = convert(native, "transformers", tmp_path / kind)
        assert json.loads((out / "config.json").read_text())["model_type"] == kind
        assert load_model(out)[1].config.text.context_length == text.context_length


NAMES = ("base-patch16", "large-patch14", "large-patch14-336px", "huge-patch14")


@pytest.mark.parametrize("size", NAMES)
def test_published_models_have_transformers_names_and_shapes(size):
    entry = pretrained.entry(f"OFA-Sys/chinese-clip-vit-{size}")
    config = entry.config
    written = to_json(config)  # open_clip builds it, too, of the text model's name
    assert written["model_cfg"]["text_cfg"]["hf_model_name"].startswith("hfl/chinese-roberta-wwm")
    assert not difference(from_json(written), config)
    vision = {"hidden_size": config.image.width, "num_hidden_layers": config.image.layers}
    vision |= {"intermediate_size": config.image.mlp_width}
    vision |= {"image_size": config.image.image_size, "patch_size": config.image.patch_size}
    built = transformers.ChineseCLIPConfig(
        vision_config=vision | {"num_attention_heads": config.image.heads},
        text_config=config.text.options,
        projection_dim=config.embed_dim,
    )
    with torch.device("meta"):
        theirs = transformers.ChineseCLIPModel(built).state_dict()
    ours = TABLE.to_foreign(models.build(config, device="meta").state_dict())
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}
    assert len(entry.claims) == 5
    assert config.image.activation == "quick_gelu"
