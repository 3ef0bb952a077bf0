"""open_clip and transformers compute what we compute, with the same MetaCLIP 2 weights; every
published model is configured as open_clip has it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import diptych
from diptych import models, pretrained
from diptych.checkpoints import convert, detect, load_image_tower, load_model
from diptych.config import ClipConfig, TokenizerConfig
from diptych.config.serialize import difference, to_dict
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip import TextConfig, VitConfig
from diptych.families.clip.layouts.open_clip import export_table
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.metaclip.pretrained import DISTILLED, OPEN_CLIP
from diptych.inputs import tokenizer_of
from diptych.weights.native import save_model

IMAGE = VitConfig(image_size=32, patch_size=16, width=64, layers=2, heads=4, mlp_width=96)
TEXT = TextConfig(
    context_length=8, vocab_size=50, width=48, layers=2, heads=4, mlp_width=80, end_id=2
)
CONFIG = ClipConfig(image=IMAGE, text=TEXT, embed_dim=40)
IDS = torch.tensor([[0, 9, 49, 2, 1, 1], [0, 7, 2, 1, 1, 1], [0, 8, 6, 5, 4, 2]])
"""XLM-V's start, words, of which one is the vocabulary's highest, end, and padding."""


@pytest.fixture
def pixels():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_the_text_is_read_where_open_clip_reads_it(random_model):
    open_clip = pytest.importorskip("open_clip")
    ours = random_model(CONFIG)
    cfg = to_json(CONFIG)["model_cfg"]
    theirs = open_clip.CLIP(**cfg).eval()
    theirs.load_state_dict(export_table(CONFIG).to_foreign(ours.state_dict()))
    with torch.no_grad():
        wanted = theirs.encode_text(torch.nn.functional.pad(IDS, (0, 2), value=1))
        torch.testing.assert_close(ours.encode_text(IDS), wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.text(IDS).pooled, wanted, atol=1e-5, rtol=1e-5)
        lengths = diptych.batch.TextLengths.of([4, 3, 6])
        by_length = ours.encode_text(IDS, lengths=lengths)
        torch.testing.assert_close(by_length, wanted, atol=1e-5, rtol=1e-5)
        # By the highest id, which is no end here, it would be another vector.
        other = models.build(replace(CONFIG, text=replace(TEXT, end_id=None)))
        other.load_state_dict(ours.state_dict())
        assert (other.encode_text(IDS) - wanted)[0].abs().max() > 1e-2


def test_an_end_that_pads_is_the_first_of_them(random_model):
    """mT5's models pad with the end itself: what is behind the first one doesn't matter."""
    ours = random_model(replace(CONFIG, text=replace(TEXT, end_id=1)))
    with torch.no_grad():
        padded = ours.encode_text(torch.tensor([[5, 6, 1, 1, 1]]))
        torch.testing.assert_close(padded, ours.encode_text(torch.tensor([[5, 6, 1]])))


@pytest.fixture
def peer(randomise):
    transformers = pytest.importorskip("transformers")
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_act": "gelu"}
    config = transformers.MetaClip2Config(
        text_config=shape
        | {"hidden_size": 48, "intermediate_size": 80, "vocab_size": 50}
        | {"max_position_embeddings": 8, "eos_token_id": 2},
        vision_config=shape
        | {"hidden_size": 64, "intermediate_size": 96, "image_size": 32, "patch_size": 16},
        projection_dim=40,
    )
    return randomise(transformers.MetaClip2Model(config)).eval()


def test_transformers_folders_are_read_and_written(peer, tmp_path, pixels):
    transformers = pytest.importorskip("transformers")
    peer.save_pretrained(tmp_path / "in")
    assert detect(tmp_path / "in") == "transformers"
    ours, meta = load_model(tmp_path / "in")
    own = TokenizerConfig(kind="huggingface", name=str(tmp_path / "in"))
    assert not difference(meta.config, replace(CONFIG, tokenizer=own))
    with pytest.raises(ConfigError, match="in lacks the model's tokenizer: put its files"):
        diptych.load(tmp_path / "in")
    with torch.no_grad():
        theirs = peer(pixel_values=pixels, input_ids=IDS, attention_mask=(IDS != 1).long())
        images, texts = ours(pixels, IDS)
    torch.testing.assert_close(images, theirs.image_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(texts, theirs.text_embeds, atol=1e-5, rtol=1e-5)
    # Their tokenizer lies nowhere: the model is written without.
    model = models.build(replace(meta.config, tokenizer=TokenizerConfig()))
    model.load_state_dict(ours.state_dict())
    convert(save_model(tmp_path / "native", model), "transformers", tmp_path / "out")
    before, after = peer.state_dict(), load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    assert type(again) is type(peer)
    with torch.no_grad():
        found = again(pixel_values=pixels, input_ids=IDS).logits_per_image
    torch.testing.assert_close(found, theirs.logits_per_image)
    # And its image tower alone.
    peer.vision_model.save_pretrained(tmp_path / "image")
    tower = load_image_tower(tmp_path / "image").tower
    with torch.no_grad():
        wanted = peer.vision_model(pixel_values=pixels).pooler_output
        torch.testing.assert_close(tower(pixels).feature, wanted, atol=1e-5, rtol=1e-5)


def test_an_end_of_2_is_an_old_way_to_say_the_highest_in_clips_files_alone(peer, tmp_path):
    peer.save_pretrained(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(described | {"model_type": "clip"}))
    assert load_model(tmp_path)[1].config.text.end_id is None
    described["text_config"]["eos_token_id"] = 5  # transformers' CLIPModel reads there, too
    (tmp_path / "config.json").write_text(json.dumps(described | {"model_type": "clip"}))
    assert load_model(tmp_path)[1].config.text.end_id == 5


def words(folder: Path, *special: str) -> TokenizerConfig:
    """A tokenizer of whole words, made as XLM-V's is."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    ids = {word: i for i, word in enumerate([*special, "a", "cat", "dog"])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", ids["<s>"]), ("</s>", ids["</s>"])]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    ).save_pretrained(folder)
    return TokenizerConfig(kind="huggingface", name=str(folder))


