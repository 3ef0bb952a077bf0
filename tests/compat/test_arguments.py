"""Arguments of the factories, and functions on models and state dicts, beside open_clip's."""

import copy
import json
import warnings

import open_clip
import pytest
import torch

from diptych import compat
from diptych.compat import clip
from diptych.errors import AssumptionWarning, CheckpointError, ConfigError, UnknownNameError
from diptych.nn import QueryPool
from tests.compat.peers import KINDS, TEXT, VIT, ours_of, peer_of

PIXELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
IDS = compat.tokenize(["a cat", "two dogs", "a diagram of it"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of open_clip's, as it saves them."""
    path = tmp_path_factory.mktemp("vit")
    torch.save(peer_of("vit").state_dict(), path / "open_clip_pytorch_model.bin")
    cfg = {"model_cfg": KINDS["vit"], "preprocess_cfg": {}}
    (path / "open_clip_config.json").write_text(json.dumps(cfg))
    return path


def same(ours, theirs, ids=IDS, pixels=PIXELS):
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_image(pixels), theirs.encode_image(pixels))
        torch.testing.assert_close(ours.encode_text(ids), theirs.encode_text(ids))


@pytest.mark.parametrize("length", [32, 100])
def test_texts_of_another_length(folder, length):
    name = f"local-dir:{folder}"
    ours = compat.create_model(name, force_context_length=length)
    theirs = open_clip.create_model(name, force_context_length=length).eval()
    ids = compat.get_tokenizer(name)(["a cat", "two dogs"], context_length=length)
    same(ours, theirs, ids)
    assert ours.context_length == ours.config.text.context_length == length
    fresh = compat.create_model(name, load_weights=False, force_context_length=length)
    assert fresh.positional_embedding.shape == (length, 64)
    with pytest.raises(ConfigError, match="context_length"):
        compat.create_model(name, force_context_length=0)


def test_scale_and_bias_start_elsewhere(folder):
    name = f"local-dir:{folder}"
    said = {"init_logit_scale": 1.5, "init_logit_bias": -10.0}
    fresh = compat.create_model(name, load_weights=False, nonscalar_logit_scale=True, **said)
    assert fresh.logit_scale.item() == 1.5
    assert fresh.logit_bias.item() == -10.0
    assert fresh.logit_scale.shape == fresh.logit_bias.shape == (1,)
    ours, theirs = (each.create_model(name, **said) for each in (compat, open_clip))
    assert ours.logit_scale.item() == theirs.logit_scale.item()
    assert ours.logit_bias.item() == theirs.logit_bias.item() == 0
    same(ours, theirs.eval())
    torch.testing.assert_close(ours.get_logits(PIXELS, IDS), theirs.get_logits(PIXELS, IDS))


def test_sections_take_the_place_of_the_models_own(folder):
    name, vision = f"local-dir:{folder}", VIT | {"layers": 1}
    options = {"load_weights": False, "vision_cfg": vision, "text_cfg": TEXT | {"heads": 4}}
    ours, theirs = (each.create_model(name, **options) for each in (compat, open_clip))
    ours.load_state_dict(theirs.state_dict())
    same(ours, theirs.eval())
    classes = {"vision_cfg": compat.CLIPVisionCfg(**vision), "embed_dim": 8, "quick_gelu": True}
    other = compat.create_model(name, load_weights=False, **classes)
    assert other.config.text.activation == other.config.image.activation == "quick_gelu"
    assert other.encode_image(PIXELS).shape == (3, 8)
    # Weights are read by what is asked for: heads leave no trace in them.
    wide = VIT | {"head_width": 64}
    pair = [each.create_model(name, vision_cfg=wide) for each in (compat, open_clip)]
    same(pair[0], pair[1].eval())


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"vision_cfg": {"layer": 3}}, UnknownNameError, "field of vision_cfg.*'layers'"),
        ({"vision_cfg": 3}, ConfigError, "vision_cfg must be a dictionary"),
        ({"text_cfg": {"qk_norm": True}}, CheckpointError, "qk_norm"),
        ({"embed_dim": 8}, CheckpointError, "8"),
        ({"init_logit_scale": "x", "load_weights": False}, ConfigError, "init_logit_scale='x'"),
        ({"use_bnb": True}, ConfigError, "use_bnb=True has no counterpart"),
    ],
)
def test_what_does_not_fit_is_said(folder, options, error, said):
    with pytest.raises(error, match=said):
        compat.create_model(f"local-dir:{folder}", **options)


