"""CoCa with a pool for each task, as open_clip's main branch has it, and the models of which nobody
published weights.

The peer is open_clip 3.3, which has both pools, with what the main branch corrects: the norm is of
the tokens' width, the contrast's pool of a cascade reads vectors of the shared space, and there is
no projection. What is computed is the peer's own code.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diptych import compat, models, pretrained
from diptych.checkpoints import convert, load_model
from diptych.config.serialize import difference
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip.layouts.open_clip import export_table
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.coca.pretrained import WITHOUT_WEIGHTS
from diptych.families.huggingface.config import HuggingFaceTextConfig
from diptych.families.huggingface.known import KNOWN
from diptych.families.infer import infer
from tests.families.coca.test_coca import CFG, IDS, VISION, same

open_clip = pytest.importorskip("open_clip")

POOLS = ["cascade", "parallel"]
DIM = CFG["embed_dim"]


def cfg_of(pools, **vision):
    return CFG | {"vision_cfg": VISION | {"attentional_pool": pools} | vision}


def sections(cfg):
    """What a class takes of it."""
    return {name: value for name, value in cfg.items() if name != "custom_text"}


def peer(cfg):
    """open_clip 3.3's model. Where it has two pools, with the main branch's corrections; its
    pictures' vectors are [batch, 1, embed_dim] then."""
    model = open_clip.CoCa(**sections(cfg))
    dim, vision = cfg["embed_dim"], cfg["vision_cfg"]
    if isinstance(vision.get("attentional_pool"), str):
        model.visual.ln_post = open_clip.transformer.LayerNorm(vision["width"])
        model.visual.proj = None
    if vision.get("attentional_pool") == "cascade":
        model.visual.attn_pool_contrastive = open_clip.transformer.AttentionalPooler(
            dim, dim, n_head=vision["attn_pooler_heads"], n_queries=1
        )
    return model


@pytest.fixture
def pixels():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("pools", POOLS)
@torch.no_grad()
def test_both_ways(pools, randomise, tmp_path, pixels):
    cfg = cfg_of(pools)
    theirs = randomise(peer(cfg)).eval()
    (tmp_path / "in").mkdir()
    before = theirs.state_dict()
    save_file(before, tmp_path / "in" / "open_clip_model.safetensors")
    (tmp_path / "in" / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg}))
    ours, meta = load_model(tmp_path / "in")
    assert meta.config.image.pools == pools
    wanted = theirs(pixels, IDS)
    same(ours.encode_image(pixels, normalize=True), wanted["image_features"][:, 0])
    same(ours.image(pixels, "normed").tokens, theirs.visual(pixels)[1])
    logits = ours.next_tokens(IDS[:, :-1], ours.read_pictures(pixels))
    real = IDS[:, :-1] != 0
    same(logits[real], wanted["logits"][real])
    convert(tmp_path / "in", "open-clip", tmp_path / "out")
    written = load_file(tmp_path / "out" / "open_clip_model.safetensors")
    assert before.keys() == written.keys()
    assert all(torch.equal(before[name], written[name]) for name in before)
    again = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())
    assert from_json(again) == meta.config
    assert from_json(to_json(meta.config)) == meta.config


@pytest.mark.parametrize("pools", POOLS)
def test_in_open_clips_spelling(pools, randomise, pixels):
    """What is computed, what learns, and what is locked with the pools."""
    cfg = cfg_of(pools)
    theirs = randomise(peer(cfg)).eval()
    model = compat.CoCa(**sections(cfg)).eval()
    model.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        same(model.encode_image(pixels), theirs.encode_image(pixels)[:, 0])
        same(model.clip.encode_image(pixels, normalize=True), model.encode_image(pixels))
        same(model(pixels)["image_embs"], theirs.visual(pixels)[1])
    visual = model.visual
    assert (visual.attn_pool_type, visual.proj, visual.pool_type) == (pools, None, "none")
    out = model(pixels, IDS)
    (out["image_features"].sum() + out["logits"].sum()).backward()
    assert visual.attn_pool.query.grad.abs().sum() > 0
    assert visual.attn_pool_contrastive.query.grad.abs().sum() > 0
    name, head = visual.layer_groups()[-1]
    assert (name, head) == ("proj", [visual.attn_pool, visual.attn_pool_contrastive])
    visual.lock(unlocked_groups=1)
    trained = {name for name, p in visual.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in visual.named_parameters() if name[:9] == "attn_pool"}
    ours = model.clip.image
    assert ours.layer_groups()[-1] == [n for n, _ in ours.named_parameters() if n[:6] == "pools."]


@pytest.mark.parametrize("pools", POOLS)
def test_weights_tell_which_pools_they_are(pools, tmp_path):
    """Unless tokens are as wide as vectors: then the configuration does."""
    heads = {"head_width": 64, "attn_pooler_heads": 8}
    words = {name: CFG[name] | {"heads": 1, "width": 64} for name in ("text_cfg", "multimodal_cfg")}
    words["multimodal_cfg"]["context_length"] = 76  # which no weight tells
    cfg = cfg_of(pools, width=128, **heads) | words | {"embed_dim": 64}
    config = from_json({"model_cfg": cfg})
    meta = models.build(config, device="meta")
    assert not difference(infer(meta.state_dict(), "gelu"), config)
    narrow = cfg_of(pools, width=64, **heads) | words | {"embed_dim": 64}
    alike = models.build(from_json({"model_cfg": narrow}), device="meta")
    with pytest.raises(CheckpointError, match="both 64 wide, so whether the pools are a cascade"):
        infer(alike.state_dict(), "gelu")


