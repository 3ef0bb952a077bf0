"""transformers computes what we compute with the same AltCLIP weights, and both ways."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import diptych
from diptych import models, pretrained
from diptych.batch import TextLengths
from diptych.checkpoints import convert, detect, load_image_tower, load_model
from diptych.config import ClipConfig, TokenizerConfig
from diptych.config.alone import alone
from diptych.config.serialize import difference
from diptych.errors import CheckpointError
from diptych.families.clip import VitConfig
from diptych.families.clip.layouts.open_clip_config import to_json
from diptych.families.huggingface import HuggingFaceTextConfig
from diptych.families.huggingface.altclip import FOLDER, TABLE, RobertaSizes
from diptych.families.huggingface.sections import read_options
from diptych.weights.native import save_model
from tests.families.huggingface.refusals import refuse_bare, refuse_changed, refuse_to_write

transformers = pytest.importorskip("transformers")

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80}
PIECES = [
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    "▁a",
    "▁cat",
    "▁dog",
    "s",
    "▁und",
    "▁Hund",
    "▁",
    "一",
    "只",
]
TEXT = {"vocab_size": 20, "hidden_size": 48, "max_position_embeddings": 90, "project_dim": 56}
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
        model_type="xlm-roberta",
        options=read_options(RobertaSizes, SIZES | TEXT) | {"attention_probs_dropout_prob": 0},
        pool="cls",
        pad_id=1,
        token_width=56,
    ),
    embed_dim=40,
)
IDS = torch.tensor(
    [[0, 5, 6, 7, 2, 1, 1, 1], [0, 8, 9, 10, 11, 12, 13, 2], [0, 2, 1, 1, 1, 1, 1, 1]]
)
"""Start, words, end, padding."""
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def described():
    vision, text = SIZES | IMAGE, SIZES | TEXT
    return transformers.AltCLIPConfig(vision_config=vision, text_config=text, projection_dim=40)


@pytest.fixture
def theirs(randomise):
    return randomise(transformers.AltCLIPModel(described())).eval()


def words(folder):
    scores = [(piece, -1.0 - i if i > 3 else 0.0) for i, piece in enumerate(PIECES)]
    transformers.XLMRobertaTokenizer(vocab=scores).save_pretrained(folder)


@pytest.fixture
def folder(theirs, tmp_path):
    """As transformers writes it."""
    theirs.save_pretrained(tmp_path / "in")
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    transformers.CLIPImageProcessor(**size).save_pretrained(tmp_path / "in")
    words(tmp_path / "in")
    return tmp_path / "in"


@pytest.fixture
def pixels():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def rename(folder, change):
    file = folder / "model.safetensors"
    save_file({change(name): tensor for name, tensor in load_file(file).items()}, file)


def published(name):
    """The old word in texts, the new one in pictures."""
    return name.replace("vision_model.encoder.layer.", "vision_model.encoder.layers.")


def compare(ours, theirs, pixels):
    with torch.no_grad():
        wanted = theirs(pixel_values=pixels, input_ids=IDS, attention_mask=(IDS != 1).long())
        images, texts = ours(pixels, IDS)
        by_length = ours.encode_text(IDS, lengths=TextLengths.of([5, 8, 2]))
        [vectors] = theirs.get_text_features(input_ids=IDS[1:2]).pooler_output
        pictures = theirs.get_image_features(pixel_values=pixels).pooler_output
        raw = ours.text(IDS[1:2])
        hidden = theirs.text_model(input_ids=IDS[1:2])
    torch.testing.assert_close(images, wanted.image_embeds, **CLOSE)
    torch.testing.assert_close(texts, wanted.text_embeds, **CLOSE)
    unit = torch.nn.functional.normalize(by_length, dim=-1)
    torch.testing.assert_close(unit, wanted.text_embeds, **CLOSE)
    torch.testing.assert_close(ours.image(pixels).pooled, pictures, **CLOSE)
    torch.testing.assert_close(raw.pooled[0], vectors, **CLOSE)
    torch.testing.assert_close(raw.feature, hidden.pooler_output, **CLOSE)
    torch.testing.assert_close(raw.tokens, hidden.last_hidden_state, **CLOSE)
    logits = ours.logits(images, texts)
    torch.testing.assert_close(logits, wanted.logits_per_image, **CLOSE)


def test_folders_of_transformers_are_read_and_written(theirs, folder, tmp_path, pixels):
    assert detect(folder) == "altclip"
    ours, meta = load_model(folder)
    own = TokenizerConfig(kind="huggingface", name=str(folder))
    assert not difference(meta.config, replace(CONFIG, tokenizer=own))
    compare(ours, theirs, pixels)
    out = convert(folder, "transformers", tmp_path / "out")
    again, info = transformers.AltCLIPModel.from_pretrained(out, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    before, after = theirs.state_dict(), again.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    compare(ours, again.eval(), pixels)
    native = convert(folder, "native", tmp_path / "native")
    back = load_file(convert(native, "transformers", tmp_path / "back") / "model.safetensors")
    assert back.keys() == {published(n) for n in load_file(folder / "model.safetensors")}


def new(name):
    return name.replace("encoder.layer.", "encoder.layers.")


def old(name):
    return name.replace("encoder.layers.", "encoder.layer.")


@pytest.mark.parametrize("change", [published, new])
def test_other_spellings_of_the_same_weights(theirs, folder, change, pixels):
    rename(folder, change)
    compare(load_model(folder)[0], theirs, pixels)


def test_what_the_authors_code_leaves_beside(theirs, folder, pixels):
    """Tables of positions' numbers, and a pooling layer that nobody reads."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    state["text_model.roberta.embeddings.position_ids"] = torch.arange(90)[None]
    state["text_model.roberta.pooler.dense.bias"] = torch.zeros(48)
    torch.save(state, folder / "pytorch_model.bin")
    compare(load_model(folder)[0], theirs, pixels)


