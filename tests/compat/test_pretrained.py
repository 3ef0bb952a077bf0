"""Lists of models and weights, and weights into a model that is there, as open_clip has them."""

import json

import open_clip
import pytest
import torch
from torch.nn.functional import interpolate

from diptych import compat, pretrained
from diptych.errors import CheckpointError, MissingError, RandomWeightsWarning
from tests.compat.peers import KINDS, ours_of, peer_of

MAIN = [("ViT-B-16-SigLIP2-naflex", "webli"), ("ViT-SO400M-16-SigLIP2-naflex", "webli")]
"""Of its main branch."""


def test_what_is_listed_is_open_clips_and_known_here():
    listed = compat.list_pretrained()
    pairs = [pair for pair in listed if pair not in MAIN]
    assert len(listed) == len(pairs) + len(MAIN)
    assert set(pairs) == set(open_clip.list_pretrained())
    assert compat.list_pretrained(as_str=True)[0] == ":".join(pairs[0])
    for model, tag in pairs:
        name = f"{model}-openai" if tag == "openai" else f"{model}/{tag}"
        assert pretrained.means_weights(name) or pretrained.weights(name)
        assert compat.get_pretrained_cfg(model, tag) == open_clip.get_pretrained_cfg(model, tag)
        assert compat.get_pretrained_url(model, tag) == open_clip.get_pretrained_url(model, tag)


def test_tags_are_read_in_any_spelling_and_unknown_ones_are_empty():
    assert compat.is_pretrained_cfg("ViT-B-32", "LAION2B-s34b-b79k")
    assert not compat.is_pretrained_cfg("ViT-B-32", "nothing")
    assert compat.get_pretrained_cfg("nothing", "openai") == {}
    assert compat.get_pretrained_url("ViT-B-32", "nothing") == ""
    by_tag = compat.list_pretrained_models_by_tag("laion2b_s34b_b79k")
    assert by_tag == open_clip.list_pretrained_models_by_tag("laion2b_s34b_b79k")


def test_models_are_listed_once_and_created_by_their_listed_names():
    names = compat.list_models()
    assert len(set(names)) == len(names)
    assert {"ViT-B-32", "MobileCLIP-S1", "eva-clip-18b", "tiny"} <= set(names)


@pytest.mark.parametrize("name", ["ViT-B-32", "RN50", "ViT-B-16-SigLIP", "ViT-L-14-336-quickgelu"])
def test_the_configuration_builds_the_same_model_in_open_clip(name):
    ours, theirs = compat.get_model_config(name), open_clip.get_model_config(name)
    with torch.device("meta"):
        built = [
            open_clip.CustomTextCLIP(**{k: v for k, v in cfg.items() if k != "custom_text"})
            if cfg.get("custom_text")
            else open_clip.CLIP(**cfg)
            for cfg in (ours, theirs)
            if "hf_tokenizer_name" not in cfg["text_cfg"]
        ]
    shapes = [{k: v.shape for k, v in model.state_dict().items()} for model in built]
    assert all(each == shapes[0] for each in shapes)
    assert ours["embed_dim"] == theirs["embed_dim"]


def test_added_configurations_are_models_by_the_files_name(tmp_path):
    (tmp_path / "mine-8.json").write_text(json.dumps(KINDS["vit"]))
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(CheckpointError, match="embed_dim"):
        compat.add_model_config(tmp_path / "other.json")
    with pytest.raises(CheckpointError, match="no file"):
        compat.add_model_config(tmp_path / "absent")
    compat.add_model_config(tmp_path)
    assert compat.list_models()[-1] == "mine-8"
    assert compat.get_model_config("mine-8") == KINDS["vit"]
    with pytest.warns(RandomWeightsWarning, match="mine-8"):
        model = compat.create_model("mine-8")
    assert model.visual.image_size == (32, 32)
    assert compat.get_tokenizer("mine-8")("a cat").shape == (1, 77)
    assert compat.get_model_config("nothing-of-the-kind") is None


def test_a_checkpoint_fills_the_model_as_open_clip_does(tmp_path):
    peer, ours = peer_of("vit"), ours_of("vit")
    torch.save({"state_dict": peer.state_dict()}, tmp_path / "peer.pt")
    found = compat.load_checkpoint(ours, tmp_path / "peer.pt")
    assert not found.missing_keys
    assert not found.unexpected_keys
    pixels, ids = torch.randn(2, 3, 32, 32), compat.tokenize(["a cat", "two dogs"])
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_image(pixels), peer.encode_image(pixels))
        torch.testing.assert_close(ours.encode_text(ids), peer.encode_text(ids))


def test_a_checkpoint_for_other_pictures_is_interpolated_and_a_part_is_taken(tmp_path):
    peer = peer_of("vit")
    larger = {**KINDS["vit"], "vision_cfg": {**KINDS["vit"]["vision_cfg"], "image_size": 64}}
    (tmp_path / "larger.json").write_text(json.dumps(larger))
    model = compat.create_model(tmp_path / "larger.json", load_weights=False)
    torch.save(peer.state_dict(), tmp_path / "peer.pt")
    compat.load_checkpoint(model, tmp_path / "peer.pt")
    table = model.state_dict()["visual.positional_embedding"]
    grid = peer.visual.positional_embedding[1:].T.reshape(1, 64, 4, 4)
    grid = interpolate(grid, (8, 8), mode="bicubic", antialias=True)
    torch.testing.assert_close(table[1:], grid.reshape(64, 64).T, atol=1e-5, rtol=1e-5)

    part = {"logit_scale": torch.tensor(1.5), "foreign": torch.zeros(1)}
    torch.save(part, tmp_path / "part.pt")
    found = compat.load_checkpoint(model, tmp_path / "part.pt", strict=False)
    assert found.unexpected_keys == ["foreign"]
    assert model.logit_scale.item() == 1.5
    with pytest.raises(CheckpointError):
        compat.load_checkpoint(model, tmp_path / "part.pt")


def test_what_needs_no_download(tmp_path):
    assert compat.download_pretrained({}) == ""
    assert compat.download_pretrained({"file": tmp_path / "w.pt"}) == str(tmp_path / "w.pt")


def test_openais_models_and_arguments_by_position():
    assert compat.list_openai_models() == open_clip.list_openai_models()
    newer = compat.create_model("tiny", None, False, "bf16", "cpu", False, True)
    older = compat.create_model("tiny", None, "bf16", "cpu", False, True, load_weights=False)
    for model in (newer, older):
        assert model.config.text.activation == "quick_gelu"
        assert model.encode_text(compat.get_tokenizer("tiny")("a cat")).dtype == torch.bfloat16
    made = compat.create_model_and_transforms("tiny", None, False, "fp32", "cpu", False, True)
    assert made[0].config.text.activation == "quick_gelu"
    traced = compat.create_model_and_transforms("tiny", None, False, "fp32", "cpu", True)[0]
    assert isinstance(traced, torch.jit.ScriptModule)
    with pytest.raises(MissingError, match="no weights are known"):
        compat.create_model_from_pretrained("tiny", None, "fp32", "cpu", False)
