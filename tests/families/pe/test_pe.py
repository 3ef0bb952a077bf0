"""timm and open_clip compute what we compute, with the same PE-Core weights, and the authors' files
are read as timm reads them; every published model is configured as open_clip has it."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diptych import models, pretrained
from diptych.checkpoints import convert, detect, load_image_tower, load_model
from diptych.config import ClipConfig
from diptych.config.serialize import difference
from diptych.errors import AssumptionWarning, CheckpointError, ConfigError
from diptych.families.clip import TextConfig
from diptych.families.clip.layouts.open_clip import export_table
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.pe import PeImageConfig
from diptych.families.pe.layouts.meta import TABLE
from diptych.families.pe.layouts.timm import TOWERS
from diptych.families.pe.pretrained import MODELS, PREPROCESS
from diptych.inputs import tokenizer_of
from diptych.weights.mapping import Table
from diptych.weights.native import save_model
from diptych.weights.tower import resize_tower

IMAGE = PeImageConfig(
    image_size=12,
    patch_size=4,
    width=192,
    layers=2,
    heads=3,
    mlp_width=96,
    rotary_grid=3,
    pool_heads=8,
    pool_mlp_width=384,
)
"""Of the smallest published width, by which heads are told."""
CONFIG = ClipConfig(
    image=IMAGE,
    text=TextConfig(context_length=8, width=64, layers=1, heads=1, mlp_width=64),
    embed_dim=40,
    preprocess=PREPROCESS,
)


@pytest.fixture
def pixels():
    return torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def ids():
    return torch.tensor([[49406, 5, 9, 49407], [49406, 7, 49407, 0]])


def timms(image: PeImageConfig, embed_dim: int = 40):
    eva = pytest.importorskip("timm.models.eva")
    return eva.Eva(
        img_size=image.image_size,
        patch_size=image.patch_size,
        embed_dim=image.width,
        depth=image.layers,
        num_heads=image.heads,
        mlp_ratio=image.mlp_width / image.width,
        num_classes=embed_dim,
        class_token=image.class_token,
        global_pool="map",
        attn_type="rope",
        use_pre_transformer_norm=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(image.rotary_grid, image.rotary_grid),
        rope_grid_offset=float(image.class_token),
        rope_grid_indexing="xy",
        attn_pool_num_heads=8,
        attn_pool_mlp_ratio=image.pool_mlp_width / image.width,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-5),
    ).eval()


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("rotary_grid", [3, 5])
def test_the_image_tower_is_timms(random_model, pixels, class_token, rotary_grid):
    image = replace(IMAGE, class_token=class_token, rotary_grid=rotary_grid)
    ours = random_model(replace(CONFIG, image=image))
    theirs = timms(image)
    foreign = Table(rules=TOWERS[0].rules(())).to_foreign(
        {f"image.{name}": tensor for name, tensor in ours.image.state_dict().items()}
    )
    theirs.load_state_dict({n.removeprefix("visual.trunk."): t for n, t in foreign.items()})
    with torch.no_grad():
        tokens, feature, pooled = ours.image(pixels, tokens="normed")
        features = theirs.forward_features(pixels)
        torch.testing.assert_close(tokens, features, atol=1e-5, rtol=1e-5)
        read = theirs.forward_head(features, pre_logits=True)
        torch.testing.assert_close(feature, read, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(pooled, theirs(pixels), atol=1e-5, rtol=1e-5)
    assert tokens.shape[1] == 9 + class_token


def authors_file(path, model):
    """With what trainers put around it."""
    state = {f"image.{n}": t for n, t in model.image.state_dict().items()}
    state |= {f"text.{n}": t for n, t in model.text.state_dict().items()}
    del state["image.projection.bias"]
    foreign = TABLE.to_foreign(state | {"logit_scale": model.logit_scale.detach()})
    torch.save({"state_dict": {f"module.{n}": t for n, t in foreign.items()}}, path)
    return foreign


def test_the_authors_file_is_read_as_timm_reads_it(random_model, tmp_path, pixels, ids):
    eva = pytest.importorskip("timm.models.eva")
    model = random_model(CONFIG)
    foreign = authors_file(tmp_path / "PE-mine.pt", model)
    assert detect(tmp_path / "PE-mine.pt") == "pe"
    with pytest.warns(AssumptionWarning, match="heads of the published widths; PE-Core's prep"):
        ours, meta = load_model(tmp_path / "PE-mine.pt")
    assert not difference(meta.config, CONFIG)
    theirs = timms(IMAGE)
    theirs.load_state_dict(eva.checkpoint_filter_fn(foreign, theirs))
    with torch.no_grad():
        wanted = theirs(pixels)
        torch.testing.assert_close(ours.encode_image(pixels), wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.encode_text(ids), model.encode_text(ids))
    # Of one tower alone: pictures by pictures.
    alone = {name: tensor for name, tensor in foreign.items() if name.startswith("visual.")}
    torch.save(alone, tmp_path / "image.pt")
    with pytest.warns(AssumptionWarning):
        tower = load_image_tower(tmp_path / "image.pt").tower
    with torch.no_grad():
        assert torch.equal(tower(pixels).pooled, ours.encode_image(pixels))


def test_a_model_becomes_the_authors_file(random_model, tmp_path):
    model = random_model(CONFIG)
    with torch.no_grad():
        model.image.projection.bias.zero_()
    before = authors_file(tmp_path / "before.pt", model)
    source = save_model(tmp_path / "native", model)
    after = torch.load(convert(source, "pe", tmp_path / "after.pt"))
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "its image projection has a bias, and that of PE-Core's authors none"),
        ({"rotary_grid": 5}, "a model with image.rotary_grid 3 instead of 5"),
        ({"pool_heads": 4}, "a model with image.pool_heads 8 instead of 4"),
        ({"norm_eps": 1e-6}, "image.norm_eps 1e-05 instead of 1e-06"),
    ],
)
def test_the_authors_code_would_make_another_model_of_it(random_model, tmp_path, change, said):
    model = random_model(replace(CONFIG, image=replace(IMAGE, **change)))
    with pytest.raises(CheckpointError, match=said):
        convert(save_model(tmp_path / "native", model), "pe", tmp_path / "out.pt")


@pytest.mark.parametrize("name", MODELS)
def test_every_published_model_is_open_clips(name):
    open_clip = pytest.importorskip("open_clip")
    file = Path(open_clip.__file__).parent / "model_configs" / f"{name}.json"
    wanted = json.loads(file.read_text())
    known = open_clip.get_pretrained_cfg(name, "meta")
    kept = ("interpolation", "resize_mode", "mean", "std")
    preprocess = {key: known[key] for key in kept} | {"fill_color": 0}
    ours = pretrained.get(name)
    assert not difference(ours, from_json({"model_cfg": wanted, "preprocess_cfg": preprocess}))
    written = to_json(ours)
    assert written["preprocess_cfg"] == {
        key: list(value) if isinstance(value, tuple) else value for key, value in preprocess.items()
    }
    found = written["model_cfg"]
    assert found.pop("text_cfg").items() >= wanted.pop("text_cfg").items()
    assert found == wanted
    weights = pretrained.weights(f"{name}/meta")
    assert weights is not None
    assert weights.repo == known["hf_hub"].rstrip("/")
    meta = pretrained.weights(f"facebook/{MODELS[name][3]}")
    assert meta is not None
    assert pretrained.entry(meta.file).name == name.lower()
    length = ours.text.context_length
    texts = ["a  diptych &amp; more", "one " * 90]
    theirs = open_clip.get_tokenizer(name)(texts)
    assert torch.equal(tokenizer_of(ours)(texts, pad_to=length), theirs)


@pytest.mark.parametrize("name", ["PE-Core-T-16-384", "PE-Core-bigG-14-448"])
def test_names_and_shapes_are_open_clips(name):
    open_clip = pytest.importorskip("open_clip")
    file = Path(open_clip.__file__).parent / "model_configs" / f"{name}.json"
    cfg = json.loads(file.read_text())
    del cfg["custom_text"]
    with torch.device("meta"):
        theirs = open_clip.CustomTextCLIP(**cfg).state_dict()
    config = pretrained.get(name)
    ours = export_table(config).to_foreign(models.build(config, device="meta").state_dict())
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}


def test_a_larger_picture_is_placed_as_timm_places_it(random_model, pixels):
    ours = random_model(CONFIG).image
    theirs = timms(IMAGE)
    foreign = Table(rules=TOWERS[0].rules(())).to_foreign(
        {f"image.{name}": tensor for name, tensor in ours.state_dict().items()}
    )
    theirs.load_state_dict({n.removeprefix("visual.trunk."): t for n, t in foreign.items()})
    theirs.set_input_size((20, 20))
    from diptych.weights import State

    state, config = resize_tower(State.of(ours.state_dict()), IMAGE, image_size=20)
    tower = models.build_tower(config, 40)
    tower.load_state_dict(dict(state))
    larger = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted = theirs.eval()(larger)
        torch.testing.assert_close(tower.eval()(larger).pooled, wanted, atol=1e-5, rtol=1e-5)


def test_a_dropped_patch_takes_no_others_place(random_model, pixels):
    """What is left of a picture turns by where it stood: with one patch, by hand."""
    tower = random_model(replace(CONFIG, image=replace(IMAGE, class_token=False))).image
    tower.train()
    tower.set_patch_dropout(0.9)
    torch.manual_seed(0)
    kept = torch.rand(3, 9).topk(1, dim=1).indices[:, 0]
    torch.manual_seed(0)
    _, rotary = tower.embed(pixels)
    for row, patch in enumerate(kept.tolist()):
        y, x = divmod(patch, 3)
        cosines = rotary[0, row, 0, 0, 0]
        # The first channel of each half turns by the place itself: the column, then the row.
        torch.testing.assert_close(cosines[0], torch.tensor(float(x)).cos())
        torch.testing.assert_close(cosines[32], torch.tensor(float(y)).cos())


def test_what_does_not_fit_is_said(random_model, pixels):
    with pytest.raises(ConfigError, match="heads of a multiple of 4 channels, not 6"):
        replace(IMAGE, heads=32)
    with pytest.raises(ConfigError, match="width 192 is not a multiple of pool_heads 7"):
        replace(IMAGE, pool_heads=7)
    with pytest.raises(ConfigError, match="doesn't project its tokens"):
        random_model(CONFIG).image(pixels, tokens="projected")
    with pytest.raises(CheckpointError, match="timm has none of width 192, 2 layers.*--to pe"):
        to_json(CONFIG)


def test_operations_are_counted(random_model, pixels):
    tower = random_model(CONFIG).image
    plain = sdpa_kernel(SDPBackend.MATH)  # torch before 2.13 doesn't count the fused one
    with FlopCounterMode(display=False) as counter, torch.no_grad(), plain:
        tower(pixels[:1])
    assert tower.flops() == counter.get_total_flops()
