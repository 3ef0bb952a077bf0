"""A conversion is proven before it is called done."""

from dataclasses import replace

import pytest
import torch

from diptych import models, pretrained
from diptych.checkpoints import convert, detect, load_model
from diptych.checkpoints.convert import targets
from diptych.config import ClipConfig
from diptych.config.serialize import override
from diptych.errors import AssumptionWarning, CheckpointError, UnknownNameError
from diptych.families.clip import TextConfig, VitConfig
from diptych.families.clip.layouts import open_clip
from diptych.weights.mapping import Table
from diptych.weights.native import save_model
from diptych.weights.read import read_weights
from tests.families.eva.small import MODELS

KNOWN = pretrained.get("vit-s-32-alt")
OF_SOME_TOWERS = (
    "openai",
    "eva",
    "declip",
    "unireplknet",
    "pe",
    "mobileclip",
    "timm",
    "mammut",
    "genlip",
)
OF_ANY_TOWERS = [to for to in targets() if to not in OF_SOME_TOWERS]


@pytest.mark.parametrize("first", OF_ANY_TOWERS)
@pytest.mark.parametrize("second", OF_ANY_TOWERS)
def test_any_to_any_is_bit_equal(first, second, tmp_path, random_model, vit):
    model = random_model(vit)
    save_model(tmp_path / "start", model)
    convert(tmp_path / "start", first, tmp_path / "first")
    convert(tmp_path / "first", second, tmp_path / "second")
    assert detect(tmp_path / "second") == second
    loaded, meta = load_model(tmp_path / "second")
    assert meta.config == replace(vit, logit_scale=meta.config.logit_scale)
    state = model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())


def test_eva_towers_go_through_every_layout_of_theirs(tmp_path, random_model):
    config = MODELS["eva02-b"]
    model = random_model(config)
    source = save_model(tmp_path / "start", model)
    for number, to in enumerate(("eva", "transformers", "native", "transformers", "eva")):
        source = convert(source, to, tmp_path / str(number), config=config)
    state = model.state_dict()
    loaded = load_model(source, config=config).model.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


QUICK = {"activation": "quick_gelu"}
OPENAI = ClipConfig(
    image=VitConfig(
        image_size=32, patch_size=8, width=128, layers=2, heads=2, mlp_width=512, **QUICK
    ),
    text=TextConfig(context_length=12, width=64, layers=2, heads=1, mlp_width=256, **QUICK),
    embed_dim=48,
)


def test_what_openais_loader_makes_of_a_file_is_the_model(tmp_path, random_model, example):
    """`build_model` of OpenAI's package, by its copy in open_clip: it reads the sizes alone."""
    openai = pytest.importorskip("open_clip.openai")
    model = random_model(OPENAI)
    path = convert(save_model(tmp_path / "in", model), "openai", tmp_path / "x.pt")
    assert load_model(path).config == OPENAI  # it says itself that it is OpenAI's
    theirs = openai.build_model_from_openai_state_dict(torch.load(path)).float()
    pixels, ids = example(OPENAI)
    with torch.inference_mode():
        for name, given in (("encode_image", pixels), ("encode_text", ids)):
            wanted, made = getattr(model, name)(given), getattr(theirs, name)(given)
            torch.testing.assert_close(made, wanted, atol=2e-3, rtol=2e-3)  # half precision


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ("image.activation=gelu", "image.activation quick_gelu instead of gelu"),
        ("text.activation=gelu", "text.activation quick_gelu instead of gelu"),
        ("image.heads=4", "image.heads 2 instead of 4"),
        ("text.heads=2", "text.heads 1 instead of 2"),
        ("preprocess.resize=squash", "preprocess.resize shortest instead of squash"),
        ("tokenizer.kind=huggingface", "tokenizer.kind clip instead of huggingface"),
        ("text.vocab_size=60", "text.vocab_size 49408 instead of 60"),
    ],
)
def test_what_openais_loader_would_compute_otherwise_is_refused(
    changed, named, tmp_path, random_model
):
    name, _, value = changed.partition("=")
    config = override(OPENAI, name, int(value) if value.isdigit() else value)
    save_model(tmp_path / "in", random_model(config))
    with pytest.raises(CheckpointError, match=named):
        convert(tmp_path / "in", "openai", tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()


def test_a_guess_is_refused_or_kept_in_the_provenance(tmp_path):
    """open_clip's ViT-S/32 with QuickGELU and with GELU are the same shapes."""
    model = models.build(KNOWN)
    torch.save(open_clip.export_table(KNOWN).to_foreign(model.state_dict()), tmp_path / "x.pt")
    with pytest.raises(
        CheckpointError, match="gelu, not quick_gelu; 6 heads .*give config= .*--accept-guess"
    ):
        convert(tmp_path / "x.pt", "native", tmp_path / "out")
    with pytest.warns(AssumptionWarning, match="assumed from its shapes: gelu, not quick_gelu; 6"):
        convert(tmp_path / "x.pt", "native", tmp_path / "out", accept_guess=True)
    assert load_model(tmp_path / "out").provenance["assumed"].startswith("gelu, not quick_gelu; 6")
    with pytest.warns(AssumptionWarning, match="x.pt doesn't say how it is built; .* give config="):
        assert load_model(tmp_path / "x.pt").config == KNOWN
    convert(tmp_path / "x.pt", "native", tmp_path / "said", config="ViT-S-32-alt")
    assert "assumed" not in load_model(tmp_path / "said").provenance


def test_other_towers_are_not_evas(tmp_path, random_model, vit):
    save_model(tmp_path / "in", random_model(vit))
    with pytest.raises(
        CheckpointError, match="can't be written as eva: the layout is that of EVA's towers"
    ):
        convert(tmp_path / "in", "eva", tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


def test_a_wrong_table_is_caught(tmp_path, random_model, vit, monkeypatch):
    save_model(tmp_path / "in", random_model(vit))
    rules = open_clip.export_table

    def swapped(config):
        """The two norms of each block change places."""
        first, *others = rules(config).rules
        names = {rule.ours: rule for rule in others}
        one, two = names["image.blocks.#.norm_1.*"], names["image.blocks.#.norm_2.*"]
        kept = [rule for rule in others if rule not in (one, two)]
        both = replace(one, ours=two.ours), replace(two, ours=one.ours)
        return Table(rules=(first, *kept, *both))

    monkeypatch.setattr(open_clip, "export_table", swapped)
    with pytest.raises(CheckpointError, match="same weights"):
        convert(tmp_path / "in", "open-clip", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_wrong_configuration_is_caught(tmp_path, random_model, vit, monkeypatch):
    save_model(tmp_path / "in", random_model(vit))
    written = open_clip.to_json

    def quick(config):
        content = written(config)
        content["model_cfg"]["quick_gelu"] = True
        return content

    monkeypatch.setattr(open_clip, "to_json", quick)
    with pytest.raises(CheckpointError, match="same features"):
        convert(tmp_path / "in", "open-clip", tmp_path / "out")


def test_what_cannot_be_asked(tmp_path, random_model, vit):
    save_model(tmp_path / "in", random_model(vit))
    with pytest.raises(UnknownNameError, match="did you mean 'open-clip'"):
        convert(tmp_path / "in", "openclip", tmp_path / "out")
    with pytest.raises(CheckpointError, match="exists"):
        convert(tmp_path / "in", "open-clip", tmp_path / "in")


def test_the_dtype_is_kept(tmp_path, random_model, vit):
    save_model(tmp_path / "in", random_model(vit).to(torch.bfloat16))
    convert(tmp_path / "in", "transformers", tmp_path / "out")
    tensors, *_ = read_weights(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
