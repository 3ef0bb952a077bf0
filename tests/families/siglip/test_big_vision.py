"""The authors' own files of SigLIP: read as open_clip reads them, whole and in scanned blocks."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import diptych
from diptych import pretrained
from diptych.checkpoints import convert, detect, load_image_tower, load_model
from diptych.config.serialize import difference
from diptych.errors import CheckpointError
from diptych.families.siglip import NaflexImageConfig, SiglipImageConfig, SiglipTextConfig

WIDTH, HEADS, MLP, LAYERS, PATCH, SIDE, CONTEXT = 32, 4, 48, 2, 8, 4, 8
VOCABULARY = 32000
ATTENTION = "MultiHeadDotProductAttention_0"


def arrays() -> dict[str, np.ndarray]:
    """A file of a tiny SigLIP with random weights."""
    draw = np.random.default_rng(0)
    found = {"t": (1,), "b": (1,), "txt/Embed_0/embedding": (VOCABULARY, WIDTH)}
    found |= {"img/embedding/kernel": (PATCH, PATCH, 3, WIDTH), "img/embedding/bias": (WIDTH,)}
    found |= {"img/pos_embedding": (1, SIDE**2, WIDTH), "txt/pos_embedding": (1, CONTEXT, WIDTH)}
    found |= {"img/MAPHead_0/probe": (1, 1, WIDTH)} | linear("txt/head/", WIDTH, WIDTH)
    found |= norm("img/Transformer/encoder_norm/") | norm("txt/Encoder_0/encoder_norm/")
    found |= attention(f"img/MAPHead_0/{ATTENTION}/") | mlp("img/MAPHead_0/MlpBlock_0/")
    found |= norm("img/MAPHead_0/LayerNorm_0/")
    for blocks in ("img/Transformer/encoderblock", "txt/Encoder_0/encoderblock"):
        for i in range(LAYERS):
            block = f"{blocks}_{i}/"
            found |= attention(f"{block}{ATTENTION}/") | mlp(f"{block}MlpBlock_0/")
            found |= norm(f"{block}LayerNorm_0/") | norm(f"{block}LayerNorm_1/")
    return {
        name: draw.standard_normal(shape, dtype=np.float32) * 0.2 for name, shape in found.items()
    }


def linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}kernel": (inputs, outputs), f"{name}bias": (outputs,)}


def norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}scale": (WIDTH,), f"{name}bias": (WIDTH,)}


def mlp(name: str) -> dict[str, tuple[int, ...]]:
    return linear(f"{name}Dense_0/", WIDTH, MLP) | linear(f"{name}Dense_1/", MLP, WIDTH)


def attention(name: str) -> dict[str, tuple[int, ...]]:
    size = WIDTH // HEADS
    found: dict[str, tuple[int, ...]] = {}
    for part in ("query", "key", "value"):
        found |= {f"{name}{part}/kernel": (WIDTH, HEADS, size), f"{name}{part}/bias": (HEADS, size)}
    return found | {f"{name}out/kernel": (HEADS, size, WIDTH), f"{name}out/bias": (WIDTH,)}


def scanned(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With one array for all blocks."""
    found = {name: array for name, array in given.items() if "encoderblock_" not in name}
    for name in given:
        if "encoderblock_0/" in name:
            parts = [given[name.replace("block_0/", f"block_{i}/")] for i in range(LAYERS)]
            found[name.replace("block_0/", "block/")] = np.stack(parts)
    return found


def save(path, given: dict[str, np.ndarray], prefix: str = "params/") -> str:
    np.savez(path, **{f"{prefix}{name}": array for name, array in given.items()})
    return str(path)


