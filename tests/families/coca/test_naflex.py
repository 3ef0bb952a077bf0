"""CoCa's pools over pictures of their own aspect read what each picture has alone, as open_clip's
pools read it; open_clip's names and options, both ways."""

from dataclasses import replace

import pytest
import torch

from diptych import models, pretrained
from diptych.checkpoints import convert, load_model
from diptych.config import ClipConfig, PreprocessConfig
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip.layouts.open_clip import export_table, table
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.coca import CocaDecoderConfig, CocaNaflexConfig, CocaTextConfig
from diptych.weights.native import save_model
from tests.families.native import GRIDS, PATCH, PATCHES, TRUNK, packed, unlike

SIZES = {"vocab_size": 40, "width": 24, "layers": 1, "heads": 2, "mlp_width": 96}
IMAGE = CocaNaflexConfig(trunk=replace(TRUNK, reads_out=False), queries=5, pool_heads=2)
CONFIG = ClipConfig(
    image=IMAGE,
    text=CocaTextConfig(**SIZES, context_length=8),
    decoder=CocaDecoderConfig(**SIZES, context_length=8),
    embed_dim=24,
    preprocess=PreprocessConfig(resize="native", patches=PATCHES, patch_size=PATCH),
)
POOLS = ("cascade", "parallel")


def config_of(pools):
    return replace(CONFIG, image=replace(IMAGE, pools=pools))


def pooler(weights, name, width):
    """open_clip's own, with the weights of these names."""
    from open_clip.transformer import AttentionalPooler

    begins = f"{name}."
    state = {n.removeprefix(begins): t for n, t in weights.items() if n.startswith(begins)}
    made = AttentionalPooler(24, width, n_head=2, n_queries=len(state["query"]))
    made.load_state_dict(state)
    return made.eval()


@pytest.mark.parametrize("pools", POOLS)
def test_open_clips_pools_read_what_each_picture_has(random_model, pools):
    made = random_model(config_of(pools)).eval()
    weights = export_table(made.config).to_foreign(made.state_dict())
    with torch.no_grad():
        pixels = packed()
        tokens, _, pooled = made.image(pixels)
        features = made.image.trunk(pixels).tokens[:, 2:]
        for row, grid in enumerate(GRIDS):
            own = features[row : row + 1, : grid[0] * grid[1]]
            norm = (weights["pool_norm.weight"], weights["pool_norm.bias"])
            own = torch.nn.functional.layer_norm(own, (32,), *norm)
            read = pooler(weights, "attn_pool", 32)(own)
            behind = read if pools == "cascade" else own
            contrast = pooler(weights, "attn_pool_contrastive", behind.shape[2])(behind)[:, 0]
            torch.testing.assert_close(tokens[row], read[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(pooled[row], contrast[0], atol=1e-5, rtol=1e-5)
        assert made.image(pixels, "none").tokens.shape == (3, 0, 24)
        for other in (packed(PATCHES + 4), unlike(pixels)):
            torch.testing.assert_close(made.image(other).pooled, pooled, atol=1e-5, rtol=1e-5)
        ids = torch.tensor([[37, 5, 7, 38]] * 3)
        logits = made.next_tokens(ids, made.read_pictures(unlike(pixels)))
        torch.testing.assert_close(logits, made.next_tokens(ids, made.read_pictures(pixels)))


@pytest.mark.parametrize("pools", POOLS)
def test_the_layout_both_ways(tmp_path, random_model, pools):
    made = random_model(config_of(pools))
    assert from_json(to_json(made.config)) == made.config
    save_model(tmp_path / "native", made)
    convert(tmp_path / "native", "open-clip", tmp_path / "theirs")
    again, meta = load_model(tmp_path / "theirs")
    assert meta.config == made.config
    assert all(torch.equal(value, made.state_dict()[n]) for n, value in again.state_dict().items())


@pytest.mark.parametrize(
    ("name", "pools", "queries", "patches"),
    [
        ("coca2-naflex_ViT-B-32", "cascade", 256, 64),
        ("coca2-moderntext-naflex_ViT-B-32", "parallel", 128, 64),
    ],
)
def test_models_by_name(name, pools, queries, patches):
    config = pretrained.get(name)
    assert (config.image.pools, config.image.queries) == (pools, queries)
    assert (config.preprocess.patches, config.preprocess.patch_size) == (patches, 32)
    assert from_json(to_json(config)) == config
    names = models.build(config, device="meta").state_dict()
    foreign = {each for ours in names for each in export_table(config).foreign_names(ours)}
    assert {"pool_norm.weight", "attn_pool.query", "visual.trunk.norm_pre.weight"} <= foreign
    assert not [each for each in foreign if each.startswith(("visual.head", "visual.trunk.fc_"))]
    assert table(foreign).to_ours(export_table(config).to_foreign(names)).keys() == names.keys()


def test_every_parameter_is_trained_and_operations_are_counted(random_model):
    made = random_model(config_of("parallel")).train()
    tokens, _, pooled = made.image(packed())
    (tokens.sum() + pooled.square().sum()).backward()
    assert all(parameter.grad is not None for parameter in made.image.parameters())
    assert made.image.flops_for(8) > made.image.trunk.flops_for(8)
    torch.manual_seed(0)
    fresh = models.build(replace(CONFIG, image=replace(IMAGE, queries=200)))
    query = fresh.image.pools.captions.query
    assert float(query.detach().std()) == pytest.approx(24**-0.5, rel=0.1)


def test_what_can_not_be_is_said():
    with pytest.raises(ConfigError, match="trunk.reads_out must be False"):
        CocaNaflexConfig(trunk=TRUNK)
    with pytest.raises(ConfigError, match="embed_dim 24 is not a multiple of pool_heads 5"):
        models.build(replace(CONFIG, image=replace(IMAGE, pool_heads=5)), device="meta")
    said = to_json(CONFIG)["model_cfg"]
    for option, message in (
        ({"attentional_pool": True}, "naflexvit_base_patch16_gap with attentional_pool True"),
        ({"timm_model_name": "vit_tiny_patch16_224"}, "timm's vit_tiny_patch16_224 with"),
    ):
        vision = said["vision_cfg"] | option
        with pytest.raises(CheckpointError, match=message):
            from_json({"model_cfg": said | {"vision_cfg": vision}})
    alone = replace(CONFIG, image=replace(TRUNK, reads_out=False))
    with pytest.raises(CheckpointError, match="reads_out"):
        to_json(alone)