def test_a_bare_file_follows_the_arguments(folder):
    """It doesn't say its activation, so what is asked for counts, not its shapes alone."""
    state = torch.load(folder / "open_clip_pytorch_model.bin")
    torch.save(state, folder.parent / "bare.pt")
    (folder.parent / "vit.json").write_text(json.dumps(KINDS["quick"]))
    made = compat.create_model(folder.parent / "vit.json", folder.parent / "bare.pt")
    peer = peer_of("quick")
    peer.load_state_dict(state)
    same(made, peer)


def test_names_that_stay_as_they_were(folder):
    name = f"local-dir:{folder}"
    options = {"pretrained_image": folder, "pretrained_text": folder, "load_weights": False}
    torch.manual_seed(0)
    fresh = compat.create_model(name, load_weights=False).state_dict()
    torch.manual_seed(0)
    skipped = ("visual.proj", "token_embedding.weight")
    made = compat.create_model(name, skip_list=skipped, **options).state_dict()
    for key, tensor in torch.load(folder / "open_clip_pytorch_model.bin").items():
        if key != "logit_scale":
            assert torch.equal(made[key], fresh[key] if key in skipped else tensor), key
    with pytest.warns(AssumptionWarning, match=r"nothing called visual\.prj"):
        compat.create_model(name, skip_list=["visual.prj", "proj"], **options)
    with pytest.raises(ConfigError, match="skip_list is of pretrained_image"):
        compat.create_model(name, skip_list="proj")


def test_towers_of_libraries_are_not_fetched(tmp_path, folder):
    (tmp_path / "timm.json").write_text(json.dumps(KINDS["timm"]))
    with pytest.raises(ConfigError, match="pretrained_image must be the path"):
        compat.create_model(tmp_path / "timm.json", pretrained_image=True, load_weights=False)
    # open_clip's own towers have no such weights: True, its own default, means nothing there.
    compat.create_model(f"local-dir:{folder}", pretrained_text=True, pretrained_image=True)


def test_a_trace_is_the_model():
    model = ours_of("vit")
    traced = compat.trace_model(model, batch_size=2)
    with torch.no_grad():
        torch.testing.assert_close(traced(PIXELS, IDS), model(PIXELS, IDS))
    same(traced, model)
    assert traced.visual.image_size == (32, 32)


