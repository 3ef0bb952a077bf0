"""What names and `pretrained` mean: never random weights without a word."""

import json
import shutil
import warnings
from dataclasses import replace

import pytest
import torch
from PIL import Image

import diptych
from diptych import compat, models, pretrained
from diptych.checkpoints import convert
from diptych.compat import clip
from diptych.compat.loading.activations import with_activation
from diptych.errors import (
    AssumptionWarning,
    CheckpointError,
    DownloadError,
    MissingError,
    RandomWeightsWarning,
    UnknownNameError,
)
from diptych.families.clip.layouts import open_clip
from diptych.families.clip.layouts.open_clip_config import from_json
from diptych.weights import save_model
from tests.compat.peers import KINDS

SQUASH = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash", "interpolation": "bilinear"}


def model_of(kind: str, **changes) -> models.Clip:
    torch.manual_seed(3)
    content = {"model_cfg": KINDS[kind] | changes, "preprocess_cfg": SQUASH}
    return models.build(from_json(content)).eval()


@pytest.fixture
def folder(tmp_path):
    """An open_clip folder: quick_gelu, heads of 32 channels, squashed pictures of mean 0.5."""
    native = save_model(tmp_path / "native", model_of("quick"))
    return convert(native, "open-clip", tmp_path / "folder")


@pytest.fixture
def picture():
    levels = torch.randint(0, 256, (40, 90, 3), generator=torch.Generator().manual_seed(0))
    return Image.fromarray(levels.to(torch.uint8).numpy())


def vectors(model, preprocess, picture, tokenizer) -> list[torch.Tensor]:
    with torch.no_grad():
        image, text = preprocess(picture)[None], tokenizer(["a cat", "two dogs"])
        return [model.encode_image(image, normalize=True), model.encode_text(text, normalize=True)]


@pytest.mark.parametrize("spelling", ["local-dir:{}", "{}", "{}/open_clip_model.safetensors"])
def test_a_place_as_the_models_name_loads_as_diptych_load_reads_it(folder, picture, spelling):
    name = spelling.format(folder)
    model, _, preprocess = compat.create_model_and_transforms(name)
    found = vectors(model, preprocess, picture, compat.get_tokenizer(name))
    encoder = diptych.load(folder)
    torch.testing.assert_close(found[0], encoder.embed_images(picture))
    torch.testing.assert_close(found[1], encoder.embed_texts(["a cat", "two dogs"]))
    assert compat.get_tokenizer(name).context_length == 77


@torch.no_grad()
def test_local_dir_equals_open_clips(folder, picture, quiet):
    open_clip = pytest.importorskip("open_clip")
    name = f"local-dir:{folder}"
    mine = compat.create_model_and_transforms(name)
    theirs = open_clip.create_model_and_transforms(name)
    pixels = theirs[2](picture)[None]
    torch.testing.assert_close(mine[2](picture)[None], pixels, rtol=0, atol=2.1 / 255 / 0.5)
    torch.testing.assert_close(
        mine[0].encode_image(pixels), theirs[0].encode_image(pixels), rtol=1e-5, atol=1e-5
    )
    for passed_over in (mine, theirs):
        assert passed_over[0].visual(pixels).shape == (1, 24)


def test_no_name_is_no_place():
    assert isinstance(compat.get_tokenizer(), compat.SimpleTokenizer)
    assert compat.get_model_config("") is None
    for create in (compat.create_model, compat.clip.load):
        with pytest.raises(UnknownNameError):
            create("")


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("local-dir:", ValueError),
        ("hf-hub:", ValueError),
        ("local-dir:nowhere", FileNotFoundError),
        ("local-dir:empty", FileNotFoundError),
        ("local-dir:bad", ValueError),
    ],
)
def test_errors_are_of_the_kind_that_open_clips_are(place, kind, tmp_path, monkeypatch):
    open_clip = pytest.importorskip("open_clip")
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "bad"):
        (tmp_path / name).mkdir()
    (tmp_path / "bad" / "open_clip_config.json").write_text("{")
    for package in (open_clip, compat):
        for function in (package.create_model, package.get_tokenizer):
            with pytest.raises(kind):
                function(place)


