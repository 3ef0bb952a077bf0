"""CoCa and MaMMUT over pictures of their own aspect, and MaMMUT of modern texts, as open_clip's
main branch has them: its classes, names and parts, and Diptych's numbers."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diptych import compat
from diptych.compat.coca_model import MultimodalCfg
from diptych.compat.model_traits import InputMode, get_model_traits, traits_from_config
from diptych.compat.push_to_hf_hub import save_for_hf
from diptych.compat.transformer import ModernMultimodalDecoder, ModernMultimodalTransformer
from diptych.errors import AssumptionWarning, ConfigError
from diptych.families.clip.layouts.open_clip_config import to_json

PATCH, CONTEXT = 4, 8
VISION = {
    "timm_model_name": "naflexvit_base_patch16_gap",
    "timm_model_kwargs": {"embed_dim": 32, "depth": 1, "num_heads": 2, "patch_size": PATCH},
    "image_size": 16,
    "output_tokens": True,
}
POOLS = {"attentional_pool": "cascade", "attn_pooler_queries": 5, "attn_pooler_heads": 2}
TEXT = {"context_length": CONTEXT, "vocab_size": 40, "width": 24, "heads": 2, "layers": 2}
MODERN = TEXT | {"text_arch": "modern", "attn_gated": True, "bos_id": 1, "eos_id": 2}
IDS = torch.tensor([[1, 5, 7, 9, 2, 0, 0, 0], [1, 3, 9, 4, 8, 6, 7, 2]])


def coca(pool="cascade", **options):
    torch.manual_seed(0)
    vision = VISION | POOLS | {"attentional_pool": pool} | options
    text = TEXT | {"embed_cls": True, "output_tokens": True}
    return compat.CoCa(24, TEXT, text, vision).eval()


def mammut(text=TEXT):
    torch.manual_seed(0)
    return compat.MaMMUT(24, text, VISION).eval()


MODELS = {
    "coca, cascade": coca,
    "coca, parallel": lambda: coca("parallel"),
    "mammut": mammut,
    "mammut, modern": lambda: mammut(MODERN | {"cross_attn_ratio": 2, "value_residual": True}),
}


def patches(behind=0):
    """Two pictures of 3 x 2 patches; behind them so many that aren't there."""
    values = torch.randn(2, 6, PATCH**2 * 3, generator=torch.Generator().manual_seed(2))
    places = torch.arange(6)
    places = torch.stack((places // 2, places % 2), 1).expand(2, -1, -1)
    return {
        "patches": F.pad(values, (0, 0, 0, behind)),
        "patch_coord": F.pad(places, (0, 0, 0, behind)),
        "patch_valid": F.pad(torch.ones(2, 6, dtype=torch.bool), (0, behind)),
    }


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_diptychs_whatever_fills_rows_up(name):
    model = MODELS[name]()
    assert get_model_traits(model).image_input is InputMode.NAFLEX
    with torch.no_grad():
        found, clip = model(patches(3), IDS), model.clip
        pixels = model.pixels(patches())
        images, texts = clip(pixels, IDS)
        logits = clip.next_tokens(IDS, clip.read_pictures(pixels))
        torch.testing.assert_close(found["image_features"], images, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found["text_features"], texts, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found["logits"], logits, atol=1e-5, rtol=1e-5)
        again = type(model).of(clip).eval()
        assert torch.equal(again(patches(3), IDS)["logits"], found["logits"])
        squares = torch.randn(2, 3, 16, 12)
        assert model.encode_image(squares).shape == (2, 24)
        captions = model.generate(patches(2), seq_len=6, sot_token_id=1, eos_token_id=2)
    assert captions.shape[0] == 2


@pytest.mark.parametrize("name", MODELS)
def test_names_are_open_clips_and_every_parameter_is_trained(name):
    model = MODELS[name]().train()
    state = model.state_dict()
    assert set(dict(model.named_parameters())) == set(state)
    other = MODELS[name]()
    other.load_state_dict({key: value + 1 for key, value in state.items()})
    assert all(torch.equal(v, state[key] + 1) for key, v in other.state_dict().items())
    args = SimpleNamespace(model="any", coca_caption_loss_weight=1.0)
    task = compat.create_task(args, model=model)
    losses, _ = task.train()({"image": patches(1), "text": IDS, "text_valid": IDS != 0})
    losses["loss"].backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None]
    labels = IDS[:, 1:].masked_fill(IDS[:, 1:] == 0, -100)
    told = model(patches(1), IDS, labels=labels)
    assert "logits" not in told
    caption = told["caption_loss_ce"]
    torch.testing.assert_close(caption, losses["caption_loss"], atol=1e-5, rtol=1e-5)


def test_cocas_pools_stand_beside_its_trunk():
    model = coca("parallel")
    assert model.attn_pool_type == "parallel"
    assert model.visual.output_tokens
    assert model.visual.trunk.get_patch_size() == (PATCH, PATCH)
    assert model.visual.image_seq_len == 16
    assert {"pool_norm.weight", "attn_pool.query"} <= model.state_dict().keys()
    with torch.no_grad():
        said = model.visual(patches(2))
        assert said["patch_tokens"].shape == (2, 8, 32)
        assert torch.equal(said["patch_valid"], patches(2)["patch_valid"])
        assert model.visual(torch.randn(1, 3, 16, 16))["patch_valid"] is None
        before = model.encode_image(patches())
        model.attn_pool_contrastive.query[:, 0] += 9  # what stands here is what is computed
        assert not torch.allclose(model.encode_image(patches()), before)
        unit = model.clip.encode_image(model.pixels(patches()), True)
        torch.testing.assert_close(unit, model.encode_image(patches()))
    model.attn_pool = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match="parts of this model were replaced"):
        _ = model.clip
    plain = compat.create_model("tiny-coca", load_weights=False)
    assert (plain.attn_pool, plain.attn_pool_type) == (None, "")


