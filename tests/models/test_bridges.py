"""Towers of timm and transformers, randomly initialised and small."""

import pytest
import torch

from diptych.batch import TextLengths
from diptych.errors import ConfigError
from diptych.families.huggingface import HuggingFaceTextConfig
from diptych.families.timm import TimmConfig
from diptych.models import build_tower

SWIN = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4, "patch_size": 4}
BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 40,
}


def timm_tower(name, size, **options):
    torch.manual_seed(0)
    return build_tower(TimmConfig(name=name, image_size=size, options=options), 6).eval()


def text_tower(pool="mean", model_type="bert", **options):
    torch.manual_seed(0)
    config = HuggingFaceTextConfig(
        model_type=model_type, options=BERT | options, context_length=12, pool=pool
    )
    return build_tower(config, 6).eval()


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("resnet10t", 64, {}),
        ("vit_tiny_patch16_224", 32, {"embed_dim": 24, "depth": 1, "num_heads": 2}),
        ("swin_tiny_patch4_window7_224", 32, SWIN),
    ],
)
def test_timm_pooled_is_what_timm_gives(name, size, options):
    tower, x = timm_tower(name, size, **options), torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(tower(x).pooled, tower.trunk(x) @ tower.projection.weight.T)


@pytest.mark.parametrize(
    ("name", "options"),
    [("resnet10t", {}), ("swin_tiny_patch4_window7_224", SWIN)],
    ids=["rows last", "rows first"],
)
def test_timm_grids_become_tokens(name, options):
    """Both of these pool by the mean over the grid, whatever order its axes have."""
    tower, x = (
        timm_tower(name, 32 if options else 96, **options),
        torch.randn(2, 3, *[32 if options else 96] * 2),
    )
    with torch.no_grad():
        tokens, _, pooled = tower(x)
        torch.testing.assert_close(tower.projection(tokens.mean(dim=1)), pooled)


def test_timm_batch_statistics_are_kept_in_the_state():
    tower = timm_tower("resnet10t", 64).train()
    tower(torch.randn(4, 3, 64, 64))
    other = timm_tower("resnet10t", 64)
    other.load_state_dict(tower.state_dict())
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(other(x).pooled, tower.eval()(x).pooled)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            TimmConfig(name="resnet10t", options={"depths": 3}),
            "timm's resnet10t with depths 3 can't be built: .*unexpected keyword",
        ),
        (
            TimmConfig(name="vit_tiny_patch16_224", options={"embed_dim": 100, "num_heads": 7}),
            "timm's vit_tiny_patch16_224 .*: dim should be divisible by num_heads",
        ),
        (
            HuggingFaceTextConfig(model_type="bert", options={"hidden_size": 30}),
            "transformers' bert with hidden_size 30 can't be built: .*multiple",
        ),
        (
            HuggingFaceTextConfig(model_type="bert", options={"vocab_size": "many"}),
            "transformers' bert with vocab_size 'many' can't be built: ",
        ),
    ],
)
def test_what_their_libraries_cannot_build_is_one_sentence(config, said):
    with pytest.raises(ConfigError, match=said):
        build_tower(config, 6)


def test_unknown_timm_names_are_refused_with_near_ones():
    with pytest.raises(ConfigError, match="timm has no model 'resnet1000'; near are .*resnet"):
        build_tower(TimmConfig(name="resnet1000"), 6)


def test_unknown_text_models_are_refused():
    with pytest.raises(ConfigError, match="transformers has no model type 'brrt'"):
        build_tower(HuggingFaceTextConfig(model_type="brrt"), 6)


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_padding_changes_nothing(pool):
    tower = text_tower(pool)
    ids = torch.tensor([[5, 6, 7, 8, 9, 10], [5, 6, 7, 0, 0, 0]])
    with torch.no_grad():
        together, longer = tower(ids).pooled, tower(torch.nn.functional.pad(ids, (0, 4))).pooled
        torch.testing.assert_close(longer, together)
        torch.testing.assert_close(tower(ids[1:, :3]).pooled, together[1:])
        ids[1, 3] = 11
        assert not torch.allclose(tower(ids).pooled[1], together[1], atol=1e-4)


