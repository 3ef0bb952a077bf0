"""GenLIP's image towers: the formulas, squares and pictures of their own aspect, files of the
authors' and of open_clip's."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

import diptych
from diptych import models, pretrained
from diptych.checkpoints import convert, detect, load_model
from diptych.config import ClipConfig
from diptych.config.alone import alone
from diptych.config.serialize import from_dict, to_dict
from diptych.errors import AssumptionWarning, CheckpointError, ConfigError
from diptych.families.clip import TextConfig
from diptych.families.clip.layouts.open_clip import export_table
from diptych.families.clip.layouts.open_clip_config import from_json, model_json, to_json
from diptych.families.genlip import GenlipImageConfig, GenlipNaflexConfig
from diptych.families.genlip.layouts.authors import _TABLE as AUTHORS
from diptych.families.genlip.pretrained import NATIVE, SIZES, SQUARES
from diptych.inputs import Preprocess
from diptych.inputs.native import pack
from diptych.models.heat import heat_maps
from diptych.weights.native import save_model
from diptych.weights.tower import resize_tower
from tests import tiny
from tests.cli.calls import call
from tests.families.genlip import formulas

SMALL = {"patch_size": 4, "width": 16, "layers": 2, "heads": 2, "mlp_width": 20}
TURNS = {"rotary_sections": (1, 2, 1), "rotary_theta": 50.0}
IMAGE = GenlipImageConfig(image_size=12, **SMALL, **TURNS)
NAFLEX = GenlipNaflexConfig(image_size=12, **SMALL, **TURNS)
TEXT = TextConfig(context_length=8, vocab_size=60, width=16, layers=1, heads=2, mlp_width=16)
VARIANTS = {
    "as published": {},
    "with normed queries": {"qk_norm": True, "norm": "rms", "pre_norm": True},
    "plain": {"gated_attention": False, "gated_mlp": False, "activation": "gelu"},
    "without biases": {"attention_bias": False, "mlp_bias": False, "layer_scale": None},
    "rectified": {"activation": "relu", "patch_bias": False, "rotary_sections": (0, 3, 1)},
}


@pytest.fixture
def tower(randomise):
    def make(config, embed_dim=6):
        built = models.build_tower(config, embed_dim)
        return randomise(built)

    return make


def pixels(count=2, height=12, width=12, seed=1):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def packed(*pictures, patches=9):
    """As the tower takes them, of real numbers."""
    rows = [pack(torch.zeros_like(p, dtype=torch.uint8), 4, patches).float() for p in pictures]
    for row, picture in zip(rows, pictures, strict=True):
        cells = picture.unflatten(2, (-1, 4)).unflatten(1, (-1, 4))
        cells = cells.transpose(2, 3).reshape(3, -1, 4)
        row[:, : cells.shape[1]] = cells
    return torch.stack(rows)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_forward_pass_is_the_formulas(tower, variant):
    config = replace(IMAGE, **VARIANTS[variant])
    built = tower(config)
    state, pictures = built.state_dict(), pixels()
    with torch.no_grad():
        normed, feature, pooled = built(pictures, "normed")
        projected = built(pictures, "projected").tokens
    for i, picture in enumerate(pictures):
        tokens, vector = formulas.picture(picture, state, config)
        torch.testing.assert_close(normed[i], tokens, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(feature[i], vector, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(pooled, built.projection(feature))
    torch.testing.assert_close(projected.mean(1), pooled, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(built.patch_vectors(pictures), projected)


@pytest.mark.parametrize("options", [{}, {"input_norm": True, "pre_norm": True}])
def test_pictures_of_any_aspect_are_the_formulas(tower, options):
    config = replace(NAFLEX, **options)
    built = tower(config)
    pictures = [pixels(1, *sides)[0] for sides in ((8, 12), (4, 16), (12, 12))]
    with torch.no_grad():
        tokens, feature, _ = built(packed(*pictures), "normed")
    for i, picture in enumerate(pictures):
        wanted, vector = formulas.picture(picture, built.state_dict(), config)
        torch.testing.assert_close(tokens[i, : len(wanted)], wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(feature[i], vector, atol=1e-5, rtol=1e-5)
    seen = built.real_patches(packed(*pictures))
    assert seen.sum(1).tolist() == [6, 4, 9]


def test_a_square_is_the_same_in_both_towers(tower):
    square, native = tower(IMAGE), tower(NAFLEX)
    native.load_state_dict(square.state_dict())
    pictures = pixels()
    with torch.no_grad():
        for kind in ("raw", "normed", "projected", "none"):
            ours, theirs = square(pictures, kind), native(packed(*pictures), kind)
            for a, b in zip(ours, theirs, strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_what_fills_up_a_row_changes_nothing(tower):
    built, picture = tower(NAFLEX), pixels(1, 8, 8)[0]
    with torch.no_grad():
        few, many = built(packed(picture, patches=4)), built(packed(picture, patches=25))
    torch.testing.assert_close(few.pooled, many.pooled, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("config", [IMAGE, NAFLEX], ids=["squares", "native"])
def test_blocks_are_computed_again_with_the_same_gradients(tower, config):
    built = tower(config).train()
    pictures = pixels() if config is IMAGE else packed(*pixels())
    found = []
    for on in (False, True):
        built.set_checkpointing(on)
        built.zero_grad()
        built(pictures).pooled.square().sum().backward()
        found.append({n: p.grad.clone() for n, p in built.named_parameters()})
    assert all(grad.abs().sum() > 0 for grad in found[0].values())
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad)


def test_dropped_patches_keep_their_places(tower):
    """A tower that keeps all but one patch of equal pictures gives what attention to those alone
    gives: the place counts, and not the order."""
    for config in (IMAGE, NAFLEX):
        built = tower(replace(config, layers=1)).train()
        built.set_patch_dropout(0.5)
        pictures = pixels() if config is IMAGE else packed(*pixels())
        torch.manual_seed(0)
        tokens = built(pictures, "normed").tokens
        assert tokens.shape == (2, 4, 16)
        torch.manual_seed(0)
        kept = torch.rand(2, 9).topk(4, dim=1).indices
        whole = built.eval()
        state = whole.state_dict()
        for i in range(2):
            rows = [(0, int(j) // 3, int(j) % 3) for j in kept[i]]
            x = whole.patch(pixels()).flatten(2).transpose(1, 2)[i, kept[i]]
            x = formulas.block(
                x, formulas.part(state, "blocks.0."), config, rows, lambda i, j: True
            )
            wanted = formulas.normed(x, state, "norm_post", config)
            torch.testing.assert_close(tokens[i], wanted, atol=1e-5, rtol=1e-5)


def test_training_knobs_and_heat_maps(tower):
    built = tower(IMAGE).train()
    built.set_stochastic_depth(0.5)
    assert [block.drop_path.rate for block in built.blocks] == [0.0, 0.5]
    built.set_patch_gradient(0.0)
    built(pixels()).pooled.sum().backward()
    assert not built.patch.weight.grad.any()
    native = tower(NAFLEX)
    with pytest.raises(ConfigError, match="no heat maps"):
        native.read_tokens(packed(*pixels()))
    native.train().set_patch_dropout(0.5)
    with pytest.raises(ConfigError, match="patch_dropout"):
        native.real_patches(packed(*pixels()))


def test_groups_of_layers_run_from_the_patches_to_the_projection(tower):
    built = tower(replace(NAFLEX, input_norm=True))
    first, *_, last = built.layer_groups()
    assert {name.split(".")[0] for name in first} == {"norm_input", "patch"}
    assert {name.split(".")[0] for name in last} == {"projection"}
    assert built.layer_of("norm_input.weight") == 0
    assert built.layer_of("norm_post.weight") == 3


@pytest.mark.parametrize("config", [IMAGE, replace(IMAGE, gated_mlp=False, gated_attention=False)])
def test_operations_are_those_that_are_done(tower, config):
    built = tower(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built(pixels(1))
    assert built.flops() == counter.get_total_flops()
    assert tower(NAFLEX).flops_for(9) == tower(IMAGE).flops()


def test_before_training(tower):
    built = models.build_tower(replace(IMAGE, qk_norm=True, pre_norm=True), 6)
    torch.manual_seed(0)
    built.init()
    block = built.blocks[0]
    assert block.layer_scale1.lambda1.eq(0.1).all()
    assert block.self_attn.q_norm.weight.eq(1).all()
    assert not block.self_attn.q_proj.bias.any()
    assert 0 < block.mlp.fc1.bias.abs().max() < 1e-4
    bound = (6 / (16 + 32)) ** 0.5
    assert 0.8 * bound < block.self_attn.q_proj.weight.abs().max() <= bound
    assert 0.015 < built.patch.weight.std() < 0.025
    assert not built.projection.bias.any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rotary_sections": (2, 2, 2)}, r"\(mrope_section\) \(2, 2, 2\) have 6 pairs"),
        ({"width": 15}, "width 15 is not a multiple of heads 2"),
        ({"image_size": 13}, "image_size 13 is not a multiple of patch_size 4"),
    ],
)
def test_sizes_that_dont_fit_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        replace(IMAGE, **options)


# Files.


@pytest.fixture
def clip(random_model):
    def make(image=NAFLEX, embed_dim=6):
        how = replace(NATIVE, patches=9, patch_size=4) if image.native else SQUARES
        return random_model(ClipConfig(image=image, text=TEXT, embed_dim=embed_dim, preprocess=how))

    return make


@pytest.mark.parametrize("image", [IMAGE, replace(NAFLEX, input_norm=True, pre_norm=True)])
@pytest.mark.parametrize("embed_dim", [6, 16])
def test_a_clip_model_is_open_clips(clip, tmp_path, image, embed_dim):
    model = clip(image, embed_dim)
    save_model(tmp_path / "native", model)
    convert(tmp_path / "native", "open-clip", tmp_path / "theirs")
    again, meta = load_model(tmp_path / "theirs")
    assert meta.config.image == image
    assert meta.config.preprocess == model.config.preprocess
    foreign = export_table(model.config).to_foreign(model.state_dict())
    matrix = foreign["visual.patch_embed.proj.weight"]
    assert matrix.shape == ((16, 48) if image.native else (16, 3, 4, 4))
    assert ("visual.proj.weight" in foreign) is (embed_dim != 16)
    assert "visual.trunk.layers.1.self_attn.q_proj.weight" in foreign
    assert "text.token_embedding.weight" in foreign
    pictures = packed(*pixels()) if image.native else pixels()
    with torch.no_grad():
        torch.testing.assert_close(again.image(pictures).pooled, model.image(pictures).pooled)


def test_patches_of_open_clips_are_in_the_order_of_its_loaders(clip):
    """Their numbers are of a row, then of a column, then of a colour."""
    model = clip()
    foreign = export_table(model.config).to_foreign(model.state_dict())
    [picture] = pixels(1, 4, 4)
    flat = picture.permute(1, 2, 0).flatten()
    linear = flat @ foreign["visual.patch_embed.proj.weight"].T
    conv = model.image.patch(picture[None]).flatten()
    bias = foreign["visual.patch_embed.proj.bias"]
    torch.testing.assert_close(linear + bias, conv, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["clip-genlip-ref-l16", "clip-genlip-fixed-ref-g16"])
def test_configurations_of_open_clips_are_read_and_written(name):
    config = pretrained.get(name)
    assert from_json(to_json(config)) == config
    cfg = model_json(config)
    assert cfg["custom_text"]
    assert cfg["vision_cfg"]["genlip_cfg"]["attention_bias"]
    # As published: preprocessing stands within the section, and what is default isn't said.
    said = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear"}
    cfg["preprocess_cfg"] = said | {"resize_mode": "squash"}
    assert from_json({"model_cfg": cfg}) == config
    assert from_dict(ClipConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mrope_interleaved": False}, "mrope_interleaved = False"),
        ({"norm_type": "batch"}, "norm_type = 'batch'"),
        ({"mrope_section": [2, 2, 2]}, "36: they must be the same"),
        ({"sinks": 3}, "genlip_cfg.sinks = 3"),
    ],
)
def test_options_that_arent_here_are_refused(options, said):
    cfg = model_json(pretrained.get("clip-genlip-ref-so16"))
    cfg["vision_cfg"]["genlip_cfg"] |= options
    with pytest.raises((CheckpointError, ConfigError), match=said):
        from_json({"model_cfg": cfg})


def authors(built):
    """The authors' state dict of a tower and of words."""
    state = AUTHORS.to_foreign({f"image.{n}": t for n, t in built.state_dict().items()})
    words = {"embeddings.weight": (9, 6), "lm_head.weight": (9, 6), "in_proj.weight": (16, 6)}
    return state | {name: torch.rand(shape) for name, shape in words.items()}


