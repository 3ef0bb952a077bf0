"""open_clip computes what we compute, with the same CLIPA and OpenVision weights; every published
model is configured as open_clip, or its authors, have it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import diptych
from diptych import models, pretrained
from diptych.checkpoints import convert, load_model
from diptych.compat import HFTokenizer
from diptych.config import ClipConfig, TokenizerConfig
from diptych.config.serialize import difference, to_dict
from diptych.errors import CheckpointError, ConfigError, TruncationWarning
from diptych.families.clip import VitConfig
from diptych.families.clip.layouts.open_clip import export_table
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.clipa import ClipaTextConfig
from diptych.families.clipa.pretrained import CLIPA, PREPROCESS
from diptych.inputs import tokenizer_of
from diptych.weights.native import save_model

IMAGE = VitConfig(
    image_size=30,
    patch_size=8,
    width=64,
    layers=2,
    heads=4,
    mlp_width=96,
    pool="patches",
    pre_norm=False,
    norm_eps=1e-6,
)
"""Of a picture six pixels make no patch, as with 384 of 14."""
TEXT = ClipaTextConfig(
    context_length=6, vocab_size=50, width=48, layers=2, heads=4, mlp_width=80, norm_eps=1e-6
)
CONFIG = ClipConfig(image=IMAGE, text=TEXT, embed_dim=40, preprocess=PREPROCESS)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "##s", "dog"]


@pytest.fixture
def pixels():
    return torch.randn(3, 3, 30, 30, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def ids():
    return torch.randint(50, (3, 6), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
def test_both_towers_are_open_clips(random_model, tmp_path, pixels, ids, activation):
    open_clip = pytest.importorskip("open_clip")
    config = replace(CONFIG, text=replace(TEXT, activation=activation))
    ours = random_model(config)
    theirs = open_clip.CLIP(**to_json(config)["model_cfg"]).eval()
    theirs.load_state_dict(export_table(config).to_foreign(ours.state_dict()))
    with torch.no_grad():
        images, texts = theirs.encode_image(pixels), theirs.encode_text(ids)
        torch.testing.assert_close(ours.encode_image(pixels), images, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.image(pixels).pooled, images, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.encode_text(ids), texts, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.text(ids).pooled, texts, atol=1e-5, rtol=1e-5)
    # Through a folder and back.
    folder = convert(save_model(tmp_path / "native", ours), "open-clip", tmp_path / "out")
    again, meta = load_model(folder)
    assert not difference(meta.config, config)
    with torch.no_grad():
        assert torch.equal(again.encode_image(pixels), ours.encode_image(pixels))


@pytest.mark.parametrize("name", CLIPA)
def test_every_model_of_clipa_is_open_clips(name):
    open_clip = pytest.importorskip("open_clip")
    file = Path(open_clip.__file__).parent / "model_configs" / f"{name}.json"
    wanted = json.loads(file.read_text())
    ours = pretrained.get(name)
    for tag in open_clip.list_pretrained_tags_by_model(name):
        known = open_clip.get_pretrained_cfg(name, tag)
        kept = ("interpolation", "resize_mode", "mean", "std")
        preprocess = {key: known[key] for key in kept}
        assert not difference(ours, from_json({"model_cfg": wanted, "preprocess_cfg": preprocess}))
        found = pretrained.weights(f"{name}/{tag}")
        assert found is not None
        assert found.repo == known["hf_hub"].rstrip("/")
        assert pretrained.weights(found.repo) == found
    assert not difference(from_json(to_json(ours)), ours)


def test_names_and_shapes_are_open_clips():
    open_clip = pytest.importorskip("open_clip")
    file = Path(open_clip.__file__).parent / "model_configs" / "ViT-bigG-14-CLIPA-336.json"
    with torch.device("meta"):
        theirs = open_clip.CLIP(**json.loads(file.read_text())).state_dict()
    config = pretrained.get("ViT-bigG-14-CLIPA-336")
    ours = export_table(config).to_foreign(models.build(config, device="meta").state_dict())
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}


@pytest.mark.parametrize(
    ("name", "image", "text", "embed_dim"),
    [
        (  # github.com/UCSC-VLAA/OpenVision, src/convert_upload/open_clip/model_configs
            "openvision-vit-so400m-patch14-384",
            {"image_size": 384, "layers": 27, "width": 1152, "patch_size": 14, "head_width": 72},
            {"width": 1152, "heads": 16, "layers": 27},
            1152,
        ),
        (
            "openvision-vit-base-patch16-224",
            {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16, "head_width": 64},
            {"width": 512, "heads": 8, "layers": 12},
            512,
        ),
    ],
)
def test_open_visions_are_what_their_authors_say(name, image, text, embed_dim):
    ratio = {"mlp_ratio": 3.7362} if "so400m" in name else {}
    eps = {"norm_kwargs": {"eps": 1e-6}}
    pool = {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True}
    words = {"context_length": 80, "vocab_size": 32000, "hf_tokenizer_name": "bert-base-uncased"}
    read = {"pool_type": "last", "no_causal_mask": True, "act_kwargs": {"approximate": "tanh"}}
    separator = {"tokenizer_kwargs": {"strip_sep_token": True}}
    theirs = from_json(
        {
            "model_cfg": {
                "embed_dim": embed_dim,
                "vision_cfg": image | ratio | eps | pool,
                "text_cfg": text | ratio | eps | words | read | separator,
            },
            "preprocess_cfg": {
                "mean": [0.485, 0.456, 0.406],
                "std": [0.229, 0.224, 0.225],
                "interpolation": "bilinear",
                "resize_mode": "squash",
            },
        }
    )
    assert not difference(pretrained.get(name), theirs)
    assert pretrained.entry(f"UCSC-VLAA/{name}").name == name


def test_beside_a_custom_tower_names_begin_with_text():
    config = replace(CONFIG, image=pretrained.get("pe-core-t-16-384").image)
    found = export_table(config).foreign_names("text.tokens.weight")
    assert found == ("text.token_embedding.weight",)


def test_texts_end_without_their_separator(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    tokenizer = TokenizerConfig(kind="huggingface", name=str(tmp_path), blank_separator=True)
    config = replace(CONFIG, text=replace(TEXT, vocab_size=50), tokenizer=tokenizer)
    ours = tokenizer_of(config)
    # Start, words; the separator's place is padding, also where the text is cut.
    assert ours(["A cats", "a cat a dog a dog"]).tolist() == [
        [2, 5, 6, 7, 0, 0],
        [2, 5, 6, 5, 8, 0],
    ]
    open_clip = pytest.importorskip("open_clip")
    theirs = open_clip.tokenizer.HFTokenizer(str(tmp_path), context_length=6, strip_sep_token=True)
    texts = ["A cats", "a cat a dog a dog", "dog", "&lt; a"]
    assert torch.equal(ours(texts), theirs(texts))
    encoder = diptych.Encoder(models.build(config))
    alone, beside = encoder.embed_texts("dog"), encoder.embed_texts(["dog", texts[0]])
    torch.testing.assert_close(alone, beside[:1])


CLIPS = {  # mlfoundations/open_clip, model_configs/, of a branch
    "ViT-L-14-CLIPS-224": (
        {"layers": 24, "width": 1024},
        {"width": 768, "heads": 12, "layers": 12},
        768,
    ),
    "ViT-H-14-CLIPS-224": (
        {"layers": 32, "width": 1280, "head_width": 80},
        {"width": 1024, "heads": 16, "layers": 24},
        1024,
    ),
}


@pytest.mark.parametrize("name", CLIPS)
def test_clips_is_what_open_clip_says(name):
    image, text, embed_dim = CLIPS[name]
    eps = {"norm_kwargs": {"eps": 1e-6}}
    pool = {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True}
    words = {"context_length": 80, "vocab_size": 32000, "hf_tokenizer_name": "bert-base-uncased"}
    read = {"pool_type": "last", "no_causal_mask": True, "act_kwargs": {"approximate": "tanh"}}
    around = {"bos_token": "[unused0]", "eos_token": "[unused1]"}
    mode = {"tokenizer_mode": "clips", "tokenizer_kwargs": around}
    content = {
        "model_cfg": {
            "embed_dim": embed_dim,
            "vision_cfg": {"image_size": 224, "patch_size": 14} | image | eps | pool,
            "text_cfg": text | eps | words | read | mode,
        },
        "preprocess_cfg": {
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "interpolation": "bilinear",
            "resize_mode": "squash",
        },
    }
    ours = pretrained.get(name)
    assert not difference(ours, from_json(content))
    assert not difference(ours, from_json(to_json(ours)))
    assert to_json(ours)["model_cfg"]["text_cfg"].items() >= {"tokenizer_mode": "clips"}.items()
    assert pretrained.entry(f"UCSC-VLAA/{name}-Recap-DataComp-1B").name == name.lower()
    content["model_cfg"]["text_cfg"]["tokenizer_mode"] = "other"
    with pytest.raises(CheckpointError, match="text_cfg.tokenizer_kwargs.bos_token|tokenizer_mode"):
        from_json(content)


def test_texts_of_clips_end_with_the_class_token(tmp_path):
    """As open_clip has it, which is told of the start and the end."""
    words = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat"]
    (tmp_path / "vocab.txt").write_text("\n".join([*words, "##s", "dog", "<", "&"]))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    how = TokenizerConfig(kind="huggingface", name=str(tmp_path), class_last=True)
    config = replace(CONFIG, text=replace(TEXT, vocab_size=50, context_length=8), tokenizer=how)
    ours = tokenizer_of(config)
    assert ours(["A cats", "a cat a dog a dog"]).tolist() == [
        [1, 7, 8, 9, 2, 0, 0, 4],
        [1, 7, 8, 7, 10, 7, 2, 4],
    ]
    assert ours.decode(ours("a dog")[0]) == "a dog"
    assert ours.truncates("a cat a dog a dog", ours.encode("a cat a dog a dog"))
    assert not ours.truncates("a cat", ours.encode("a cat"))
    open_clip = pytest.importorskip("open_clip")
    around = {"bos_token": "[unused0]", "eos_token": "[unused1]"}
    options = {"context_length": 8, "tokenizer_mode": "clips", **around}
    theirs = open_clip.tokenizer.HFTokenizer(str(tmp_path), **options)
    texts = ["A cats", "a cat a dog a dog", "dog", "&lt; a", ""]
    assert torch.equal(ours(texts), theirs(texts))
    with pytest.warns(TruncationWarning, match="1 of 5 texts is longer"):
        assert torch.equal(HFTokenizer(str(tmp_path), **options)(texts), theirs(texts))


def test_options_that_are_not_clipas_are_said():
    cfg = to_json(CONFIG)["model_cfg"]
    before = {"vision_cfg": cfg["vision_cfg"] | {"final_ln_after_pool": False}}
    with pytest.raises(CheckpointError, match="'avg' has no place.*unless final_ln_after_pool"):
        from_json({"model_cfg": cfg | before})
    with pytest.raises(CheckpointError, match="vision_cfg.pool_type 'none' has no place"):
        from_json({"model_cfg": cfg | {"vision_cfg": cfg["vision_cfg"] | {"pool_type": "none"}}})
    first = {"text_cfg": cfg["text_cfg"] | {"pool_type": "first"}}
    with pytest.raises(CheckpointError, match="text_cfg.(pool_type|no_causal_mask)"):
        from_json({"model_cfg": cfg | first})
    with pytest.raises(ConfigError, match="padded to 6"):
        models.build(CONFIG).encode_text(torch.zeros(1, 5, dtype=torch.long))
    with pytest.raises(ConfigError, match="image_size 30 is not a multiple of patch_size 8"):
        replace(IMAGE, pool="cls")
    assert "blank_separator" not in to_dict(TokenizerConfig())