def test_a_description_alone_is_a_model_of_random_weights(folder):
    open_clip = pytest.importorskip("open_clip")
    file = folder / "open_clip_config.json"
    said = json.loads(file.read_text())
    said["model_cfg"]["custom_text"] = True
    file.write_text(json.dumps(said))
    (folder / "open_clip_model.safetensors").unlink()
    name = f"local-dir:{folder}"
    with pytest.warns(RandomWeightsWarning):
        made = compat.create_model(name)
    assert made.state_dict().keys() == open_clip.create_model(name).state_dict().keys()
    assert compat.create_model(name, load_weights=False).state_dict().keys() == (
        made.state_dict().keys()
    )
    for package in (open_clip, compat):
        with pytest.raises(RuntimeError):
            package.create_model_from_pretrained(name)


def test_custom_text_of_a_folder_counts(folder):
    file = folder / "open_clip_config.json"
    said = json.loads(file.read_text())
    assert type(compat.create_model(f"local-dir:{folder}")) is compat.CLIP
    said["model_cfg"]["custom_text"] = True
    file.write_text(json.dumps(said))
    model = compat.create_model(f"local-dir:{folder}")
    assert isinstance(model, compat.CustomTextCLIP)
    assert "text.positional_embedding" in model.state_dict()


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:timm/vit_base_patch32_clip_224.openai",
        "hf-hub:somebody/unheard-of",
        "EVA02_CLIP_B_psz16_s8B.pt",
        "timm/vit_base_patch32_clip_224.openai",
        "EVA02-B-16/merged2b_s8b_b131k",
        "ViT-B-32/laion2b_s34b_b79k",
    ],
)
def test_names_of_weights_load_or_raise(name, monkeypatch, tmp_path):
    """Offline, and not in the cache: no model comes back, neither random nor another."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for create in (compat.create_model, compat.create_model_from_pretrained):
        with pytest.raises(DownloadError, match="was not fetched before"):
            create(name, cache_dir=tmp_path)


def test_what_the_hub_gives_is_kept_where_it_is_said(folder, monkeypatch, tmp_path):
    asked = []

    def fetch(name, cache_dir=None, **_):
        asked.append(cache_dir)
        return folder.joinpath(*name.split("/")[2:])

    monkeypatch.setattr("diptych.checkpoints.locate.fetch", fetch)
    compat.create_model("hf-hub:me/mine", cache_dir=tmp_path)
    compat.get_tokenizer("hf-hub:me/mine", cache_dir=tmp_path)
    assert len(asked) >= 2
    assert set(asked) == {tmp_path}


def test_what_needs_no_weights_is_read_without_them(folder, monkeypatch):
    """Of a folder that holds none, and of the hub, from which none are fetched."""
    asked = []

    def fetch(name, **_):
        asked.append(name)
        return folder.joinpath(*name.removesuffix("@v1").split("/")[2:])

    monkeypatch.setattr("diptych.checkpoints.locate.fetch", fetch)
    for file in folder.glob("open_clip_model*"):
        file.unlink()
    named = ("hf-hub:me/mine", "hf-hub:me/mine@v1", "hf-hub:me/mine/weights.bin")
    for name in (f"local-dir:{folder}", *named):
        assert compat.get_tokenizer(name).context_length == 77
        assert compat.get_model_config(name)["embed_dim"] == 24
        model = compat.create_model(name, load_weights=False)
        assert model.visual(torch.zeros(1, 3, 32, 32)).shape == (1, 24)
    described = "hf-hub:me/mine/open_clip_config.json"
    assert set(asked) == {described, f"{described}@v1"}


def test_without_weights_a_model_is_random_and_a_warning_says_so():
    """Twice the same call gives two models: open_clip warns of it, and so do we."""
    with pytest.warns(RandomWeightsWarning, match="tiny: it is initialised randomly"):
        first = compat.create_model("tiny")
    with pytest.warns(RandomWeightsWarning):
        second = compat.create_model_and_transforms("tiny", pretrained="")[0]
    pixels = torch.zeros(1, 3, 48, 48)
    with torch.no_grad():
        assert not torch.equal(first.encode_image(pixels), second.encode_image(pixels))
    with pytest.raises(MissingError, match="no weights were given for tiny; say pretrained="):
        compat.create_model("tiny", require_pretrained=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compat.create_model("tiny", load_weights=False)


def named(tmp_path, monkeypatch) -> str:
    """The named architecture: GELU, heads of 64 channels, CLIP's preprocessing."""
    content = KINDS["vit"] | {"vision_cfg": KINDS["vit"]["vision_cfg"] | {"head_width": 64}}
    (tmp_path / "named.json").write_text(json.dumps(content))
    return str(tmp_path / "named.json")


