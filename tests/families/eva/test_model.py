"""EVA's towers against recorded outputs of the original code, and against timm's independent
ones."""

import pytest
import torch
import torch.nn.functional as F

from diptych.config import ClipConfig
from diptych.families.clip import TextConfig
from diptych.families.clip.layouts import open_clip, open_clip_config
from diptych.families.eva import EvaConfig
from diptych.families.eva.layouts import eva
from diptych.families.eva.model import EvaTransformer
from diptych.models import Clip, build, build_tower
from diptych.nn.drop import StochasticDepth
from diptych.nn.rotary import rotary_table, rotate, with_class_token
from diptych.objectives.info_nce import info_nce
from tests import goldens
from tests.models.peers import shake

GOLDENS = goldens.files("eva/*-tiny.json")
golden = pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
SMALL = {"image_size": 24, "patch_size": 4, "width": 32, "layers": 3, "heads": 2}
PLAIN = EvaConfig(**SMALL, mlp_width=80)
GATED = EvaConfig(
    **SMALL, mlp_width=43, mlp="swiglu", attention_norm=True, mlp_norm=True, rotary_grid=16
)
POST = EvaConfig(**SMALL, mlp_width=80, norm_place="post")


def recorded_model(record) -> Clip:
    config = open_clip_config.from_json({"model_cfg": record["config"]})
    state = goldens.weights(record["keys"])
    model = build(config).eval()
    model.load_state_dict(eva.table(state).to_ours(state))
    return model


def inputs(record):
    return goldens.images(record["image_seed"], record["image_shape"]), torch.tensor(
        record["tokens"]
    )


def close(ours, recorded, tolerance=1e-5):
    torch.testing.assert_close(ours, torch.tensor(recorded), rtol=0, atol=tolerance)


@golden
def test_features_and_loss_as_recorded(path):
    record = goldens.read(path)
    model, (pixels, ids) = recorded_model(record), inputs(record)
    with torch.no_grad():
        tokens, _, pooled = model.image(pixels)
        images, texts = model.encode_image(pixels), model.encode_text(ids)
        close(pooled, record["image_features"])
        close(images, record["image_features"])
        close(texts, record["text_features"])
        close(tokens.mean((1, 2)), record["last_block_tokens_mean"])
        close(tokens.std((1, 2)), record["last_block_tokens_std"], 1e-4)
        pairs = [F.normalize(vectors[:3], dim=-1) for vectors in (images, texts)]
        assert info_nce(*pairs, model.logit_scale.exp()).item() == pytest.approx(
            record["clip_loss"], abs=1e-5
        )


@golden
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-3), (torch.float16, 1e-4)])
def test_half_precision_points_the_same_way(path, dtype, tolerance):
    """Cosine similarity to the recorded float32 vectors: within 2e-3 of 1 in bfloat16, 1e-4 in
    float16."""
    record = goldens.read(path)
    model, (pixels, ids) = recorded_model(record).to(dtype), inputs(record)
    with torch.no_grad():
        found = {
            "image_features": model.encode_image(pixels.to(dtype)),
            "text_features": model.encode_text(ids),
        }
    for name, vectors in found.items():
        assert vectors.dtype == dtype
        similarity = F.cosine_similarity(vectors.float(), torch.tensor(record[name]))
        assert similarity.min() > 1 - tolerance, name


def make(config: EvaConfig, embed_dim: int | None = 6) -> EvaTransformer:
    torch.manual_seed(0)
    tower = build_tower(config, embed_dim)
    assert isinstance(tower, EvaTransformer)
    tower.init()
    shake(tower)
    return tower.eval()


TIMM = {
    "g": (PLAIN, {"mlp_ratio": 2.5}),
    "l": (
        GATED,
        {
            "mlp_ratio": 43 / 32,
            "qkv_fused": False,
            "swiglu_mlp": True,
            "scale_mlp": True,
            "scale_attn_inner": True,
            "use_rot_pos_emb": True,
            "ref_feat_shape": (16, 16),
        },
    ),
    "e": (POST, {"mlp_ratio": 2.5, "use_post_norm": True}),
}


@pytest.mark.parametrize("kind", TIMM)
def test_timms_towers_give_the_same(kind):
    timm = pytest.importorskip("timm")
    config, options = TIMM[kind]
    options = {
        "img_size": 24,
        "patch_size": 4,
        "embed_dim": 32,
        "depth": 3,
        "num_heads": 2,
        "num_classes": 6,
    } | options
    theirs = timm.models.eva.Eva(global_pool="token", **options).eval()
    shake(theirs)
    state = {f"visual.trunk.{name}": tensor for name, tensor in theirs.state_dict().items()}
    ours = make(config)
    ours.load_state_dict(open_clip.table(state).to_ours(state).part("image."))
    pixels = torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        found = ours(pixels, tokens="none").pooled
        torch.testing.assert_close(found, theirs(pixels), rtol=1e-4, atol=1e-5)
        tokens = ours(pixels, tokens="normed").tokens
        torch.testing.assert_close(tokens, theirs.forward_features(pixels), rtol=1e-4, atol=1e-5)