def test_what_is_said_of_texts_alone_and_of_pictures_alone():
    for model in (coca(), mammut()):
        with torch.no_grad():
            pictures = model(image=patches(2))
            assert list(model(text=IDS)) == ["text_features"]
        if isinstance(model, compat.MaMMUT):
            assert torch.equal(pictures["image_embs_valid"], patches(2)["patch_valid"])
    assert coca()(patches(), IDS, output_labels=True)["logits"].shape == (2, CONTEXT - 1, 40)


def test_what_can_not_be_is_said():
    for made, message in (
        (lambda: coca(output_tokens=False), "needs vision_cfg.output_tokens=True"),
        (lambda: coca(""), "needs vision_cfg.attentional_pool 'cascade' or 'parallel'"),
        (lambda: mammut(MODERN | {"pool_type": "eos", "eos_id": None}), "eos_id in open_clip"),
    ):
        with pytest.raises(ConfigError, match=message):
            made()
    with pytest.raises(ConfigError, match="reg_tokens = "):
        mammut(MODERN | {"reg_tokens": 2})
    squares = compat.create_model("tiny-mammut", load_weights=False)
    with pytest.raises(ConfigError, match="takes squares of pixels"):
        squares.generate(patches())


def test_logits_by_the_table_of_words():
    tied = mammut(MODERN | {"tie_lm_head": True})
    text, head = tied.text, tied.text.lm_head
    assert head.weight is text.token_embedding.weight
    assert len(list(mammut(MODERN).parameters())) == len(list(tied.parameters())) + 1
    again = mammut(MODERN | {"tie_lm_head": True})
    again.load_state_dict(tied.state_dict())
    assert again.text.lm_head.weight is again.text.token_embedding.weight
    assert torch.equal(again(patches(), IDS)["logits"], tied(patches(), IDS)["logits"])
    alone = ModernMultimodalDecoder(MultimodalCfg(**MODERN | {"tie_lm_head": True}))
    assert alone.lm_head_params[0] is alone.token_embedding.weight


def test_one_matrix_is_saved_and_loaded_and_stays_one(tmp_path):
    tied = mammut(MODERN | {"tie_lm_head": True})
    ours = tied.clip
    assert ours.decoder.projection is None
    assert ours.text.tokens.weight.data_ptr() == tied.text.lm_head.weight.data_ptr()
    save_for_hf(tied, compat.SimpleTokenizer(), to_json(tied.config)["model_cfg"], tmp_path)
    wanted = tied(patches(), IDS)["logits"]
    for file in sorted(path.name for path in tmp_path.glob("*_model.*")):
        again = compat.create_model(f"local-dir:{tmp_path}")
        assert again.text.lm_head.weight is again.text.token_embedding.weight
        assert torch.equal(again(patches(), IDS)["logits"], wanted)
        (tmp_path / file).unlink()
    assert file == "open_clip_pytorch_model.bin"  # the second of two
    tied.text.lm_head.weight = nn.Parameter(tied.text.lm_head.weight + 1)
    with pytest.raises(ConfigError, match="they differ: without that option they are two"):
        tied.clip  # noqa: B018  (a property)