def test_pictures_and_texts_are_transformers(theirs, folder, tmp_path):
    picture = Image.radial_gradient("L").convert("RGB").resize((61, 40))
    texts = ["a cat", "a dog und a Hund, cats", "一只 cat"]
    clip = diptych.load(folder)
    processor = transformers.AltCLIPProcessor.from_pretrained(folder)
    made = processor(text=texts, images=picture, return_tensors="pt", padding=True)
    assert torch.equal(clip.tokenizer(texts), made["input_ids"])
    assert len(clip.tokenizer.encode("cat " * 99)) == 77
    with torch.no_grad():
        wanted = theirs(**made)
    found = torch.as_tensor(clip.embed_texts(texts))
    torch.testing.assert_close(found, wanted.text_embeds, **CLOSE)
    image = clip.preprocess(picture)[None]
    torch.testing.assert_close(image, made["pixel_values"], atol=0.06, rtol=0)
    assert clip.classify(picture, texts).keys() == set(texts)
    exported = convert(folder, "transformers", tmp_path / "out")
    again = transformers.AutoProcessor.from_pretrained(exported)
    assert type(again).__name__ == "AltCLIPProcessor"
    same = again(text=texts, images=picture, return_tensors="pt", padding=True)
    assert all(torch.equal(same[name], made[name]) for name in made)


def test_an_image_tower_is_read_from_a_model_and_alone(theirs, folder, tmp_path, pixels):
    theirs.vision_model.save_pretrained(tmp_path / "image")
    with torch.no_grad():
        wanted = theirs.vision_model(pixel_values=pixels).pooler_output
        for place in (folder, tmp_path / "image"):
            tower = load_image_tower(place).tower
            torch.testing.assert_close(tower(pixels).feature, wanted, **CLOSE)