CONFIG = {
    "model_type": "genlip",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "patch_size": 4,
    "hidden_act": "silu",
    "use_swiglu_ffn": True,
    "ls_init_value": 0.1,
    "gated_attention": True,
    "mrope_interleaved": True,
    "rope_theta": 50.0,
    "rope_scaling": {"type": "mrope", "mrope_section": [0, 2, 1]},
    "vocab_size": 9,
}
PROCESSOR = {
    "image_processor_type": "GenLIPNaViTImageProcessor",
    "max_pixels": 9 * 16,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "resample": 2,
}


def folder_of(path, built, processor=None):
    path.mkdir()
    save_file(authors(built), path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(CONFIG))
    if processor:
        (path / "preprocessor_config.json").write_text(json.dumps(processor))
    return path


@pytest.mark.parametrize("native", [False, True])
def test_a_folder_of_the_authors_is_a_tower_alone(tower, tmp_path, native):
    built = tower(NAFLEX if native else replace(IMAGE, image_size=56))
    folder = folder_of(tmp_path / "genlip", built, PROCESSOR if native else None)
    assert detect(folder) == "genlip"
    encoder = diptych.load(folder)
    assert encoder.config.image == replace(built.config, image_size=56)
    assert encoder.config.preprocess == (
        replace(NATIVE, patches=9, patch_size=4) if native else SQUARES
    )
    grey = Image.new("RGB", (60, 40), (90, 120, 200))
    vectors = encoder.embed_images([grey])
    taken = Preprocess(encoder.config.preprocess, 56)(grey)[None]
    with torch.no_grad():
        wanted = torch.nn.functional.normalize(built(taken).pooled, dim=1)
    torch.testing.assert_close(torch.as_tensor(vectors), wanted, atol=1e-5, rtol=1e-5)
    state = authors(built)
    kernel = state["vision_embeddings.patch_embedding.weight"]
    assert kernel.shape == (16, 3, 4, 4)
    assert torch.equal(kernel, built.patch.weight)
    assert {"visual.layers.1.mlp.gate_fc.weight", "ln_post.weight", "proj.bias"} <= state.keys()