@pytest.mark.parametrize("pools", POOLS)
def test_operations_and_kinds_of_tokens(pools, pixels):
    tower = models.build(from_json({"model_cfg": cfg_of(pools)})).image.eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        found = tower(pixels[:1])
    assert tower.flops() == counter.get_total_flops()
    assert found.tokens.shape == (1, 5, DIM)
    alone = tower(pixels[:1], "none")
    same(alone.pooled, found.pooled)
    assert alone.tokens.shape == (1, 0, DIM)
    with pytest.raises(ConfigError, match="doesn't project its tokens"):
        tower(pixels, "projected")


@pytest.mark.parametrize("pools", POOLS)
def test_a_patch_alone(pools, pixels):
    """Its vector is what the tower gives where it is the only token behind the blocks."""
    tower = models.build(from_json({"model_cfg": cfg_of(pools)})).image.eval().requires_grad_(False)
    vectors = tower.patch_vectors(pixels)
    tower.blocks.append(_Only(2))
    same(vectors[:, 2], tower(pixels).pooled)


class _Only(nn.Module):
    def __init__(self, patch):
        super().__init__()
        self.patch = patch

    def forward(self, x):
        return x[:, 1 + self.patch, None]


def test_fresh_pools_have_their_spread():
    torch.manual_seed(0)
    tower = models.build(from_json({"model_cfg": cfg_of("cascade")})).image
    for pool in (tower.pools.captions, tower.pools.contrast):
        assert pool.query.std().item() == pytest.approx(1, rel=0.3)
        assert pool.attention.in_proj_bias.abs().sum() == 0
    assert (tower.norm_post.weight == 1).all()


OF_SQUARES = [name for name in WITHOUT_WEIGHTS if "naflex" not in name]
"""Of the other: test_naflex."""


@pytest.mark.parametrize("name", [*OF_SQUARES, "coca_roberta-ViT-B-32"])
def test_models_of_which_there_are_no_weights(name, monkeypatch):
    config = pretrained.get(name)
    assert from_json(to_json(config)) == config
    assert name in compat.list_models()
    wanted = compat.get_model_config(name)
    file = Path(open_clip.__file__).parent / "model_configs" / f"{name}.json"
    if name != "coca2_ViT-B-32":  # which 3.3 hasn't
        wanted = json.loads(file.read_text())
        assert not difference(config, from_json({"model_cfg": wanted}))
    without_network(monkeypatch, KNOWN["roberta-base"])
    wanted["text_cfg"] |= {"hf_model_pretrained": False}
    wanted["text_cfg"].pop("correct_cls_mask", None)  # which 3.3's configurations don't reach
    with torch.device("meta"):
        theirs = peer(wanted).state_dict()
    ours = export_table(config).to_foreign(models.build(config, device="meta").state_dict())
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}


def without_network(monkeypatch, trunk):
    """open_clip finds this trunk's configuration under any name."""
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(
        "open_clip.hf_model.AutoConfig.from_pretrained",
        lambda name: transformers.AutoConfig.for_model(trunk.model_type, **trunk.options),
    )


@torch.no_grad()
def test_texts_that_another_library_reads(randomise, monkeypatch, tmp_path, pixels):
    """RoBERTa's tokens, as they are, are what the decoder reads."""
    sizes = {"vocab_size": 700, "hidden_size": 32, "num_hidden_layers": 1, "type_vocab_size": 1}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 20}
    trunk = HuggingFaceTextConfig(model_type="roberta", options=sizes, pad_id=1)
    monkeypatch.setitem(KNOWN, "me/trunk", trunk)
    without_network(monkeypatch, trunk)
    text = {"hf_model_name": "me/trunk", "hf_proj_type": "linear", "hf_model_pretrained": False}
    text |= {"context_length": 12, "vocab_size": 700, "output_tokens": True}
    cfg = CFG | {"text_cfg": text}
    theirs = randomise(open_clip.CoCa(**sections(cfg))).eval()
    model = compat.CoCa(**sections(cfg)).eval()
    model.load_state_dict(theirs.state_dict())
    ids = IDS.masked_fill(IDS == 0, 1)
    wanted, found = theirs(pixels, ids), model(pixels, ids)
    assert wanted.keys() == found.keys()
    for name, tensor in wanted.items():
        same(found[name], tensor)
    logits = model.clip.next_tokens(ids[:, :-1], model.clip.read_pictures(pixels))
    longer = theirs(pixels, ids[:, :-1], output_labels=False)["logits"]
    same(logits, longer)
    written = to_json(model.config)["model_cfg"]
    written["text_cfg"]["hf_model_pretrained"] = False
    open_clip.CoCa(**sections(written)).load_state_dict(theirs.state_dict())
