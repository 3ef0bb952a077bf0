"""open_clip computes what we compute, with its weights in our towers and ours in its."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from diptych import models, pretrained
from diptych.checkpoints import convert, detect, load_model
from diptych.config import ClipConfig, PreprocessConfig, TokenizerConfig
from diptych.errors import CheckpointError
from diptych.families.clip import TextConfig
from diptych.families.clip.layouts import open_clip as layout
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.timm import TimmConfig
from diptych.weights.mapping import check_fit
from diptych.weights.native import save_model

open_clip = pytest.importorskip("open_clip")

TEXT = {
    "context_length": 12,
    "vocab_size": 60,
    "width": 64,
    "heads": 1,
    "layers": 2,
    "mlp_ratio": 2.0,
}
VIT = {"image_size": 32, "patch_size": 8, "width": 128, "layers": 2, "mlp_ratio": 2.0}
RESNET = {
    "image_size": 64,
    "layers": [1, 2, 1, 1],
    "width": 8,
    "head_width": 64,
    "patch_size": None,
}
CASES = {
    "vit": {"vision_cfg": VIT},
    "vit-quick-gelu": {"vision_cfg": VIT, "quick_gelu": True},
    "vit-heads-and-norms": {
        "vision_cfg": VIT | {"head_width": 32, "no_ln_pre": True, "norm_kwargs": {"eps": 1e-3}},
        "text_cfg": TEXT | {"heads": 4, "norm_kwargs": {"eps": 1e-4}},
    },
    "vit-tanh": {
        "vision_cfg": VIT | {"act_kwargs": {"approximate": "tanh"}},
        "text_cfg": TEXT | {"act_kwargs": {"approximate": "tanh"}},
    },
    "vit-tanh-in-text": {
        "vision_cfg": VIT,
        "text_cfg": TEXT | {"act_kwargs": {"approximate": "tanh"}},
    },
    "vit-layer-scale": {
        "vision_cfg": VIT | {"ls_init_value": 1e-4},
        "text_cfg": TEXT | {"ls_init_value": 0.1},
    },
    "vit-bias": {"vision_cfg": VIT, "init_logit_bias": -10.0},
    "resnet": {"vision_cfg": RESNET},
    "custom-text": {"vision_cfg": VIT, "custom_text": True},
    "custom-text-resnet": {"vision_cfg": RESNET, "custom_text": True},
    "timm": {
        "vision_cfg": {
            "timm_model_name": "resnet10t",
            "timm_pool": "avg",
            "timm_proj": "linear",
            "image_size": 64,
        },
        "custom_text": True,
    },
}


@pytest.fixture(params=CASES)
def peer(request, randomise):
    """A random open_clip model and its configuration."""
    cfg = {"embed_dim": 48, "text_cfg": TEXT} | CASES[request.param]
    arguments = {name: value for name, value in cfg.items() if name != "custom_text"}
    kind = open_clip.CustomTextCLIP if cfg.get("custom_text") else open_clip.CLIP
    return randomise(kind(**arguments)), cfg


def test_features_agree_both_ways(peer, tmp_path, example, quiet):
    theirs, cfg = peer
    (tmp_path / "in").mkdir()
    save_file(theirs.state_dict(), tmp_path / "in" / "open_clip_model.safetensors")
    (tmp_path / "in" / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": cfg, "preprocess_cfg": {}})
    )

    ours, meta = load_model(tmp_path / "in")
    pixels, ids = example(meta.config)
    with torch.inference_mode():
        expected = theirs.encode_image(pixels), theirs.encode_text(ids)
        for actual, wanted in zip(
            (ours.encode_image(pixels), ours.encode_text(ids)), expected, strict=True
        ):
            torch.testing.assert_close(actual, wanted, atol=1e-5, rtol=1e-5)

        convert(tmp_path / "in", "open-clip", tmp_path / "out")
        again = open_clip.create_model(f"local-dir:{tmp_path / 'out'}").eval()
        for actual, wanted in zip(
            (again.encode_image(pixels), again.encode_text(ids)), expected, strict=True
        ):
            torch.testing.assert_close(actual, wanted, atol=1e-5, rtol=1e-5)
    assert ours.logit_scale.shape == (1,)
    assert ours.logit_scale.item() == theirs.logit_scale.item()


def test_round_trip_is_bit_equal(peer, tmp_path):
    theirs, cfg = peer
    state = theirs.state_dict()
    table = layout.table(state)
    back = layout.export_table(from_json({"model_cfg": cfg})).to_foreign(table.to_ours(state))
    names = {name.removeprefix("text."): tensor for name, tensor in state.items()}
    assert back.keys() == names.keys()
    assert all(torch.equal(back[name], names[name]) for name in names)


def test_hugging_face_text_tower(randomise, tmp_path, quiet, monkeypatch):
    """Its own configuration, which open_clip's names, comes from the hub's cache alone."""
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert = transformers.BertConfig(intermediate_size=64, max_position_embeddings=16, **sizes)
    bert.save_pretrained(tmp_path / "bert")
    text = {
        "hf_model_name": str(tmp_path / "bert"),
        "hf_model_pretrained": False,
        "hf_proj_type": "linear",
    }
    cfg = {"embed_dim": 48, "vision_cfg": VIT, "text_cfg": text | {"hf_pooler_type": "mean_pooler"}}
    theirs = randomise(open_clip.CustomTextCLIP(**cfg))
    (tmp_path / "in").mkdir()
    save_file(theirs.state_dict(), tmp_path / "in" / "open_clip_model.safetensors")
    config = tmp_path / "in" / "open_clip_config.json"
    config.write_text(json.dumps({"model_cfg": cfg}))
    with pytest.raises(CheckpointError, match="may name nothing but repositories of the hub"):
        load_model(tmp_path / "in")
    text["hf_model_name"] = "me/bert"
    config.write_text(json.dumps({"model_cfg": cfg | {"text_cfg": cfg["text_cfg"] | text}}))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(CheckpointError, match="fetch it first: hf download me/bert config.json"):
        load_model(tmp_path / "in")
    revision, commit = tmp_path / "hub" / "models--me--bert" / "refs" / "main", "0" * 40
    revision.parent.mkdir(parents=True)
    revision.write_text(commit)
    bert.save_pretrained(revision.parents[1] / "snapshots" / commit)
    ours, _ = load_model(tmp_path / "in")
    ids = torch.tensor([[5, 7, 9, 0], [3, 4, 5, 6]])
    with torch.inference_mode():
        torch.testing.assert_close(
            ours.encode_text(ids), theirs.encode_text(ids), atol=1e-5, rtol=1e-5
        )
    with pytest.raises(CheckpointError, match="Hugging Face text tower"):
        convert(tmp_path / "in", "open-clip", tmp_path / "out")
    cfg["text_cfg"] = text | {"hf_pooler_type": "median_pooler"}
    with pytest.raises(CheckpointError, match="'median_pooler' and a 'linear' projection"):
        from_json({"model_cfg": cfg})


def test_training_checkpoint(randomise, tmp_path, example, vit):
    theirs = randomise(open_clip.CLIP(48, VIT, TEXT))
    wrapped = {f"module.{name}": tensor for name, tensor in theirs.state_dict().items()}
    torch.save(
        {"epoch": 3, "state_dict": wrapped, "optimizer": {"state": {}}}, tmp_path / "epoch_3.pt"
    )
    ours, meta = load_model(tmp_path / "epoch_3.pt", config=vit)
    pixels, ids = example(meta.config)
    with torch.inference_mode():
        torch.testing.assert_close(
            ours.encode_image(pixels), theirs.encode_image(pixels), atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(
            ours.encode_text(ids), theirs.encode_text(ids), atol=1e-5, rtol=1e-5
        )


def test_config_argument_says_what_shapes_do_not(randomise, tmp_path, vit):
    torch.save(randomise(open_clip.CLIP(48, VIT, TEXT)).state_dict(), tmp_path / "weights.bin")
    assert load_model(tmp_path / "weights.bin", config=vit).config == vit
    four_heads = replace(vit, image=replace(vit.image, heads=4, activation="quick_gelu"))
    assert load_model(tmp_path / "weights.bin", config=four_heads).config == four_heads


def test_timm_without_configuration_says_what_to_give(tmp_path):
    theirs = open_clip.CustomTextCLIP(
        embed_dim=48, text_cfg=TEXT, vision_cfg=CASES["timm"]["vision_cfg"]
    )
    torch.save(theirs.state_dict(), tmp_path / "timm.pt")
    with pytest.raises(CheckpointError, match="give config="):
        load_model(tmp_path / "timm.pt")
    assert detect(tmp_path / "timm.pt") == "open-clip"


@pytest.mark.parametrize(
    "name", ["ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "RN50", "RN101"]
)
@pytest.mark.parametrize("suffix", ["", "-quickgelu"])
def test_full_size(name, suffix):
    cfg = open_clip.get_model_config(name + suffix)
    if cfg is None:
        pytest.skip("open_clip has no such name")
    config = pretrained.get(name + suffix)
    assert from_json({"model_cfg": cfg}) == config
    assert from_json(to_json(config)) == config
    with torch.device("meta"):
        state = open_clip.CLIP(**cfg).state_dict()
    ours = layout.table(state).to_ours(state)
    check_fit(ours, models.build(config, device="meta").state_dict())
    back = layout.export_table(config).to_foreign(ours)
    assert {k: v.shape for k, v in back.items()} == {k: v.shape for k, v in state.items()}


@pytest.mark.parametrize(
    ("section", "option", "value"),
    [
        ("vision_cfg", "attentional_pool", "serial"),
        ("vision_cfg", "pool_type", "avg"),
        ("text_cfg", "qk_norm", True),
    ],
)
def test_options_that_our_towers_lack_are_refused(section, option, value):
    cfg = {"embed_dim": 48, "vision_cfg": dict(VIT), "text_cfg": dict(TEXT)}
    cfg[section][option] = value
    with pytest.raises(CheckpointError, match=option):
        from_json({"model_cfg": cfg})


def test_preprocessing_and_tokenizer_are_kept(vit):
    config = replace(
        vit,
        preprocess=PreprocessConfig(
            resize="squash", interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
        ),
        tokenizer=TokenizerConfig(kind="huggingface", name="org/name"),
    )
    assert from_json(to_json(config)) == config


@pytest.mark.parametrize(
    "image",
    [
        {"pool": "mean"},
        {"stem_widths": (8, 16, 32)},
        {"activation": "quick_gelu"},
    ],
)
def test_what_open_clip_lacks_is_refused(vit, image, tmp_path, random_model):
    save_model(tmp_path / "in", random_model(replace(vit, image=replace(vit.image, **image))))
    with pytest.raises(CheckpointError, match="open_clip"):
        convert(tmp_path / "in", "open-clip", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_timm_options_are_refused():
    config = ClipConfig(
        image=TimmConfig(name="resnet10t", options={"global_pool": "avg", "in_chans": 3}),
        text=TextConfig(),
    )
    with pytest.raises(CheckpointError, match="in_chans"):
        to_json(config)


def test_exported_names_are_open_clips(tmp_path, random_model, resnet):
    save_model(tmp_path / "in", random_model(resnet))
    convert(tmp_path / "in", "open-clip", tmp_path / "out")
    theirs = open_clip.CLIP(48, RESNET, TEXT).state_dict()
    exported = load_file(tmp_path / "out" / "open_clip_model.safetensors")
    assert {k: v.shape for k, v in exported.items()} == {k: v.shape for k, v in theirs.items()}