@pytest.mark.parametrize("pool", ["mean", "cls"])
@pytest.mark.parametrize("model_type", ["bert", "roberta", "deberta-v2"])
def test_pieces_by_length_change_nothing(model_type, pool):
    """Vectors, tokens up to the end, and gradients, as of the padded batch in one call."""
    tower = text_tower(pool, model_type, pad_token_id=0).double()
    lengths = [12, 3, 9, 2, 5, 12, 4, 6, 2, 8]
    ids = torch.zeros(10, 12, dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(1, 40, (length,))
    found = []
    for given in (None, TextLengths.of(lengths)):
        tower.zero_grad()
        tokens, feature, pooled = tower(ids, "raw", given)
        pooled.square().sum().backward()
        real = [tokens[row, :length] for row, length in enumerate(lengths)]
        gradients = [p.grad for p in tower.parameters() if p.grad is not None]
        found.append([feature, pooled, *real, *gradients])
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-12)


def test_pieces_are_as_short_as_they_may_be(monkeypatch):
    tower, seen = text_tower(), []
    read = tower.trunk.forward
    monkeypatch.setattr(
        tower.trunk,
        "forward",
        lambda **given: (seen.append(given["input_ids"].shape), read(**given))[1],
    )
    tower(torch.ones(4, 12, dtype=torch.long), "none", TextLengths.of([3, 12, 8, 2]))
    assert seen == [(2, 12), (2, 8)]


def test_a_trunk_that_sees_padding_gets_all_of_it():
    for model_type, padding in [("convbert", "seen"), ("bert", "ignored")]:
        assert HuggingFaceTextConfig(model_type=model_type).padding == padding


def test_mean_is_over_what_is_not_padding():
    tower, ids = text_tower(), torch.tensor([[5, 6, 7, 0, 0, 0]])
    with torch.no_grad():
        tokens, _, pooled = tower(ids)
        torch.testing.assert_close(pooled, tower.projection(tokens[:, :3].mean(dim=1)))


def test_an_empty_row_is_finite():
    with torch.no_grad():
        assert text_tower()(torch.zeros(1, 4, dtype=torch.long)).pooled.isfinite().all()


def test_encoder_decoders_give_their_encoder():
    options = {
        "d_model": 16,
        "num_layers": 2,
        "num_heads": 2,
        "d_ff": 32,
        "d_kv": 8,
        "vocab_size": 40,
    }
    tower = build_tower(
        HuggingFaceTextConfig(model_type="t5", options=options, context_length=12), 6
    )
    assert len(tower.blocks) == 2
    assert tower(torch.tensor([[5, 6, 1]])).pooled.shape == (1, 6)


def test_a_tower_without_blocks_refuses_checkpointing():
    with pytest.raises(ConfigError, match="repeated blocks"):
        build_tower(TimmConfig(name="regnetx_002"), 6).set_checkpointing()


@pytest.mark.parametrize(
    "option",
    ["checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"],
)
def test_a_configuration_names_no_file_and_no_place_to_timm(option):
    with pytest.raises(ConfigError, match=f"timm's options {option} aren't passed on"):
        TimmConfig(name="resnet10t", options={option: "evil.bin", "global_pool": "avg"})


@pytest.mark.parametrize(
    "option", ["attn_implementation", "_attn_implementation", "quantization_config", "auto_map"]
)
def test_a_configuration_names_no_code_to_transformers(option):
    with pytest.raises(ConfigError, match=f"the options {option} of bert aren't passed on"):
        text_tower(**{option: "evil/kernels"})


@pytest.mark.parametrize(
    "model_type", ["timm_wrapper", "timm_backbone", "detr", "clip_vision_model"]
)
def test_only_text_models_of_transformers_are_built(model_type):
    with pytest.raises(ConfigError, match=f"'{model_type}' isn't one of a text model"):
        build_tower(HuggingFaceTextConfig(model_type=model_type), 6)