def test_a_trace_of_captions_and_of_a_query_pool_takes_other_batches():
    vision = VIT | {"attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True}
    text = TEXT | {"context_length": 9, "embed_cls": True, "output_tokens": True}
    written = TEXT | {"context_length": 9, "attn_pooler_heads": 2}
    model = compat.CoCa(64, written, text, vision).eval()
    traced, ids = compat.trace_model(model, batch_size=2), IDS[:, :9]
    with torch.no_grad():
        found, wanted = traced(PIXELS, ids), model(PIXELS, ids)
    torch.testing.assert_close(found["logits"], wanted["logits"])
    pool = QueryPool(width=16, heads=2, mlp_width=32, activation="gelu", eps=1e-6).eval()
    torch.nn.init.normal_(pool.query)
    with warnings.catch_warnings(action="ignore"):  # that TorchScript is deprecated
        once = torch.jit.trace(pool, torch.randn(2, 5, 16), check_trace=False)
    tokens = torch.randn(3, 5, 16)
    torch.testing.assert_close(once(tokens), pool(tokens))


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:FutureWarning")
def test_jit_gives_a_trace(folder, tmp_path):
    name = f"local-dir:{folder}"
    model, _, preprocess = compat.create_model_and_transforms(name, jit=True)
    assert isinstance(model, torch.jit.ScriptModule)
    assert preprocess.transforms
    model.save(str(tmp_path / "traced.pt"))
    same(torch.jit.load(str(tmp_path / "traced.pt")), compat.create_model(name))
    logits, _ = clip.load(folder, "cpu", jit=True)[0](PIXELS, IDS)
    torch.testing.assert_close(logits, clip.load(folder, "cpu")[0](PIXELS, IDS)[0])


@pytest.mark.parametrize("kind", ["vit", "timm"])
def test_low_precision(kind):
    ours, theirs = ours_of(kind), peer_of(kind)
    ours.load_state_dict(theirs.state_dict())
    compat.convert_weights_to_fp16(ours, torch.bfloat16)
    open_clip.convert_weights_to_lp(theirs, torch.bfloat16)
    wanted = {name: tensor.dtype for name, tensor in theirs.state_dict().items()}
    found = {name: tensor.dtype for name, tensor in ours.state_dict().items()}
    if kind == "vit":
        assert found == wanted
    pixels = torch.randn(2, 3, *ours.visual.image_size)
    with torch.no_grad():
        low = ours.encode_image(pixels, True).float()
        ours.float()
        torch.testing.assert_close(low, ours.encode_image(pixels, True), atol=0.03, rtol=0)
    for precision in ("fp32", "fp16", "bf16", "pure_fp16", "pure_bf16", "amp", None, ""):
        assert compat.get_cast_dtype(precision) == open_clip.get_cast_dtype(precision)
        assert compat.get_input_dtype(precision) == open_clip.get_input_dtype(precision)


def test_tables_of_positions():
    larger = copy.deepcopy(KINDS["vit"])
    larger["vision_cfg"]["image_size"] = 48
    larger["text_cfg"]["context_length"] = 90
    state, model = peer_of("vit").state_dict(), open_clip.CLIP(**larger)
    for options in ({}, {"interpolation": "bilinear"}):
        ours, theirs = dict(state), dict(state)
        compat.resize_pos_embed(ours, model, **options)
        open_clip.model.resize_pos_embed(theirs, model, **options)
        compat.resize_text_pos_embed(ours, model)
        open_clip.model.resize_text_pos_embed(theirs, model)
        for name, tensor in theirs.items():
            torch.testing.assert_close(ours[name], tensor)
    assert len(ours["positional_embedding"]) == 90
    assert len(ours["visual.positional_embedding"]) == 37
    with pytest.raises(CheckpointError, match="no class token and a square|not a class token"):
        compat.resize_pos_embed({"visual.positional_embedding": torch.zeros(12, 64)}, model)
    with pytest.raises(CheckpointError, match="8 wide, and the model's is 64"):
        compat.resize_text_pos_embed({"positional_embedding": torch.zeros(12, 8)}, model)


def test_a_checkpoint_of_shorter_texts_and_without_bias(tmp_path):
    torch.save(peer_of("vit").state_dict(), tmp_path / "peer.pt")
    cfg = copy.deepcopy(KINDS["bias"])
    cfg["text_cfg"]["context_length"] = 90
    theirs, ours = open_clip.CLIP(**cfg), compat.CLIP(**cfg)
    compat.load_checkpoint(ours, tmp_path / "peer.pt")
    open_clip.load_checkpoint(theirs, str(tmp_path / "peer.pt"))
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor)


def test_openais_weights(folder, tmp_path):
    state = torch.load(folder / "open_clip_pytorch_model.bin")
    torch.save(state, tmp_path / "bare.pt")
    with pytest.raises(UnknownNameError, match="model of OpenAI's"):
        compat.load_openai_model("ViT-H-14")
    state = compat.factory.load_state_dict(tmp_path / "bare.pt")
    assert state.keys() == peer_of("vit").state_dict().keys()
