"""timm and open_clip compute what we compute, with the same EVA weights."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from diptych import models, pretrained
from diptych.checkpoints import convert, detect, load_model
from diptych.errors import CheckpointError
from diptych.families.clip.layouts import open_clip, open_clip_config
from diptych.families.clip.layouts.openai import text
from diptych.families.eva import EvaConfig
from diptych.families.eva.layouts import timm as eva_timm
from diptych.families.eva.layouts import tower as eva_tower
from diptych.weights.mapping import SCALAR, Rule, Table, check_fit
from diptych.weights.native import save_model
from tests.families.eva.small import MODELS, TOWERS

peer = pytest.importorskip("open_clip")
timm = pytest.importorskip("timm")
eva = pytest.importorskip("timm.models.eva")

SIZES = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 24,
}
SIZES |= {"global_pool": "token"}
KINDS = {
    "eva01-b": {"mlp_ratio": 1.5, "init_values": 0.1},
    "eva01-g": {"mlp_ratio": 1.5},
    "eva02-e": {"mlp_ratio": 1.5, "use_post_norm": True},
    "eva02-b": {"mlp_ratio": 44 / 32, "use_rot_pos_emb": True, "ref_feat_shape": (3, 3)}
    | dict.fromkeys(("swiglu_mlp", "scale_mlp", "scale_attn_inner"), True)
    | {"qkv_fused": False},
}
"""timm's arguments for the families that it has."""


@pytest.fixture(params=KINDS)
def pair(request, random_model, randomise, tmp_path):
    """timm's tower, and a file of it with a text tower beside."""
    config = MODELS[request.param]
    tower = randomise(eva.Eva(**SIZES, **KINDS[request.param]))
    model = random_model(config)
    words = Table(rules=(Rule("logit_scale", "logit_scale", SCALAR), *text("text.")))
    rest = {
        name: tensor for name, tensor in model.state_dict().items() if not name.startswith("image.")
    }
    weights = {f"visual.trunk.{name}": tensor for name, tensor in tower.state_dict().items()}
    torch.save(weights | words.to_foreign(rest), tmp_path / "open_clip.pt")
    return tower, config, tmp_path / "open_clip.pt"


def test_features_are_timms(pair, example):
    tower, config, path = pair
    assert detect(path) == "open-clip"
    ours = load_model(path, config=config).model
    pixels, _ = example(config)
    with torch.inference_mode():
        torch.testing.assert_close(ours.encode_image(pixels), tower(pixels), atol=1e-5, rtol=1e-5)


def test_names_are_timms(pair):
    tower, config, path = pair
    table = Table(rules=eva_tower.export_rules(eva_timm.PREFIX, config.image, "timm"))
    state = load_model(path, config=config).model.image.state_dict()
    foreign = table.to_foreign({f"image.{name}": tensor for name, tensor in state.items()})
    theirs = {f"visual.trunk.{name}": tensor for name, tensor in tower.state_dict().items()}
    assert foreign.keys() == theirs.keys()
    assert all(torch.equal(foreign[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    "name", ["EVA01-g-14", "EVA01-g-14-plus", "EVA02-B-16", "EVA02-L-14-336", "EVA02-E-14-plus"]
)
def test_full_size(name):
    cfg = peer.get_model_config(name)
    config = open_clip_config.from_json({"model_cfg": cfg})
    known = pretrained.get(name)
    assert isinstance(known.image, EvaConfig)
    assert config == known
    written = open_clip_config.to_json(known)
    assert open_clip_config.from_json(written) == known
    cfg.pop("custom_text")
    with torch.device("meta"):
        theirs = peer.CustomTextCLIP(**cfg).state_dict()
    ours = open_clip.table(theirs).to_ours(theirs)
    check_fit(ours.shapes, models.build(config, device="meta").state_dict())
    back = open_clip.export_table(config).to_foreign(ours)
    assert {key: tensor.shape for key, tensor in back.items()} == {
        key: tensor.shape for key, tensor in theirs.items() if not key.endswith("attn_mask")
    }


@pytest.mark.slow
def test_full_size_features(tmp_path):
    """open_clip's own EVA02-B-16 into our tower, and through our file back into open_clip."""
    theirs = peer.create_model("EVA02-B-16").eval()
    (tmp_path / "in").mkdir()
    save_file(theirs.state_dict(), tmp_path / "in" / "open_clip_model.safetensors")
    cfg = {"model_cfg": peer.get_model_config("EVA02-B-16"), "preprocess_cfg": {}}
    (tmp_path / "in" / "open_clip_config.json").write_text(json.dumps(cfg))
    ours = load_model(tmp_path / "in").model
    convert(tmp_path / "in", "open-clip", tmp_path / "out")
    again = peer.create_model(f"local-dir:{tmp_path / 'out'}").eval()
    pixels, ids = torch.randn(1, 3, 224, 224), peer.get_tokenizer("EVA02-B-16")(["two dogs"])
    with torch.inference_mode():
        for model in (ours, again):
            torch.testing.assert_close(
                model.encode_image(pixels), theirs.encode_image(pixels), atol=1e-5, rtol=1e-5
            )
            torch.testing.assert_close(
                model.encode_text(ids), theirs.encode_text(ids), atol=1e-5, rtol=1e-5
            )


def test_a_trunk_of_no_published_size_asks_for_a_configuration(random_model, tmp_path):
    config = MODELS["eva02-b"]
    rules = (*eva_tower.export_rules(eva_timm.PREFIX, config.image, "timm"), *text("text."))
    table = Table(rules=(Rule("logit_scale", "logit_scale", SCALAR), *rules))
    torch.save(table.to_foreign(random_model(config).state_dict()), tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=r"open-clip: no published EVA tower .* give config="):
        load_model(tmp_path / "weights.pt")


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("open-clip", "timm has none of this configuration; write it as eva or transformers"),
        ("openai", "OpenAI's code has CLIP's towers, and this model has a EvaConfig"),
    ],
)
def test_towers_that_timm_lacks_are_refused(name, to, said, tmp_path, random_model):
    save_model(tmp_path / "in", random_model(MODELS[name]))
    with pytest.raises(CheckpointError, match=said):
        convert(tmp_path / "in", to, tmp_path / "out")


def test_a_published_architecture_is_written(tmp_path, random_model, monkeypatch):
    """As if timm had a tower of our small size."""
    config = MODELS["eva02-b"]
    monkeypatch.setattr(eva_timm, "published_tower", lambda name: config.image)
    save_model(tmp_path / "in", random_model(config))
    convert(tmp_path / "in", "open-clip", tmp_path / "out")
    names = load_file(tmp_path / "out" / "open_clip_model.safetensors").keys()
    assert "visual.trunk.blocks.1.mlp.fc1_g.weight" in names
    assert "text.transformer.resblocks.0.ln_1.weight" in names
    assert load_model(tmp_path / "out").config == config