def test_texts_are_open_clips(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    tokenizer = words(tmp_path, "<s>", "<pad>", "</s>", "<unk>")
    config = replace(CONFIG, tokenizer=tokenizer)
    theirs = open_clip.tokenizer.HFTokenizer(str(tmp_path), context_length=8)
    texts = ["a  cat &amp; a dog", "dog", "a cat a cat a cat a cat a cat"]
    ours = tokenizer_of(config)
    assert torch.equal(ours(texts, pad_to=8), theirs(texts))
    assert ours("a cat").tolist() == [[0, 4, 5, 2]]


def test_a_tokenizer_with_another_end_is_refused(tmp_path, random_model):
    tokenizer = words(tmp_path / "words", "<s>", "<pad>", "</s>", "<unk>")
    for end, said in ((2, ""), (4, r"at its end, token 4, which is none.*\(0, 1, 2, 3\)")):
        text = replace(TEXT, end_id=end)
        model = random_model(replace(CONFIG, text=text, tokenizer=tokenizer))
        folder = save_model(tmp_path / f"end {end}", model)
        for file in (tmp_path / "words").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        if said:
            with pytest.raises(CheckpointError, match=said):
                diptych.load(folder)
        else:
            assert diptych.load(folder).embed_texts("a cat").shape == (1, 40)


@pytest.mark.parametrize(
    "name",
    [*OPEN_CLIP, "ViT-H-14-worldwide-quickgelu", "ViT-L-14-worldwide"],
)
def test_every_published_model_is_open_clips(name):
    open_clip = pytest.importorskip("open_clip")
    file = Path(open_clip.__file__).parent / "model_configs" / f"{name}.json"
    wanted = json.loads(file.read_text())
    ours = pretrained.get(name)
    known = open_clip.get_pretrained_cfg(name, "metaclip2_worldwide") or {}
    kept = ("interpolation", "resize_mode", "mean", "std")
    preprocess = {key: known[key] for key in kept if key in known}
    assert not difference(ours, from_json({"model_cfg": wanted, "preprocess_cfg": preprocess}))
    assert not difference(from_json(to_json(ours)), ours)
    if known:
        found = pretrained.weights(f"{name}/metaclip2_worldwide")
        assert found is not None
        assert found.repo == known["hf_hub"].rstrip("/")


def test_names_lead_to_the_weights_as_they_were_trained():
    named = pretrained.entry("ViT-H-14-worldwide/metaclip2_worldwide")
    assert named.name == "vit-h-14-worldwide-quickgelu"
    assert named.config.text.activation == "quick_gelu"
    found = pretrained.weights("facebook/metaclip-2-worldwide-giant-378")
    assert found is not None
    assert (found.format, found.licence) == ("transformers", "CC-BY-NC-4.0")
    for name in DISTILLED:
        assert pretrained.entry(f"facebook/{name}").name == name


def test_names_and_shapes_are_open_clips():
    open_clip = pytest.importorskip("open_clip")
    name = "ViT-bigG-14-worldwide-378"
    file = Path(open_clip.__file__).parent / "model_configs" / f"{name}.json"
    with torch.device("meta"):
        theirs = open_clip.CLIP(**json.loads(file.read_text())).state_dict()
    config = pretrained.get(name)
    ours = export_table(config).to_foreign(models.build(config, device="meta").state_dict())
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}


def test_an_end_must_be_in_the_vocabulary_and_older_files_keep_their_text():
    with pytest.raises(ConfigError, match="end_id 50 is none of vocab_size 50 ids"):
        replace(TEXT, end_id=50)
    assert "end_id" not in to_dict(TextConfig())