def coca_of(captions):
    return compat.CoCa(
        24, captions, TEXT | {"embed_cls": True, "output_tokens": True}, VISION | POOLS
    )


@pytest.mark.parametrize(
    ("made", "text"),
    [(mammut, TEXT), (coca_of, TEXT), (coca_of, TEXT | {"text_arch": "modern"})],
    ids=["mammut", "coca", "coca, modern"],
)
def test_other_models_have_two_matrices_whatever_is_said(made, text):
    """As open_clip builds them."""
    with pytest.warns(AssumptionWarning, match="tie_lm_head counts in a MaMMUT of modern texts"):
        model = made(text | {"tie_lm_head": True})
    assert len(list(model.parameters())) == len(list(made(text).parameters()))


def test_the_modern_decoder_alone():
    cfg = MultimodalCfg(**MODERN | {"cross_attn_ratio": 2, "pool_type": "map"})
    made = ModernMultimodalDecoder(cfg, output_dim=24)
    assert [block.xattn is not None for block in made.blocks] == [True, False]
    assert made.lm_head_params[0] is made.lm_head.weight
    context = torch.randn(2, 3, 24)
    valid = torch.tensor([[True, True, False]]).expand(2, -1)
    with torch.no_grad():
        masked = made(IDS, context=context, context_valid=valid)
        torch.testing.assert_close(masked, made(IDS, context=context[:, :2]))
        hidden = made(IDS, context=context, return_hidden=True)
        assert torch.equal(made.lm_head(hidden), made(IDS, context=context))
        mask = torch.ones_like(IDS, dtype=torch.bool)
        vectors = [made(IDS, valid, mode="contrastive") for valid in (None, mask)]
    assert not torch.allclose(vectors[0][0], vectors[1][0])
    torch.testing.assert_close(vectors[0][1], vectors[1][1])
    for options, error in (
        ({"context": context, "mode": "contrastive"}, AssertionError),
        ({"mode": "caption"}, AssertionError),
        ({"mode": "both"}, ValueError),
    ):
        with pytest.raises(error):
            made(IDS, **options)
    names = [name for name, _ in made.layer_groups()]
    assert names == ["embeddings", "layer.0", "layer.1", "proj"]
    assert made.layer_groups()[-1][1] == [made.pool, made.lm_head]
    with pytest.raises(ConfigError, match="cross_attn_ratio 3"):
        ModernMultimodalDecoder(MultimodalCfg(**MODERN | {"cross_attn_ratio": 3}))


NAMED = {
    "coca2-naflex_ViT-B-32": ("cascade", (256, 512), 64),
    "coca2-moderntext-naflex_ViT-B-32": ("parallel", (128, 512), 64),
    "mammut2-naflex_ViT-B-16": (None, None, 256),
    "mammut2-moderntext_ViT-B-32": (None, None, None),
}


@pytest.mark.parametrize("name", NAMED)
def test_models_by_name(name):
    """On `meta`: they are large."""
    pool, queries, patches = NAMED[name]
    assert name in compat.list_models()
    model = compat.create_model(name, load_weights=False, device="meta")
    assert traits_from_config(compat.get_model_config(name)) == get_model_traits(model)
    if pool is not None:
        assert model.attn_pool_type == pool
        assert model.attn_pool.query.shape == queries
        assert model.attn_pool.attn.k_proj_weight.shape[1] == 768
    if patches is not None:
        assert model.visual.image_seq_len == patches
    if "moderntext" in name:
        kind = ModernMultimodalTransformer if pool else ModernMultimodalDecoder
        assert isinstance(model.text_decoder if pool else model.text, kind)
        assert model.context_length == 128
        assert (model.pad_id, model.bos_id, model.eos_id) == (50258, 50259, 50257)