@pytest.mark.parametrize("image", [IMAGE, NAFLEX], ids=["squares", "native"])
def test_a_tower_goes_to_the_authors_folder_and_back(clip, tmp_path, image):
    save_model(tmp_path / "native", clip(image))
    convert(tmp_path / "native", "genlip", tmp_path / "theirs")
    _, meta = load_model(tmp_path / "theirs")
    assert meta.config.image == image
    assert meta.config.missing == "text"
    convert(tmp_path / "theirs", "native", tmp_path / "back")
    assert load_model(tmp_path / "back")[1].config == meta.config


def test_the_authors_code_has_no_towers_of_other_parts(clip, tmp_path):
    save_model(tmp_path / "native", clip(replace(IMAGE, norm="rms")))
    with pytest.raises(CheckpointError, match="layer norms, and biases"):
        convert(tmp_path / "native", "genlip", tmp_path / "theirs")


def test_the_command_line_takes_a_folder_of_the_authors(tower, tmp_path, capsys):
    folder = folder_of(tmp_path / "genlip", tower(NAFLEX), PROCESSOR)
    photos = tiny.write_pictures(tmp_path / "photos", each=1)
    index = tmp_path / "photos.index"
    assert call("embed", folder, tmp_path / "photos", "--out", index) == 0
    capsys.readouterr()
    assert call("search", index, photos[2], "--top", 1) == 0
    assert str(photos[2]) in capsys.readouterr().out
    assert call("search", index, "a red picture") == 2
    assert "its image tower is alone" in capsys.readouterr().err
    out = tmp_path / "native"
    assert call("convert", folder, "--to", "native", "--out", out) == 0
    assert load_model(out)[1].config.image == replace(NAFLEX, image_size=56)