def test_what_stands_beside_weights_wins_over_the_named_architecture(
    folder, picture, tmp_path, monkeypatch
):
    name = named(tmp_path, monkeypatch)
    expected = diptych.load(folder).embed_images(picture)
    for place in (folder, folder / "open_clip_model.safetensors", f"local-dir:{folder}"):
        with pytest.warns(AssumptionWarning) as said:
            model, _, preprocess = compat.create_model_and_transforms(name, pretrained=place)
        found = vectors(model, preprocess, picture, compat.get_tokenizer(name))[0]
        torch.testing.assert_close(found, expected)
        [message] = [str(each.message) for each in said]
        assert "image.heads is 2 there and 1 in" in message
        assert "preprocess.resize is 'squash' there and 'shortest' in" in message
        assert "text.activation is 'quick_gelu' there and 'gelu' in" in message
    bare = shutil.copy(folder / "open_clip_model.safetensors", tmp_path / "bare.safetensors")
    assert compat.create_model(name, pretrained=bare).config.image.heads == 1  # nothing says else
    with pytest.warns(AssumptionWarning):
        forced = compat.create_model(name, folder, image_mean=(0.1,) * 3, force_image_size=64)
    assert forced.config.preprocess.mean == (0.1,) * 3
    assert forced.visual.image_size == (64, 64)


def test_a_transformers_folder_says_its_activation(tmp_path, monkeypatch):
    native = save_model(
        tmp_path / "native", models.build(from_json({"model_cfg": KINDS["quick"]})).eval()
    )
    folder = convert(native, "transformers", tmp_path / "folder")
    with pytest.warns(AssumptionWarning, match="image.activation is 'quick_gelu' there"):
        model = compat.create_model(named(tmp_path, monkeypatch), pretrained=folder)
    assert model.config.text.activation == "quick_gelu"


def test_a_broken_description_is_not_passed_over(folder, tmp_path, monkeypatch):
    (folder / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 24}}')
    with pytest.raises(CheckpointError, match="the configuration has no 'vision_cfg'"):
        compat.create_model(named(tmp_path, monkeypatch), pretrained=folder)


@pytest.mark.parametrize(
    ("name", "tag", "said"),
    [
        ("local-dir:/nowhere", None, "there is no folder /nowhere"),
        ("local-dir:vit-b-32-openai", None, "there is no folder vit-b-32-openai"),
        ("weights.pt", None, "there is no file or folder weights.pt"),
        ("ViT-B-32", "weights.pt", "there is no file or folder weights.pt"),
        ("ViT-B-32", "/nowhere/x", "there is no file or folder /nowhere/x"),
        ("ViT-B-32", "open_clip_config.json", "holds no weights; give it as the model's name"),
        ("https://huggingface.co/me/my-clip", None, "is an address; .*hf-hub:org/name"),
    ],
)
def test_what_is_not_there_is_said(name, tag, said):
    for create in (compat.create_model, compat.create_model_from_pretrained):
        with pytest.raises((CheckpointError, UnknownNameError), match=said):
            create(name, tag)


@pytest.mark.parametrize("name", ["NoSuchNet-S", "ViT-B-32/winter"])
def test_a_name_that_nothing_has_raises_what_open_clip_and_openai_raise(name):
    for create in (compat.create_model, compat.clip.load):
        with pytest.raises(RuntimeError, match=" is called "):
            create(name)