@pytest.fixture
def pixels():
    side = PATCH * SIDE
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def ids():
    return torch.randint(VOCABULARY, (3, CONTEXT), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("prefix", ["params/", ""])
def test_a_file_is_computed_as_open_clip_computes_it(tmp_path, pixels, ids, prefix):
    convert = pytest.importorskip("open_clip.convert")
    vit = pytest.importorskip("timm.models.vision_transformer")
    path = save(tmp_path / "siglip.npz", arrays(), prefix)
    trunk = vit.VisionTransformer(
        img_size=PATCH * SIDE,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=LAYERS,
        num_heads=HEADS,
        mlp_ratio=MLP / WIDTH,
        num_classes=0,
        class_token=False,
        global_pool="map",
        act_layer="gelu_tanh",
    ).eval()
    text = convert.TextTransformer(
        context_length=CONTEXT,
        vocab_size=VOCABULARY,
        width=WIDTH,
        heads=HEADS,
        layers=LAYERS,
        mlp_ratio=MLP / WIDTH,
        output_dim=WIDTH,
        no_causal_mask=True,
        pool_type="last",
        proj_bias=True,
        act_layer=lambda: torch.nn.GELU("tanh"),
        norm_layer=lambda width: torch.nn.LayerNorm(width, eps=1e-6),
    ).eval()
    number = torch.zeros(())
    theirs = SimpleNamespace(visual=SimpleNamespace(trunk=trunk), text=text)
    theirs.logit_scale, theirs.logit_bias = number, number.clone()
    convert.load_big_vision_weights(theirs, path)
    ours, _ = load_model(path)
    with torch.no_grad():
        torch.testing.assert_close(ours.image(pixels).pooled, trunk(pixels), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.text(ids).pooled, text(ids), atol=1e-5, rtol=1e-5)
    assert (ours.logit_scale.item(), ours.logit_bias.item()) == (number.item(), theirs.logit_bias)


def test_blocks_stacked_in_one_array_are_the_same_blocks(tmp_path):
    given = arrays()
    one = load_model(save(tmp_path / "a.npz", given))[0]
    other = load_model(save(tmp_path / "b.npz", scanned(given)))[0]
    assert difference(one.config, other.config) == {}
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_bfloat16_which_numpy_has_not(tmp_path):
    given = arrays()
    halved = {
        name: torch.from_numpy(array).bfloat16().view(torch.int16).numpy().view("V2")
        for name, array in given.items()
    }
    model, _ = load_model(save(tmp_path / "half.npz", halved))
    wanted = torch.from_numpy(given["img/pos_embedding"][0]).bfloat16().float()
    assert torch.equal(model.image.positions.detach().float(), wanted)


def test_sizes_heads_and_tokenizer_are_told(tmp_path):
    path = save(tmp_path / "siglip.npz", arrays())
    assert detect(path) == "big-vision"
    model, meta = load_model(path)
    image, text = model.config.image, model.config.text
    assert isinstance(image, SiglipImageConfig)
    assert isinstance(text, SiglipTextConfig)
    assert (image.image_size, image.patch_size, image.layers) == (PATCH * SIDE, PATCH, LAYERS)
    assert (image.heads, text.heads, text.layers, text.context_length) == (4, 4, 2, CONTEXT)
    assert (image.activation, text.activation) == ("gelu_tanh", "gelu_tanh")
    assert model.config.tokenizer == pretrained.get("vit-b-16-siglip").tokenizer
    assert model.config.preprocess == pretrained.get("vit-b-16-siglip").preprocess
    assert "assumed" not in meta.provenance


def test_an_image_tower_alone_embeds(tmp_path):
    given = {name: array for name, array in arrays().items() if name.startswith("img/")}
    path = save(tmp_path / "tower.npz", given)
    assert load_image_tower(path)[0].config.heads == HEADS
    pictures = np.zeros((2, 32, 32, 3), np.uint8)
    assert diptych.load(path).embed_images(list(pictures)).shape == (2, WIDTH)


def test_naflex_is_computed_as_transformers_computes_it(tmp_path):
    """Its patches are vectors (rows, columns, channels), its positions a square of them."""
    transformers = pytest.importorskip("transformers")
    given = {name: array for name, array in arrays().items() if name.startswith("img/")}
    given["img/embedding/kernel"] = given["img/embedding/kernel"].reshape(-1, WIDTH)
    given["img/pos_embedding"] = given["img/pos_embedding"].reshape(SIDE, SIDE, WIDTH)
    path = save(tmp_path / "naflex.npz", given)
    meta = load_model(path).meta
    assert meta.config.image == NaflexImageConfig(
        image_size=PATCH * SIDE, patch_size=PATCH, width=WIDTH, layers=2, heads=4, mlp_width=MLP
    )
    how = meta.config.preprocess
    assert (how.resize, how.interpolation, how.patch_size) == ("native", "bilinear", PATCH)
    convert(path, "transformers", tmp_path / "out")
    peer = transformers.Siglip2VisionModel.from_pretrained(tmp_path / "out").eval()
    [weight] = [p for name, p in peer.named_parameters() if name.endswith("patch_embedding.weight")]
    assert np.array_equal(weight.detach().numpy(), given["img/embedding/kernel"].T)
    processor = transformers.Siglip2ImageProcessor(patch_size=PATCH, max_num_patches=9)
    encoder = diptych.load(path, patches=9)
    pictures = [np.full((40, 25, 3), 90, np.uint8), np.zeros((20, 70, 3), np.uint8)]
    with torch.no_grad():
        wanted = peer(**processor(images=pictures, return_tensors="pt")).pooler_output
    wanted = torch.nn.functional.normalize(wanted, dim=-1)
    torch.testing.assert_close(encoder.embed_images(pictures), wanted, atol=1e-5, rtol=0)


def test_what_is_no_siglip_is_refused_by_name(tmp_path):
    given = arrays()
    other = given | {"txt/Embed_0/embedding": np.zeros((50, WIDTH), np.float32)}
    with pytest.raises(CheckpointError, match="no published SigLIP has a vocabulary of 50"):
        load_model(save(tmp_path / "words.npz", other))
    with pytest.raises(CheckpointError, match="pickled Python objects, which are never"):
        load_model(save(tmp_path / "objects.npz", given | {"t": np.array([{}])}))
    with pytest.raises(CheckpointError, match="is damaged"):
        load_model(save(tmp_path / "names.npz", given | {"t": np.array(["t"])}))


def test_a_cut_file_is_damaged(tmp_path):
    path = tmp_path / "siglip.npz"
    save(path, arrays())
    content = path.read_bytes()
    for part in (0.2, 0.9):
        path.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(CheckpointError, match="is damaged"):
            load_model(path)
