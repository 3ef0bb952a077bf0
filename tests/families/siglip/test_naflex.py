"""SigLIP 2's NaFlex is transformers': pictures, vectors and files, of pictures of any shape."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

import diptych
from diptych import Encoder, models, pretrained
from diptych.checkpoints import convert, detect, load_image_tower, load_model
from diptych.config import ClipConfig, PreprocessConfig
from diptych.config.serialize import from_dict, to_dict
from diptych.errors import CheckpointError, ConfigError, DataWarning
from diptych.evaluation.engine import Engine
from diptych.families.siglip import NaflexImageConfig, SiglipTextConfig
from diptych.families.siglip.layouts.transformers import TABLE
from diptych.inputs import Preprocess
from diptych.inputs.native import native_grid, unpack
from diptych.models import heat
from diptych.models.heat import heat_maps
from diptych.objectives.teacher import Teacher
from diptych.weights.native import save_model
from tests import tiny

transformers = pytest.importorskip("transformers")

SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
VISION = SHAPE | {"num_patches": 25, "patch_size": 4, "num_attention_heads": 4}
TEXT = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 50,
    "max_position_embeddings": 8,
    "projection_size": 64,
}
SIZES = ((30, 30), (61, 20), (90, 13), (7, 5), (200, 151), (120, 3))
"""Width and height; some grow, some shrink; the last one has one row of patches."""
NORMAL = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(3)
    levels = [
        torch.randint(256, (h, w, 3), generator=generator, dtype=torch.uint8) for w, h in SIZES
    ]
    return [Image.fromarray(each.numpy()) for each in levels]


@pytest.fixture
def peer(randomise):
    config = transformers.Siglip2Config(text_config=TEXT, vision_config=VISION)
    return randomise(transformers.Siglip2Model(config)).eval()


def processor(patches):
    return transformers.Siglip2ImageProcessor(patch_size=4, max_num_patches=patches)


def preprocess(patches):
    how = PreprocessConfig(
        resize="native", interpolation="bilinear", patches=patches, patch_size=4, **NORMAL
    )
    return Preprocess(how, 20)


@pytest.mark.parametrize("patches", [1, 9, 25, 300])
def test_pictures_are_made_as_transformers_makes_them(pictures, patches):
    theirs = processor(patches)(images=pictures, return_tensors="pt")
    ours = torch.stack([*map(preprocess(patches), pictures)])
    column, grids = unpack(ours, 4)
    assert ours.shape == (len(pictures), 3, 4 * patches + 1, 4)
    assert grids.tolist() == theirs["spatial_shapes"].tolist()
    lengths = grids.prod(1)
    assert lengths.tolist() == theirs["pixel_attention_mask"].sum(1).tolist()
    # Theirs are [patches, y x channels] of each picture.
    rows = column.unflatten(2, (-1, 4)).permute(0, 2, 3, 4, 1).flatten(2)
    for mine, wanted, length in zip(rows, theirs["pixel_values"], lengths.tolist(), strict=True):
        torch.testing.assert_close(mine[:length], wanted[:length], atol=1e-6, rtol=0)


def test_a_side_is_rounded_up_to_whole_patches():
    # Of 2 : 1, 8 patches are 4 columns of 2 rows, and 7 hold 3 of 2; a budget of 1 is one patch.
    assert native_grid(10, 20, 5, 8) == (2, 4)
    assert native_grid(10, 20, 5, 7) == (2, 3)
    assert native_grid(4000, 3, 16, 1) == (1, 1)
    assert native_grid(2, 9000, 16, 700) == (1, 700)  # more than a byte holds
    grey = torch.zeros(3, 2, 9000, dtype=torch.uint8)
    assert unpack(preprocess(700)(grey)[None], 4)[1].tolist() == [[1, 700]]


@pytest.mark.parametrize("patches", [4, 25, 64])
def test_vectors_of_mixed_shapes_are_transformers(peer, tmp_path, pictures, patches):
    peer.save_pretrained(tmp_path)
    processor(patches).save_pretrained(tmp_path)
    assert detect(tmp_path) == "siglip-transformers"
    ours, meta = load_model(tmp_path)
    assert meta.config.preprocess == preprocess(patches).config
    assert meta.config.image == NaflexImageConfig(
        image_size=20, patch_size=4, width=64, layers=2, heads=4, mlp_width=96
    )
    packed = torch.stack([*map(preprocess(patches), pictures)])
    column, grids = unpack(packed, 4)
    rows = column.unflatten(2, (-1, 4)).permute(0, 2, 3, 4, 1).flatten(2)
    padded = torch.nn.functional.pad(rows, (0, 0, 0, patches - rows.shape[1]), value=7.0)
    mask = torch.arange(patches) < grids.prod(1)[:, None]
    ids = torch.randint(50, (2, 8), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        theirs = peer(
            input_ids=ids, pixel_values=padded, pixel_attention_mask=mask, spatial_shapes=grids
        )
        images, texts = ours(packed, ids)
        tokens = ours.image(packed, "normed").tokens
        logits = ours.logits(images, texts)
    torch.testing.assert_close(images, theirs.image_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(texts, theirs.text_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits, theirs.logits_per_image, atol=1e-4, rtol=1e-5)
    seen = mask[:, : tokens.shape[1]]
    wanted = theirs.vision_model_output.last_hidden_state[:, : tokens.shape[1]]
    torch.testing.assert_close(tokens[seen], wanted[seen], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("grid", [(1, 9), (9, 1), (3, 2), (11, 7), (5, 5)])
def test_positions_are_interpolated(grid):
    """One axis after the other: of both at once, torch's CPU kernel gives all rows of a single
    column the first one's numbers (2.10), which transformers has then, too."""
    config = NaflexImageConfig(image_size=20, patch_size=4, width=8, layers=0, heads=2, mlp_width=8)
    tower = models.build_tower(config, 8)
    tower.init()
    table = tower.positions.T.unflatten(1, (5, 5))[None]
    for size in ((grid[0], 5), grid):
        table = torch.nn.functional.interpolate(table, size, mode="bilinear", antialias=True)
    places = torch.arange(grid[0] * grid[1])
    [found] = tower._positions(torch.tensor([grid]), places)
    torch.testing.assert_close(found, table[0].flatten(1).T, atol=1e-6, rtol=1e-5)


