"""open_clip computes what we compute with the same text tower of transformers; every published
model is configured as open_clip has it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from diptych import models, pretrained
from diptych.checkpoints import convert, load_model
from diptych.config import ClipConfig
from diptych.config.serialize import difference, from_dict, to_dict
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip import VitConfig
from diptych.families.clip.layouts.open_clip import export_table
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.huggingface import HuggingFaceTextConfig
from diptych.families.huggingface.known import KNOWN
from diptych.families.huggingface.pretrained import MODELS
from diptych.models import build_tower
from diptych.weights.native import save_model

open_clip = pytest.importorskip("open_clip")
transformers = pytest.importorskip("transformers")

VIT = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16, "head_width": 32}
ROBERTA = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 20,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
NLLB = {
    "vocab_size": 60,
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 20,
}
MT5 = {
    "vocab_size": 60,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
}
CASES = [
    ("roberta", ROBERTA, 1, "mean_pooler", "mlp", "mean"),
    ("xlm-roberta", ROBERTA, 1, "mean_pooler", "linear", "mean"),
    ("xlm-roberta", ROBERTA, 1, "cls_pooler", "linear", "head"),
    ("roberta", ROBERTA, 1, "cls_last_hidden_state_pooler", None, "cls"),
    ("m2m_100", NLLB, 1, "cls_pooler", "linear", "cls"),
    ("m2m_100", NLLB, 1, None, "mlp", "cls"),
    ("mt5", MT5, 0, "mean_pooler", "mlp", "mean"),
]
IDS = torch.tensor([[0, 7, 9, 21, 2, 1, 1, 1], [0, 3, 4, 5, 6, 7, 8, 2], [0, 2, 1, 1, 1, 1, 1, 1]])
"""As RoBERTa writes them: start 0, end 2, padding 1."""


@pytest.fixture
def trunk(tmp_path, monkeypatch):
    """Makes a small trunk known by name, and lets open_clip find it in a folder."""

    def make(model_type, options, pad_id):
        trunk = HuggingFaceTextConfig(model_type=model_type, options=options, pad_id=pad_id)
        monkeypatch.setitem(KNOWN, "me/trunk", trunk)
        transformers.AutoConfig.for_model(model_type, **options).save_pretrained(tmp_path / "trunk")
        return tmp_path / "trunk"

    return make


def peer(cfg, folder):
    text = cfg["text_cfg"] | {"hf_model_name": str(folder), "hf_model_pretrained": False}
    return open_clip.CustomTextCLIP(**cfg | {"text_cfg": text})


@pytest.mark.parametrize(
    ("model_type", "options", "pad_id", "pooler", "projection", "pool"),
    CASES,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_both_ways(
    trunk, randomise, tmp_path, model_type, options, pad_id, pooler, projection, pool
):
    folder, dim = trunk(model_type, options, pad_id), 48 if projection else 32
    text = {"hf_model_name": "me/trunk", "context_length": 8}
    text |= {"hf_pooler_type": pooler, "hf_proj_type": projection}
    cfg = {"embed_dim": dim, "vision_cfg": VIT, "text_cfg": text}
    theirs = randomise(peer(cfg, folder)).eval()
    (tmp_path / "in").mkdir()
    save_file(theirs.state_dict(), tmp_path / "in" / "open_clip_model.safetensors")
    (tmp_path / "in" / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg}))
    ours, meta = load_model(tmp_path / "in")
    assert (meta.config.text.pool, meta.config.text.pad_id) == (pool, pad_id)
    ids = IDS if pad_id else torch.where(IDS == 1, 0, IDS + 1)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = theirs.encode_text(ids)
        torch.testing.assert_close(ours.encode_text(ids), wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.encode_text(ids[:1, :6]), wanted[:1], atol=1e-5, rtol=1e-5)
        image = theirs.encode_image(pixels)
        torch.testing.assert_close(ours.encode_image(pixels), image, atol=1e-5, rtol=1e-5)
    # And back: names, numbers and options are open_clip's.
    convert(tmp_path / "in", "open-clip", tmp_path / "out")
    written = load_file(tmp_path / "out" / "open_clip_model.safetensors")
    before = theirs.state_dict()
    assert before.keys() == written.keys()
    assert all(torch.equal(before[name], written[name]) for name in before)
    again = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())["model_cfg"]
    peer(again, folder).load_state_dict(written)
    assert from_json({"model_cfg": again}) == meta.config
    # Our own file holds the tower, too.
    save_model(tmp_path / "native", ours)
    loaded, _ = load_model(tmp_path / "native")
    with torch.inference_mode():
        assert torch.equal(loaded.encode_text(ids), ours.encode_text(ids))


@pytest.mark.parametrize(
    ("model_type", "options", "table"),
    [("roberta", ROBERTA, "embeddings.position_ids"), ("m2m_100", NLLB, "embed_positions.weights")],
)
def test_tables_that_older_versions_stored_are_left_out(
    trunk, randomise, tmp_path, model_type, options, table
):
    folder = trunk(model_type, options, 1)
    text = {"hf_model_name": "me/trunk", "hf_proj_type": "linear", "context_length": 8}
    cfg = {"embed_dim": 48, "vision_cfg": VIT, "text_cfg": text}
    theirs = randomise(peer(cfg, folder)).eval()
    (tmp_path / "config.json").write_text(json.dumps(cfg))
    stored = {f"text.transformer.{table}": torch.arange(20)[None]}
    save_file(theirs.state_dict() | stored, tmp_path / "old.safetensors")
    ours, _ = load_model(tmp_path / "old.safetensors", config=tmp_path / "config.json")
    with torch.inference_mode():
        torch.testing.assert_close(
            ours.encode_text(IDS), theirs.encode_text(IDS), atol=1e-5, rtol=1e-5
        )


PARAMETERS = {
    "roberta-ViT-B-32": (212.72, 124.87),
    "xlm-roberta-base-ViT-B-32": (366.12, 278.27),
    "xlm-roberta-large-ViT-H-14": (1193.01, 560.94),
    "nllb-clip-base": (501.89, 414.04),
    "nllb-clip-large": (1399.22, 767.14),
    "mt5-base-ViT-B-32": (365.71, 277.86),
    "mt5-xl-ViT-H-14": (2306.75, 1674.68),
}
"""Millions, of all and of the text tower: open_clip, docs/model_profile.csv."""


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_published_model_is_open_clips(model, monkeypatch):
    file = Path(open_clip.__file__).parent / "model_configs" / f"{model.name}.json"
    wanted = json.loads(file.read_text())
    config = pretrained.get(model.name)
    theirs = from_json({"model_cfg": wanted})
    assert set(difference(config, theirs)) <= {"preprocess.resize", "preprocess.mean"} | {
        "preprocess.std"
    }
    written = to_json(config)["model_cfg"]
    assert from_json({"model_cfg": written}) == theirs
    defaults = {"hf_proj_type": "mlp", "tokenizer_kwargs": {"clean": "whitespace"}}
    assert written["text_cfg"] == defaults | wanted["text_cfg"]
    known = {tag: open_clip.get_pretrained_cfg(model.name, tag) for tag in model.repositories}
    assert list(known) == open_clip.list_pretrained_tags_by_model(model.name)
    for tag, cfg in known.items():
        assert pretrained.weights(f"{model.name}/{tag}").repo == cfg["hf_hub"].rstrip("/")
        assert pretrained.weights(cfg["hf_hub"].rstrip("/")).tags == (tag,)
        assert cfg["mean"] == config.preprocess.mean
        assert cfg["resize_mode"] == config.preprocess.resize
    # Names and shapes, of the trunk that open_clip would build by the same configuration.
    trunk = config.text
    monkeypatch.setattr(
        "open_clip.hf_model.AutoConfig.from_pretrained",
        lambda name: transformers.AutoConfig.for_model(trunk.model_type, **trunk.options),
    )
    wanted.pop("custom_text", None)
    wanted["text_cfg"]["hf_model_pretrained"] = False
    with torch.device("meta"):
        peers = open_clip.CustomTextCLIP(**wanted).state_dict()
    meta = models.build(config, device="meta")
    ours = export_table(config).to_foreign(meta.state_dict())
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in peers.items()}
    if model.name in PARAMETERS:
        counts = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (meta, meta.text)]
        assert counts == pytest.approx(PARAMETERS[model.name], abs=0.006)


def small(**options):
    config = HuggingFaceTextConfig(model_type="roberta", options=ROBERTA, pad_id=1, **options)
    torch.manual_seed(0)
    return build_tower(config, 32).eval()


def test_the_last_token_is_the_one_before_the_padding():
    tower = small(pool="eos", projection="none")
    with torch.no_grad():
        tokens, feature, pooled = tower(IDS)
    assert torch.equal(feature, torch.stack([tokens[0, 4], tokens[1, 7], tokens[2, 1]]))
    assert torch.equal(pooled, feature)


def test_a_projection_of_two_layers():
    tower = small(projection="mlp")
    with torch.no_grad():
        _, feature, pooled = tower(IDS)
    first, second = tower.projection[0].weight, tower.projection[2].weight
    assert first.shape == second.shape == (32, 32)
    wanted = torch.nn.functional.gelu(feature @ first.T) @ second.T
    torch.testing.assert_close(pooled, wanted)


def test_what_older_versions_wrote_of_t5_is_read(tmp_path):
    text = HuggingFaceTextConfig(model_type="mt5", options=MT5, context_length=8)
    image = VitConfig(image_size=32, patch_size=16, width=32, layers=1, heads=1, mlp_width=64)
    model = models.build(ClipConfig(image=image, text=text, embed_dim=16)).eval()
    save_model(tmp_path / "model", model)
    [file] = (tmp_path / "model").glob("*.safetensors")
    older = {n.replace("text.trunk.", "text.trunk.encoder."): t for n, t in load_file(file).items()}
    older["text.trunk.shared.weight"] = older["text.trunk.encoder.embed_tokens.weight"].clone()
    save_file(older, file)
    described = json.loads((tmp_path / "model" / "model.json").read_text())
    del described["weights"]["sha256"], described["weights"]["bytes"]
    (tmp_path / "model" / "model.json").write_text(json.dumps(described))
    loaded, _ = load_model(tmp_path / "model")
    with torch.inference_mode():
        assert torch.equal(loaded.encode_text(IDS), model.encode_text(IDS))


def test_what_does_not_fit_is_said(trunk):
    with pytest.raises(ConfigError, match="embed_dim must be its width, 32, and is 48"):
        build_tower(
            HuggingFaceTextConfig(model_type="roberta", options=ROBERTA, projection="none"), 48
        )
    with pytest.raises(ConfigError, match="a mt5 has no pooling layer of its own"):
        build_tower(HuggingFaceTextConfig(model_type="mt5", options=MT5, pool="head"), 48)
    trunk("roberta", ROBERTA, 1)
    text = {"hf_model_name": "me/trunk", "hf_pooler_type": "min_pooler"}
    with pytest.raises(CheckpointError, match="'min_pooler' and a 'mlp' projection has no place"):
        from_json({"model_cfg": {"embed_dim": 48, "vision_cfg": VIT, "text_cfg": text}})
    config = pretrained.get("roberta-ViT-B-32")
    with pytest.raises(CheckpointError, match="open_clip doesn't pool texts by 'eos'"):
        to_json(replace(config, text=replace(config.text, pool="eos")))
    other = replace(config.text, options=config.text.options | {"num_hidden_layers": 3})
    with pytest.raises(CheckpointError, match="this roberta is built as none that is known"):
        to_json(replace(config, text=other))


def test_modernbert_is_the_main_branchs():
    text = {
        "context_length": 256,
        "variable_text": True,
        "pad_id": 50283,
        "hf_model_name": "Alibaba-NLP/gte-modernbert-base",
        "hf_tokenizer_name": "Alibaba-NLP/gte-modernbert-base",
        "hf_pooler_type": "cls_pooler",
        "hf_proj_type": "linear",
        "hf_model_config": {"max_position_embeddings": 256},
    }
    image = {"image_size": 256, "layers": 12, "width": 768, "patch_size": 32}
    config = pretrained.get("gte-modernbert-base-ViT-B-32-256")
    said = {"embed_dim": 512, "vision_cfg": image, "text_cfg": text}
    assert from_json({"model_cfg": said}) == config
    written = to_json(config)["model_cfg"]
    assert from_json({"model_cfg": written}) == config
    names = text.keys() - {"pad_id"}  # the trunk has it
    assert {name: written["text_cfg"][name] for name in names} == {n: text[n] for n in names}
    trunk = models.build(config, device="meta").text.trunk
    assert trunk.config.max_position_embeddings == 256
    assert trunk.config.rope_parameters["full_attention"]["rope_theta"] == 160000
    assert sum(p.numel() for p in trunk.parameters()) / 1e6 == pytest.approx(149.01, abs=0.01)
    with pytest.raises(CheckpointError, match="hf_model_config is 256; it must be an object"):
        from_json({"model_cfg": said | {"text_cfg": text | {"hf_model_config": 256}}})
    for unknown in ({"attn_implementation": "mine/kernels"}, {"hidden_sise": 3}):
        odd = from_json({"model_cfg": said | {"text_cfg": text | {"hf_model_config": unknown}}})
        with pytest.raises(ConfigError, match="aren't passed on to transformers"):
            models.build(odd, device="meta")


def test_a_tower_is_described_as_before_where_it_projects_linearly():
    text = HuggingFaceTextConfig(model_type="roberta", options=ROBERTA)
    assert not {"projection", "variable_text"} & to_dict(text).keys()
    assert from_dict(HuggingFaceTextConfig, to_dict(replace(text, projection="mlp"))) == replace(
        text, projection="mlp"
    )