@pytest.mark.parametrize("change", [new, old])
def test_a_text_tower_alone_both_ways(theirs, tmp_path, change):
    theirs.text_model.save_pretrained(tmp_path / "text")
    rename(tmp_path / "text", change)
    words(tmp_path / "text")
    clip = diptych.load(tmp_path / "text")
    assert clip.config.missing == "image"
    assert clip.config.text == replace(CONFIG.text, projection="none")
    ids = clip.tokenizer(["a cat", "dogs"])
    with torch.no_grad():
        wanted = theirs.text_model(input_ids=ids, attention_mask=(ids != 1).long())
        torch.testing.assert_close(clip.model.text(ids).pooled, wanted.pooler_output, **CLOSE)
    out = convert(tmp_path / "text", "transformers", tmp_path / "out")
    again, info = transformers.AltCLIPTextModel.from_pretrained(out, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    before, after = theirs.text_model.state_dict(), again.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_projected_text_tower_alone_is_refused(random_model, tmp_path):
    tower = alone(CONFIG.text, 40, tokenizer=CONFIG.tokenizer)
    native = save_model(tmp_path / "native", random_model(tower))
    with pytest.raises(CheckpointError, match="no place for the 'linear' projection behind it"):
        convert(native, "transformers", tmp_path / "out")


def test_what_config_json_leaves_out(folder):
    content = json.loads((folder / "config.json").read_text())
    content["text_config"] |= {"pad_token_id": 3, "context_length": 50}
    del content["text_config"]["attention_probs_dropout_prob"], content["projection_dim"]
    (folder / "config.json").write_text(json.dumps(content))
    config = FOLDER.read_file(folder / "config.json")
    assert (config.embed_dim, config.text.pad_id, config.text.context_length) == (768, 3, 50)
    assert config.text.options == CONFIG.text.options | {"pad_token_id": 3}
    written = FOLDER.write_text(config.text)
    assert {name: written[name] for name in content["text_config"] if name in written} == {
        name: value for name, value in content["text_config"].items() if name in written
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "clip"}, "describes a 'clip' model, not a 'altclip' one"),
        ({"model_type": "chinese_clip"}, "describes a 'chinese_clip' model, not a 'altclip' one"),
        ({"text_config": 3}, "config.json doesn't describe a CLIP model"),
        ({"text_config": {"project_dim": 0}}, "token_width 0 must be"),
        ({"text_config": {"pad_token_id": "x"}}, "pad_token_id 'x' must be one of the vocabular"),
        ({"text_config": {"pad_token_id": 10**12}}, "pad_token_id 1000000000000 must be one of t"),
        ({"text_config": {"num_hidden_layers": 10**9}}, "num_hidden_layers 1000000000 must be"),
        ({"vision_config": {"hidden_act": "silu"}}, "our towers have .*, not 'silu'"),
    ],
)
def test_another_folder_is_refused_in_a_sentence(folder, change, said):
    refuse_changed(folder, change, said)


def test_without_its_configuration_it_is_refused(folder):
    refuse_bare(folder, "it says how AltCLIP is built; copy it from")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pool": "mean"}, "with pool 'cls', not a xlm-roberta with 'mean'"),
        ({"projection": "mlp"}, "a 'linear' projection of texts, not 'mlp'"),
        (
            {"options": CONFIG.text.options | {"is_decoder": False}},
            "no place for a xlm-roberta's is_decoder",
        ),
    ],
)
def test_what_the_layout_cant_hold_stays_where_it_is(random_model, tmp_path, change, said):
    refuse_to_write(CONFIG, change, said, random_model, tmp_path)


@pytest.mark.parametrize("name", ["BAAI/AltCLIP", "alt-clip-m9"])
def test_published_models_have_transformers_names_and_shapes(name):
    entry = pretrained.entry(name)
    config = entry.config
    with pytest.raises(CheckpointError, match="no norm and matrix between a text model and its"):
        to_json(config)
    built = transformers.AltCLIPConfig(
        vision_config={
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "patch_size": 14,
        }
    )
    with torch.device("meta"):
        theirs = transformers.AltCLIPModel(built).state_dict()
    ours = TABLE.to_foreign(models.build(config, device="meta").state_dict())
    ours = {new(name): tensor.shape for name, tensor in ours.items()}
    assert ours == {name: tensor.shape for name, tensor in theirs.items()}
    assert config.image.activation == "quick_gelu"