@pytest.mark.parametrize(
    ("name", "tag", "kind"),
    [
        ("ViT-B-32", "./absent.pt", RuntimeError),
        ("local-dir:./absent", None, FileNotFoundError),
    ],
)
def test_absent_weights_raise_what_open_clip_raises(name, tag, kind):
    for made in (compat, pytest.importorskip("open_clip")):
        with pytest.raises(kind):
            made.create_model(name, tag)


def test_pretrained_beside_a_place_is_said(folder):
    with pytest.warns(AssumptionWarning, match="pretrained='openai' is passed over"):
        compat.create_model(f"local-dir:{folder}", pretrained="openai")


def test_tags_of_open_clip_are_repositories_of_the_hub():
    open_clip = pytest.importorskip("open_clip")
    from diptych.families.clip.hub import repositories

    found = dict(repositories())
    for label, weights in found.items():
        known = open_clip.pretrained.get_pretrained_cfg(*label.split("/"))
        assert known["hf_hub"].rstrip("/") == weights.repo
    models = {label.split("/")[0] for label in found}
    labels = {f"{model}/{tag}" for model, tag in open_clip.list_pretrained() if model in models}
    assert {label for label in labels - found.keys() if not label.endswith("/openai")} == set()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ViT-B-32/winter", "no tag of ViT-B-32 is called 'winter'; known are .*openai"),
        ("me/my-clip", "a repository of the hub is written hf-hub:me/my-clip"),
        ("NoSuchNet-S", "`diptych models` lists those that are known"),
        ("convnext_base/winter", "no tag of convnext_base .*known are laion400m_s13b_b51k"),
    ],
)
def test_no_other_model_is_suggested_for_weights(name, said):
    with pytest.raises(UnknownNameError, match=said) as error:
        pretrained.get(name)
    assert "did you mean" not in str(error.value)


def test_clip_load(folder, picture, tmp_path, monkeypatch):
    """OpenAI's spelling: names, paths; the forward pass gives logits."""
    model, preprocess = clip.load(str(folder), device="cpu", jit=False)
    pixels, ids = preprocess(picture)[None], clip.tokenize(["a cat", "two dogs"])
    with torch.no_grad():
        logits, transposed = model(pixels, ids)
    encoder = diptych.load(folder)
    expected = encoder.embed_images(picture) @ encoder.embed_texts(["a cat", "two dogs"]).T
    scale = encoder.model.logit_scale.exp().item()
    torch.testing.assert_close(logits, scale * expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(logits.T, transposed)
    assert model.visual.input_resolution == 32
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="vit_base_patch32_clip_224.openai"):
        clip.load("ViT-B/32", device="cpu", download_root=tmp_path)
    with pytest.raises(UnknownNameError):
        clip.load("ViT-B/31")
    with pytest.raises(CheckpointError, match="there is no file or folder /nowhere/x.pt"):
        clip.load("/nowhere/x.pt")


def test_openais_files_have_quick_gelu(tmp_path):
    """A state dict alone doesn't say it; OpenAI's own code never computes anything else."""
    known = pretrained.get("vit-s-32-alt")
    state = models.build(known).state_dict()
    torch.save(open_clip.export_table(known).to_foreign(state), tmp_path / "bare.pt")
    model, _ = clip.load(tmp_path / "bare.pt", device="cpu")
    assert model.config.text.activation == model.config.image.activation == "quick_gelu"


def test_openais_rule_reads_sizes_that_nobody_published(tmp_path, vit, random_model):
    """Heads of 64 channels: OpenAI's loader takes a state dict of any size."""
    vit = replace(vit, text=replace(vit.text, vocab_size=49408, context_length=77))
    own = random_model(vit)
    file = tmp_path / "small.pt"
    torch.save(open_clip.export_table(vit).to_foreign(own.state_dict()), file)
    own = with_activation(own.config, "quick_gelu")
    for model in (clip.load(file, device="cpu")[0], compat.load_openai_model(file, device="cpu")):
        assert (model.config.image.heads, model.config.text.heads) == (2, 1)
        assert (model.config.image, model.config.text) == (own.image, own.text)
    torch.save({"a": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="in no layout that Diptych knows"):
        clip.load(tmp_path / "other.pt", device="cpu")
