"""The folders of EVA-CLIP-8B and 18B for transformers, and ours in their layout."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from diptych import models, pretrained
from diptych.checkpoints import convert, detect, load_model
from diptych.errors import CheckpointError
from diptych.families.eva.layouts import transformers as layout
from diptych.families.infer import infer
from diptych.weights.native import save_model
from tests.families.eva.small import MODELS, ODD

PUBLISHED = {"eva-8b": False, "eva-18b": True}
"""The families that were published so, and whether their norms stand behind."""


def published_names(state):
    """A model of ours under the published names, written out from the reference page: every name
    and every change."""
    foreign = {
        "vision_model.embeddings.class_embedding": state["image.class_token"],
        "vision_model.embeddings.position_embedding.weight": state["image.positions"],
        "vision_model.embeddings.patch_embedding.weight": state["image.patch.weight"],
        "vision_model.embeddings.patch_embedding.bias": state["image.patch.bias"],
        "vision_model.post_layernorm.weight": state["image.norm_post.weight"],
        "visual_projection.weight": state["image.projection.weight"],
        "text_model.embeddings.token_embedding.weight": state["text.tokens.weight"],
        "text_model.embeddings.position_embedding.weight": state["text.positions"],
        "text_projection.weight": state["text.projection.weight"],
    }
    for i in range(2):
        for theirs, ours in (("vision_model", "image"), ("text_model", "text")):
            to, of = f"{theirs}.encoder.layers.{i}.", f"{ours}.blocks.{i}."
            for name, part in zip("qkv", state[f"{of}attention.qkv.weight"].chunk(3)):
                foreign[f"{to}self_attn.{name}_proj.weight"] = part.clone()
            pairs = {
                "layer_norm1": "norm_1",
                "layer_norm2": "norm_2",
                "self_attn.out_proj": "attention.out",
            }
            pairs |= {"mlp.fc1": "mlp.up", "mlp.fc2": "mlp.down"}
            for name, own in pairs.items():
                for kind in ("weight", "bias"):
                    if f"{of}{own}.{kind}" in state:
                        foreign[f"{to}{name}.{kind}"] = state[f"{of}{own}.{kind}"]
        for name, part in zip("qkv", state[f"text.blocks.{i}.attention.qkv.bias"].chunk(3)):
            foreign[f"text_model.encoder.layers.{i}.self_attn.{name}_proj.bias"] = part.clone()
    for kind in ("weight", "bias"):
        foreign[f"text_model.final_layer_norm.{kind}"] = state[f"text.norm_post.{kind}"]
    return foreign


def published_json(config, post):
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    vision |= {"image_size": 32, "patch_size": 8, "q_bias": False, "k_bias": False, "v_bias": False}
    vision |= {"use_rms_norm": True, "layer_norm_eps": 1e-6, "post_layernorm": post}
    text = {
        "hidden_size": 32,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text |= {"vocab_size": 60, "max_position_embeddings": 12, "eos_token_id": 2}
    names = {
        "model_type": "clip",
        "architectures": ["EvaCLIPModel"],
        "projection_dim": config.embed_dim,
    }
    return names | {"logit_scale_init_value": 2.6592, "vision_config": vision, "text_config": text}


@pytest.fixture(params=PUBLISHED)
def folder(request, tmp_path, random_model):
    """A folder as published, and the model in it."""
    config = MODELS[request.param]
    model = random_model(config)
    (tmp_path / "in").mkdir()
    save_file(published_names(model.state_dict()), tmp_path / "in" / "model.safetensors")
    written = published_json(config, PUBLISHED[request.param])
    (tmp_path / "in" / "config.json").write_text(json.dumps(written))
    return tmp_path / "in", model


def test_a_published_folder(folder, example):
    path, model = folder
    assert detect(path) == "eva-transformers"
    loaded, meta = load_model(path)
    assert meta.config.image == model.config.image
    assert meta.config.text == model.config.text
    pixels, ids = example(model.config)
    with torch.inference_mode():
        for ours, theirs in zip(loaded(pixels, ids), model(pixels, ids), strict=True):
            torch.testing.assert_close(ours, theirs, atol=0, rtol=0)


def test_an_absent_scale_is_100_and_said_so(folder):
    path, _ = folder
    model, meta = load_model(path)
    assert model.logit_scale.exp().item() == pytest.approx(100)
    assert "ln 100" in meta.provenance["logit_scale"]


def test_shards_of_a_pickle(folder, tmp_path):
    path, model = folder
    weights = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    shards = {name: f"pytorch_model-0000{i % 2}.bin" for i, name in enumerate(weights)}
    for shard in set(shards.values()):
        torch.save({name: weights[name] for name in weights if shards[name] == shard}, path / shard)
    (path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": shards}))
    state = model.state_dict()
    loaded = load_model(path).model.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state if name != "logit_scale")


@pytest.mark.parametrize("name", ["eva-clip-8b", "eva-clip-8b-448", "eva-clip-18b"])
def test_published_sizes_need_no_configuration(name):
    config = pretrained.get(name)
    ours = models.build(config, device="meta").state_dict()
    foreign = layout.table(()).to_foreign(ours)
    del foreign["logit_scale"]
    told = infer(layout.table(foreign).to_ours(foreign).shapes, "gelu")
    assert (told.image, told.text, told.embed_dim) == (config.image, config.text, config.embed_dim)
    assert foreign["text_projection.weight"].shape == (config.embed_dim, config.text.width)


@pytest.mark.parametrize("name", [*MODELS, *ODD])
def test_the_scale_and_every_option_are_written(name, tmp_path, random_model):
    config = (MODELS | ODD)[name]
    model = random_model(config)
    save_model(tmp_path / "in", model)
    convert(tmp_path / "in", "transformers", tmp_path / "out")
    content = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (content["model_type"], content["architectures"]) == ("eva_clip", ["EvaClipModel"])
    assert detect(tmp_path / "out") == "eva-transformers"
    loaded, meta = load_model(tmp_path / "out")
    assert meta.config == config
    assert "logit_scale" not in meta.provenance
    assert torch.equal(loaded.logit_scale, model.logit_scale)


def test_published_names_are_written_where_they_exist(folder, tmp_path):
    path, model = folder
    save_model(tmp_path / "native", model)
    convert(tmp_path / "native", "transformers", tmp_path / "out")
    before, after = (
        load_file(path / "model.safetensors"),
        load_file(tmp_path / "out" / "model.safetensors"),
    )
    assert after.keys() - before.keys() == {"logit_scale"}
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("section", "option", "value"),
    [
        ("vision_config", "hidden_act", "quick_gelu"),
        ("vision_config", "rope_theta", 500.0),
        ("vision_config", "v_bias", True),
        ("text_config", "use_rms_norm", True),
        ("text_config", "q_bias", False),
    ],
)
def test_options_that_our_towers_lack_are_refused(folder, section, option, value):
    path, _ = folder
    content = json.loads((path / "config.json").read_text())
    content[section][option] = value
    (path / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=option):
        load_model(path)


def test_an_eps_that_is_not_written_is_that_of_the_authors_weights(folder):
    path, _ = folder
    content = json.loads((path / "config.json").read_text())
    for eps, expected in ((1e-5, 1e-5), (None, 1e-6)):
        content["vision_config"] |= {"layer_norm_eps": eps}
        kept = {
            name: value for name, value in content["vision_config"].items() if value is not None
        }
        (path / "config.json").write_text(json.dumps(content | {"vision_config": kept}))
        assert load_model(path).config.image.norm_eps == expected


def test_a_clip_model_is_not_taken_for_one(folder, tmp_path, random_model, vit):
    path, _ = folder
    save_model(tmp_path / "vit", random_model(vit))
    convert(tmp_path / "vit", "transformers", tmp_path / "clip")
    assert detect(tmp_path / "clip") == "transformers"
    content = json.loads((tmp_path / "clip" / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(content | {"model_type": "siglip"}))
    with pytest.raises(CheckpointError, match="describes a 'siglip' model, not one of EVA's"):
        load_model(path)