@pytest.fixture
def ours(random_model):
    config = ClipConfig(
        image=NaflexImageConfig(
            image_size=20, patch_size=4, width=64, layers=2, heads=4, mlp_width=96
        ),
        text=SiglipTextConfig(
            context_length=8, vocab_size=50, width=48, layers=2, heads=4, mlp_width=80
        ),
        embed_dim=64,
        logit_bias=-10.0,
        preprocess=preprocess(25).config,
    )
    return random_model(config)


def test_a_pictures_vector_depends_on_no_other_in_its_batch(ours, pictures):
    encoder = Encoder(ours)
    together = encoder.embed_images(pictures, batch_size=4)
    alone = torch.cat([encoder.embed_images(picture) for picture in pictures])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3
    # Another budget is another view of the same picture, by the same weights.
    more = Encoder(ours, preprocess=preprocess(100)).embed_images(pictures)
    assert (more - together).abs().max() > 1e-3


def test_folders_are_written_for_transformers(ours, pictures, tmp_path):
    save_model(tmp_path / "native", ours)
    again, _ = load_model(tmp_path / "native")
    assert again.config == ours.config
    convert(tmp_path / "native", "transformers", tmp_path / "out")
    peer, report = transformers.Siglip2Model.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(report.values())
    made = transformers.Siglip2ImageProcessor.from_pretrained(tmp_path / "out")
    assert (made.max_num_patches, made.patch_size, made.resample) == (25, 4, 2)
    with torch.no_grad():
        given = made(images=pictures, return_tensors="pt")
        wanted = peer.eval().get_image_features(**given).pooler_output
    found = Encoder(ours).embed_images(pictures)
    wanted = torch.nn.functional.normalize(wanted, dim=-1)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_an_image_tower_alone(randomise, tmp_path, pictures):
    peer = randomise(transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(**VISION)))
    peer.eval().save_pretrained(tmp_path / "in")
    processor(9).save_pretrained(tmp_path / "in")
    encoder = diptych.load(tmp_path / "in")
    assert encoder.preprocess == preprocess(9)
    tower = load_image_tower(tmp_path / "in").tower
    given = processor(9)(images=pictures[:2], return_tensors="pt")
    packed = encoder.pixels(pictures[:2])
    with torch.no_grad():
        wanted = peer(**given).pooler_output
        found = tower(packed).pooled
    torch.testing.assert_close(found, encoder.model.encode_image(packed).detach())
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    convert(tmp_path / "in", "transformers", tmp_path / "out")
    again, report = transformers.Siglip2VisionModel.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(report.values())
    for name, tensor in again.state_dict().items():
        assert torch.equal(peer.state_dict()[name], tensor), name


def test_pictures_are_shown_in_their_own_aspect_alone(ours):
    encoder = Encoder(ours)
    with pytest.warns(DataWarning, match="so resize crop, squash isn't done"):
        assert list(Engine().extractors(encoder, ("crop", "squash"))) == ["native"]
    assert list(Engine().extractors(encoder)) == ["native"]
    squares = Encoder(models.build(pretrained.get("tiny")))
    with pytest.raises(ConfigError, match="takes squares: resize can't be 'native'"):
        Engine().extractors(squares, ("native",))