def test_rotations_by_hand():
    """Half of a head of 8 turns with the row, half with the column, by 10000^0 and 10000^-0.5 per
    patch of 16."""
    torch.manual_seed(0)
    x = torch.randn(9, 8)
    turned = rotate(x, rotary_table(3, 16, 8))
    for patch in range(9):
        for half, place in enumerate(divmod(patch, 3)):
            for pair, frequency in enumerate((1.0, 0.01)):
                angle = torch.tensor(place * 16 / 3 * frequency)
                a, b = x[patch, 4 * half + 2 * pair :][:2]
                expected = torch.stack(
                    [a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()]
                )
                torch.testing.assert_close(
                    turned[patch, 4 * half + 2 * pair :][:2], expected, rtol=1e-4, atol=1e-5
                )


def test_the_class_token_is_not_turned():
    x = torch.randn(10, 8)
    table = with_class_token(rotary_table(3, 3, 8))
    assert torch.equal(rotate(x, table)[0], x[0])
    assert torch.equal(rotate(x, table)[1:], rotate(x[1:], rotary_table(3, 3, 8)))


def test_kept_patches_keep_their_places():
    """A dropped patch is as one that nobody sees: the tower on the kept ones equals attention over
    all with a mask."""
    tower = make(EvaConfig(**SMALL, mlp_width=43, mlp="swiglu", rotary_grid=16))
    tower.set_patch_dropout(0.5)
    pixels = torch.randn(2, 3, 24, 24)
    tower.train()
    torch.manual_seed(1)
    kept = tower.drop.choose(torch.zeros(2, 36, 32))
    assert kept is not None
    assert kept.shape == (2, 18)
    torch.manual_seed(1)
    dropped = tower(pixels).pooled
    seen = torch.zeros(2, 37, dtype=torch.bool).scatter_(1, kept + 1, True)
    seen[:, 0] = True
    attention = F.scaled_dot_product_attention
    mask = seen[:, None, None]
    tower.eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            F, "scaled_dot_product_attention", lambda q, k, v: attention(q, k, v, attn_mask=mask)
        )
        torch.testing.assert_close(dropped, tower(pixels).pooled, rtol=1e-4, atol=1e-6)


def test_families_live_side_by_side():
    pixels = torch.randn(1, 3, 24, 24)
    before = {config: make(config)(pixels).pooled for config in (PLAIN, GATED, POST)}
    for config in reversed(before):
        assert torch.equal(make(config)(pixels).pooled, before[config])


def test_branches_are_left_out_more_and_more():
    tower = make(EvaConfig(**SMALL, mlp_width=80))
    tower.set_stochastic_depth(0.4)
    assert [block.depth.rate for block in tower.blocks] == pytest.approx([0.0, 0.2, 0.4])
    torch.manual_seed(0)
    out = StochasticDepth(0.4)(torch.ones(4000, 2))
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(out[:, 0], out[:, 1])


@pytest.mark.parametrize("config", [PLAIN, GATED, POST], ids=["g", "l", "e"])
def test_dense_features(config):
    tower, pixels = make(config), torch.randn(2, 3, 24, 24)
    raw, normed, projected = (tower(pixels, kind) for kind in ("raw", "normed", "projected"))
    assert raw.tokens.shape == normed.tokens.shape == (2, 37, 32)
    assert projected.tokens.shape == (2, 37, 6)
    torch.testing.assert_close(normed.tokens, tower.norm_post(raw.tokens))
    torch.testing.assert_close(projected.tokens[:, 0], raw.pooled)


def test_an_image_tower_alone():
    tower = make(GATED, embed_dim=None)
    assert not any(name.startswith("projection") for name in tower.state_dict())
    tokens, feature, pooled = tower(torch.randn(2, 3, 24, 24), tokens="normed")
    torch.testing.assert_close(pooled, tokens[:, 0])
    assert torch.equal(pooled, feature)


def test_the_largest_model_is_built_on_meta_at_once():
    image = EvaConfig(
        width=5120,
        layers=48,
        heads=40,
        mlp_width=25600,
        norm="rms",
        norm_place="post",
        qkv_bias=False,
    )
    model = build(ClipConfig(image=image, text=TextConfig(), embed_dim=1536), device="meta")
    assert sum(p.numel() for p in model.image.parameters()) > 17e9
    assert all(p.is_meta for p in model.parameters())
