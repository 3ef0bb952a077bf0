"""open_clip's tables, as scripts and model cards read and write them."""

import json

import open_clip as peer
import pytest
import torch

from diptych import compat
from diptych.compat.factory import (
    _MODEL_CONFIGS,  # pyright: ignore[reportPrivateUsage]: as scripts do
    HF_HUB_PREFIX,
)
from diptych.compat.pretrained import _PRETRAINED  # pyright: ignore[reportPrivateUsage]
from diptych.config.model import OPENAI_MEAN, OPENAI_STD
from diptych.errors import CheckpointError, DiptychWarning

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 32,
        "layers": 1,
        "width": 64,
        "patch_size": 16,
        "head_width": 32,
    },
    "text_cfg": {
        "context_length": 117,
        "vocab_size": 49408,
        "width": 64,
        "heads": 2,
        "layers": 1,
    },
}


@pytest.fixture
def named():
    """A name that is free, and is so again."""
    yield "of_a/model card"
    if "of_a/model card" in _MODEL_CONFIGS:
        del _MODEL_CONFIGS["of_a/model card"]


def test_a_card_registers_its_configuration_and_loads_its_file(named, tmp_path):
    """As BiomedCLIP's and FetalCLIP's do."""
    torch.manual_seed(0)
    peer.factory._MODEL_CONFIGS["card"] = CONFIG
    theirs = peer.create_model("card", load_weights=False)
    del peer.factory._MODEL_CONFIGS["card"]
    torch.save(theirs.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    said = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": OPENAI_MEAN, "std": OPENAI_STD}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(said))

    config = json.loads((tmp_path / "open_clip_config.json").read_text())
    assert not named.startswith(HF_HUB_PREFIX)
    assert named not in _MODEL_CONFIGS
    _MODEL_CONFIGS[named] = config["model_cfg"]
    tokenizer = compat.get_tokenizer(named)
    model, _, preprocess = compat.create_model_and_transforms(
        model_name=named,
        pretrained=str(tmp_path / "open_clip_pytorch_model.bin"),
        **{f"image_{key}": value for key, value in config["preprocess_cfg"].items()},
    )
    assert named in compat.list_models()
    assert tuple(preprocess.transforms[-1].mean) == OPENAI_MEAN
    ids, pixels = tokenizer(["a scan", "a slide"]), torch.rand(2, 3, 32, 32)
    assert ids.shape == (2, 117)
    with torch.no_grad():
        for call in ("encode_image", "encode_text"):
            given = pixels if call == "encode_image" else ids
            expected = getattr(theirs.eval(), call)(given)
            torch.testing.assert_close(getattr(model, call)(given), expected, atol=1e-5, rtol=0)


def test_it_is_a_dictionary(named):
    assert _MODEL_CONFIGS["ViT-B-32"]["embed_dim"] == 512
    names = list(_MODEL_CONFIGS)
    assert len(names) == len(_MODEL_CONFIGS) == len(set(names))
    assert {"RN50", "ViT-L-14"} <= set(names) <= set(compat.list_models())
    for name in ("hf-hub:org/name", "nothing"):
        with pytest.raises(KeyError, match=name):
            _MODEL_CONFIGS[name]
    _MODEL_CONFIGS.update({named: CONFIG})
    assert _MODEL_CONFIGS[named] == CONFIG == _MODEL_CONFIGS.pop(named)
    assert list(_MODEL_CONFIGS) == names
    with pytest.raises(KeyError):
        del _MODEL_CONFIGS["ViT-B-32"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"vision_cfg": {}}, "^the configuration .* describes no model"),
        ({"embed_dim": {1}}, "is no JSON"),
    ],
)
def test_what_is_no_configuration_is_refused(config, said, named):
    with pytest.raises(CheckpointError, match=said):
        _MODEL_CONFIGS[named] = config
    assert named not in _MODEL_CONFIGS


def test_names_of_one_spelling_in_files_stay_apart(named):
    """Characters that files can't have are no part of the name's file alone."""
    _MODEL_CONFIGS["of_a_model card"] = CONFIG
    try:
        _MODEL_CONFIGS[named] = CONFIG | {"embed_dim": 64}
        assert _MODEL_CONFIGS["of_a_model card"]["embed_dim"] == 32
        assert _MODEL_CONFIGS[named]["embed_dim"] == 64
    finally:
        del _MODEL_CONFIGS["of_a_model card"]


def test_what_open_clip_cannot_build_is_left_out_with_a_warning(named):
    text = CONFIG["text_cfg"] | {"does_full_decoding": True, "has_mlp": False}
    with pytest.warns(DiptychWarning, match="has_mlp"):
        _MODEL_CONFIGS[named] = CONFIG | {"text_cfg": text}
    assert named not in _MODEL_CONFIGS


def test_a_published_name_may_be_replaced():
    _MODEL_CONFIGS["ViT-B-32"] = CONFIG
    try:
        assert compat.create_model("ViT-B-32", load_weights=False).visual.output_dim == 32
    finally:
        del _MODEL_CONFIGS["ViT-B-32"]
    assert compat.get_model_config("ViT-B-32")["embed_dim"] == 512


def test_published_weights_stand_in_a_table():
    theirs = peer.pretrained._PRETRAINED
    assert all("naflex" in model for model in set(_PRETRAINED) - set(theirs))
    for model in ("ViT-B-32", "PE-Core-L-14-336"):
        assert set(_PRETRAINED[model]) == set(theirs[model])
    found = _PRETRAINED["ViT-B-32"]["laion2b_s34b_b79k"]
    assert found["hf_hub"] == theirs["ViT-B-32"]["laion2b_s34b_b79k"]["hf_hub"]


def test_a_program_may_name_a_folder_of_the_text_model(named, tmp_path, quiet):
    """As programs do that run BiomedCLIP without a network; a folder of weights may not."""
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "lung"]
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(words))
    vocabulary = str(tmp_path / "bert" / "vocab.txt")
    transformers.BertTokenizerFast(vocab_file=vocabulary).save_pretrained(tmp_path / "bert")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert = transformers.BertConfig(vocab_size=6, intermediate_size=32, **sizes)
    bert.save_pretrained(tmp_path / "bert")
    folder = str(tmp_path / "bert")
    text = {"hf_model_name": folder, "hf_tokenizer_name": folder, "hf_model_pretrained": False}
    config = CONFIG | {"text_cfg": text | {"hf_proj_type": "linear", "context_length": 8}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    with pytest.raises(CheckpointError, match="may name nothing but repositories of the hub"):
        compat.create_model(f"local-dir:{tmp_path}", load_weights=False)
    _MODEL_CONFIGS[named] = config
    model = compat.create_model(named, load_weights=False)
    ids = compat.get_tokenizer(named)(["lung"])
    assert ids[0, [0, 2, 3]].tolist() == [2, 3, 0]
    assert ids.shape == (1, 8)
    again = compat.CustomTextCLIP(**config)
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again.eval().encode_text(ids), model.encode_text(ids))