def test_another_budget_is_asked_for_when_it_is_loaded(ours, random_model, pictures, tmp_path):
    ours = random_model(replace(ours.config, text=pretrained.get("tiny").text))
    save_model(tmp_path / "m", ours)
    more = diptych.load(tmp_path / "m", "cpu", patches=100)
    assert more.preprocess == preprocess(100)
    wanted = Encoder(ours, preprocess=preprocess(100)).embed_images(pictures)
    torch.testing.assert_close(more.embed_images(pictures), wanted)
    # Vectors of two budgets don't belong into one index.
    assert more.identity != diptych.load(tmp_path / "m", "cpu").identity
    with pytest.raises(ConfigError, match=r"takes pictures of any size; patches= \(--patches\)"):
        diptych.load(tmp_path / "m", image_size=64)
    with pytest.raises(ConfigError, match="patches 0 must be a number from 1"):
        diptych.load(tmp_path / "m", patches=0)
    with pytest.raises(ConfigError, match=r"--patches 9\) .* this one takes squares"):
        diptych.load(tiny.save(tmp_path / "tiny"), patches=9)


def test_a_heat_map_lies_over_the_whole_picture(ours, pictures):
    """Where the grid is a square, the map's numbers are the patches' own; else it is resampled as a
    picture is."""
    encoder = Encoder(ours, preprocess=preprocess(100))
    square, wide, narrow = (Image.new("RGB", size) for size in ((60, 60), (61, 20), (1, 120)))
    for picture in (square, wide, narrow):
        picture.paste(pictures[4].resize(picture.size))
    pixels = encoder.pixels([square])
    own = ours.image.pool.read_each(ours.image(pixels, "normed").tokens)[0]
    texts = torch.nn.functional.normalize(own[[0, 57, 99]], dim=-1)
    maps = heat_maps(ours.image, pixels, texts)[0]
    assert maps.shape == (3, 10, 10)
    wanted = torch.nn.functional.normalize(own, dim=-1) @ texts.T
    torch.testing.assert_close(maps.flatten(1), wanted.T)
    pixels = encoder.pixels([wide, narrow])
    _, grids = unpack(pixels, 4)
    places = heat.patch_vectors(ours.image, pixels)
    own = ours.image.pool.read_each(ours.image(pixels, "normed").tokens)
    (rows, columns), (high, one) = grids.tolist()
    assert (rows < 10 < columns, high > 10, one) == (True, True, 1)
    wanted = torch.nn.functional.interpolate(
        own[:1, : rows * columns].mT.unflatten(2, (rows, columns)),
        (10, 10),
        mode="bilinear",
        antialias=True,
    )
    torch.testing.assert_close(places[:1], wanted.movedim(1, -1))
    torch.testing.assert_close(places[1], places[1, :, :1].expand_as(places[1]))
    shapes = [encoder.preprocess.seen(picture).shape for picture in (wide, narrow)]
    assert shapes == [(3, rows * 4, columns * 4), (3, high * 4, 4)]


def test_what_does_not_fit_is_said(ours, peer, tmp_path):
    with pytest.raises(ConfigError, match=r"preprocess.resize must be 'native' for a Naflex"):
        replace(ours.config, preprocess=PreprocessConfig())
    with pytest.raises(ConfigError, match=r"preprocess.resize can't be 'native' for a VitConfig"):
        replace(pretrained.get("tiny"), preprocess=ours.config.preprocess)
    with pytest.raises(ConfigError, match=r"pictures of \(20, 20\) pixels; .* patches of 4 x 4"):
        ours.encode_image(torch.zeros(1, 3, 20, 20))
    with pytest.raises(ConfigError, match="can't teach"):
        Teacher(ours)
    peer.save_pretrained(tmp_path)
    transformers.Siglip2ImageProcessor(patch_size=8).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="patches of 8 pixels; the tower's are of 4"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["siglip2-base-patch16-naflex", "siglip2-so400m-patch16-naflex"])
def test_published_models_have_transformers_names_and_shapes(name):
    config = pretrained.get(f"google/{name}")
    assert config == pretrained.get(name)
    assert from_dict(ClipConfig, to_dict(config)) == config
    image, text = config.image, config.text
    sizes = {
        "hidden_size": image.width,
        "intermediate_size": image.mlp_width,
        "num_hidden_layers": image.layers,
        "num_attention_heads": image.heads,
    }
    words = {"vocab_size": text.vocab_size, "projection_size": image.width}
    with torch.device("meta"):
        peer = transformers.Siglip2Model(
            transformers.Siglip2Config(vision_config=sizes, text_config=sizes | words)
        )
    foreign = TABLE.to_ours(peer.state_dict()).shapes
    ours = models.build(config, device="meta").state_dict()
    assert {n: t.shape for n, t in foreign.items()} == {n: t.shape for n, t in ours.items()}