def test_sections_of_the_authors_may_leave_pairs_to_time(tower, tmp_path):
    """L/16 says [8, 12, 12] of 36 pairs: those that are left turn by time, as theirs do."""
    folder = folder_of(tmp_path / "genlip", tower(IMAGE))
    assert diptych.load(folder).config.image.rotary_sections == (1, 2, 1)
    said = CONFIG | {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    (folder / "config.json").write_text(json.dumps(said))
    with pytest.raises(CheckpointError, match="aren't scaled"):
        diptych.load(folder)


def test_a_file_alone_is_told_by_its_width(tmp_path, randomise):
    image = GenlipImageConfig(patch_size=56, layers=1, mlp_width=8)
    built = randomise(models.build_tower(image, 6))
    torch.save(authors(built), tmp_path / "genlip.pt")
    with pytest.warns(AssumptionWarning, match="heads of the published widths; squares of 224"):
        encoder = diptych.load(tmp_path / "genlip.pt")
    assert encoder.config.image == image
    assert encoder.config.preprocess == SQUARES
    torch.save(authors(randomise(models.build_tower(IMAGE, 6))), tmp_path / "small.pt")
    with pytest.raises(CheckpointError, match="can't be inferred"):
        diptych.load(tmp_path / "small.pt")


def captioner(built):
    """What open_clip's class saves: the tower twice, and words."""
    how = replace(NATIVE, patch_size=4) if built.config.native else SQUARES
    config = alone(built.config, 6, preprocess=how)
    ours = {f"image.{n}": t for n, t in built.state_dict().items()}
    visual = export_table(replace(config, text=TEXT)).to_foreign(ours)
    own = {n.removeprefix("visual."): t for n, t in visual.items() if ".proj." not in n[:12]}
    words = {"text_embed.weight": (9, 6), "lm_head.weight": (9, 6), "out_proj.weight": (6, 16)}
    return own | visual | {name: torch.rand(shape) for name, shape in words.items()}


@pytest.mark.parametrize("image", [IMAGE, NAFLEX], ids=["squares", "native"])
def test_what_writes_captions_in_open_clip_gives_its_tower(tower, tmp_path, image):
    built = tower(image)
    save_file(
        {n: t.clone() for n, t in captioner(built).items()}, tmp_path / "open_clip.safetensors"
    )
    vision = {"image_size": 12, "patch_size": 4}
    section = model_json(pretrained.get("clip-genlip-ref-so16"))["vision_cfg"]["genlip_cfg"]
    section |= {"width": 16, "depth": 2, "num_heads": 2, "intermediate_size": 20}
    section |= {"mrope_section": [1, 2, 1], "rope_theta": 50.0}
    vision |= {} if image.native else {"genlip_naflex": False}
    model = {"embed_dim": 6, "vision_cfg": vision, "genlip_cfg": section, "text_cfg": {}}
    said = {"mean": [0.5] * 3, "std": [0.5] * 3}
    config = {"model_cfg": model, "preprocess_cfg": said}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    assert detect(tmp_path / "open_clip.safetensors") == "genlip-open-clip"
    encoder = diptych.load(tmp_path / "open_clip.safetensors")
    assert encoder.config.image == image
    assert encoder.config.preprocess.mean == (0.5, 0.5, 0.5)
    assert encoder.config.preprocess.resize == ("native" if image.native else "shortest")
    for name, tensor in encoder.model.image.state_dict().items():
        assert torch.equal(tensor, built.state_dict()[name])


def test_weights_say_whether_there_are_biases(tower, tmp_path):
    """open_clip's first version had them where its configurations say nothing."""
    built = tower(IMAGE)
    save_file({n: t.clone() for n, t in captioner(built).items()}, tmp_path / "m.safetensors")
    bare = replace(IMAGE, attention_bias=False, mlp_bias=False)
    loaded, meta = load_model(tmp_path / "m.safetensors", config=alone(bare, 6))
    assert meta.config.image == IMAGE
    assert loaded.image.blocks[0].mlp.fc1.bias is not None


def test_patches_of_another_size_are_interpolated(tower):
    state = diptych.weights.State.of(tower(IMAGE).state_dict())
    resized, config = resize_tower(state, IMAGE, image_size=24, patch_size=8)
    assert config.side == 3
    assert resized["patch.weight"].shape == (16, 3, 8, 8)
    with pytest.raises(ConfigError, match="pictures of any size"):
        resize_tower(state, NAFLEX, image_size=24)


def test_published_sizes_are_the_authors():
    for size, values in SIZES.items():
        assert values.width // values.heads // 2 == sum(values.rotary_sections), size
    config = pretrained.entry("YanFang/GenLIP-L16-NaViT").config
    assert (config.layers, config.mlp_width, config.native) == (24, 2752, True)
    assert pretrained.entry("clip_genlip_ref_so16").image.layers == 27


def test_heat_maps_of_squares(clip):
    texts = torch.nn.functional.normalize(torch.rand(2, 6), dim=1)
    assert heat_maps(clip(IMAGE).image, pixels(1), texts).shape[:2] == (1, 2)
