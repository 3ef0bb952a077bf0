"""open_clip's text tower of a Hugging Face model, beside open_clip's own."""

import copy

import pytest
import torch
from torch import nn

from diptych import compat, models
from diptych.compat.hf_model import _POOLERS, HFTextEncoder
from diptych.config import ClipConfig
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip import VitConfig
from diptych.families.huggingface import HuggingFaceTextConfig

open_clip = pytest.importorskip("open_clip")
transformers = pytest.importorskip("transformers")

ROBERTA = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 20,
}
MT5 = {"vocab_size": 60, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
NLLB = {
    "vocab_size": 60,
    "d_model": 32,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 20,
}
IDS = torch.tensor([[0, 7, 9, 21, 2, 1, 1, 1], [0, 3, 4, 5, 6, 7, 8, 2], [0, 2, 1, 1, 1, 1, 1, 1]])
NEAR = {"atol": 1e-5, "rtol": 1e-5}


def both(folder, model_type="roberta", options=ROBERTA, pooler="mean_pooler", proj="linear"):
    """open_clip's tower and ours of the same numbers."""
    from open_clip.hf_model import HFTextEncoder as Peer

    transformers.AutoConfig.for_model(model_type, **options).save_pretrained(folder)
    peer = Peer(str(folder), 16, pooler_type=pooler, proj_type=proj, pretrained=False).eval()
    arguments = {"pooler_type": pooler, "proj_type": proj, "pretrained": False}
    ours = HFTextEncoder(str(folder), 16, **arguments).eval()
    for parameter in peer.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict(peer.state_dict())
    return peer, ours


@pytest.mark.parametrize("name", list(_POOLERS))
def test_poolers_give_one_vector_of_each_text(name):
    """As open_clip's own test asks, and of a mask of numbers, too."""
    states = torch.arange(10.0).repeat(2, 1)[..., None] * torch.linspace(0.2, 1.0, 5)
    mask = torch.ones(2, 10, dtype=torch.bool)
    mask[:, 6:] = False
    output = transformers.modeling_outputs.BaseModelOutput(states)
    found = _POOLERS[name]()(output, mask)
    wanted = {"mean_pooler": states[:, :6].mean(1), "max_pooler": states[:, 5]}
    torch.testing.assert_close(found, wanted.get(name, states[:, 0]))
    torch.testing.assert_close(_POOLERS[name]()(output, mask.long()), found)


@pytest.mark.parametrize(
    ("model_type", "options", "pooler", "proj"),
    [
        ("roberta", ROBERTA, "mean_pooler", "mlp"),
        ("xlm-roberta", ROBERTA, "cls_pooler", "linear"),
        ("bert", ROBERTA, None, "linear"),
        ("bert", ROBERTA, "cls_last_hidden_state_pooler", "mlp"),
        ("m2m_100", NLLB, "cls_pooler", "linear"),
        ("mt5", MT5, None, "linear"),
    ],
)
def test_a_tower_is_open_clips(tmp_path, model_type, options, pooler, proj):
    peer, ours = both(tmp_path, model_type, options, pooler, proj)
    ids = IDS if model_type.endswith("roberta") else torch.where(IDS == 1, 0, IDS + 1)
    for output_tokens in (False, True):
        peer.output_tokens = ours.output_tokens = output_tokens
        with torch.no_grad():
            torch.testing.assert_close(ours(ids), peer(ids), **NEAR)
    assert (ours.vocab_size, ours.context_length) == (peer.vocab_size, peer.context_length)
    assert ours.output_dim == peer.output_dim
    assert type(ours.pooler).__name__ == type(peer.pooler).__name__


def test_a_pooler_is_the_one_that_the_configuration_names():
    """Which of them it is says which tokens `output_tokens` gives."""
    for pool, model_type, name in (
        ("cls", "bert", "ClsLastHiddenStatePooler"),
        ("head", "bert", "ClsPooler"),
        ("cls", "m2m_100", "ClsPooler"),
    ):
        options = NLLB if model_type == "m2m_100" else ROBERTA
        config = HuggingFaceTextConfig(model_type=model_type, options=options, pool=pool)
        made = HFTextEncoder.of(models.build_tower(config, 16), 16)
        assert type(made.pooler).__name__ == name


def test_the_main_branchs_modernbert_by_name():
    name = "gte-modernbert-base-ViT-B-32-256"
    said = compat.get_model_config(name)["text_cfg"]
    assert said["hf_model_config"] == {"max_position_embeddings": 256}
    made = compat.create_model(name, device="meta", load_weights=False)
    assert made.traits.variable_text
    assert type(made.text.pooler).__name__ == "ClsPooler"


def test_without_a_pooling_layer_the_first_token_is_taken():
    """As on open_clip's main branch; 3.3 can't build such a model."""
    sizes = ROBERTA | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.ModernBertConfig(**sizes, cls_token_id=1, sep_token_id=2)
    first, last = (
        HFTextEncoder("modernbert", 16, config, pooler_type=name, proj_type="linear").eval()
        for name in ("cls_pooler", "cls_last_hidden_state_pooler")
    )
    last.load_state_dict(first.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(first(IDS), last(IDS))
        states = first.transformer(IDS, attention_mask=(IDS != 0).long()).last_hidden_state
        torch.testing.assert_close(first(IDS), first.proj(states[:, 0]))
    assert [name for name, _ in first.layer_groups()] == [
        "embeddings",
        "layer.0",
        "layer.1",
        "proj",
    ]


@pytest.mark.parametrize("norms", [True, False])
@pytest.mark.parametrize(("model_type", "options"), [("roberta", ROBERTA), ("mt5", MT5)])
def test_locks_freeze_what_open_clips_freeze(tmp_path, model_type, options, norms):
    pair = both(tmp_path, model_type, options)
    for unlocked in (0, 1, 2):
        frozen = []
        for tower in pair:
            tower.requires_grad_(True)
            tower.lock(unlocked, freeze_layer_norm=norms)
            frozen.append({n for n, p in tower.named_parameters() if not p.requires_grad})
        assert frozen[0] == frozen[1]
        assert frozen[0]


@pytest.mark.parametrize("pooler_in_head", [True, False])
def test_a_lock_may_count_the_projection_as_a_layer(pooler_in_head):
    config = transformers.RobertaConfig(**ROBERTA)
    tower = HFTextEncoder("roberta", 16, config, pooler_type="cls_pooler", proj_type="linear")
    counts = list[int]()
    for unlocked in range(4):
        tower.lock(unlocked, pooler_in_head=pooler_in_head)
        trained = {name for name, each in tower.named_parameters() if each.requires_grad}
        assert ("proj.weight" in trained) == (unlocked > 0)
        pooler = "transformer.pooler.dense.weight" in trained
        assert pooler == (unlocked > (0 if pooler_in_head else 1))
        counts.append(len(trained))
    assert counts[0] == 0
    assert counts == sorted(set(counts))
    tower.requires_grad_(True)
    tower.lock(0, freeze_layer_norm=False, pooler_in_head=True)
    trained = {name for name, each in tower.named_parameters() if each.requires_grad}
    assert trained
    assert all("LayerNorm" in name for name in trained)


def test_weights_come_from_a_folder_and_nowhere_else(tmp_path):
    transformers.set_seed(0)
    trunk = transformers.RobertaModel(transformers.RobertaConfig(**ROBERTA)).eval()
    trunk.save_pretrained(tmp_path)
    for pooler in ("mean_pooler", "cls_pooler"):
        made = HFTextEncoder(str(tmp_path), 32, pooler_type=pooler).eval()
        assert isinstance(made.proj, nn.Identity)
        with torch.no_grad():
            found = made.transformer(IDS).last_hidden_state
            torch.testing.assert_close(found, trunk(IDS).last_hidden_state)
    with pytest.raises(CheckpointError, match="the configuration .* isn't in the hub's cache"):
        HFTextEncoder("me/not-there", 16, proj_type="linear")
    with pytest.raises(CheckpointError, match="no weights of roberta-base lie .* pretrained=False"):
        HFTextEncoder("roberta-base", 16, proj_type="linear")
    with pytest.raises(CheckpointError, match="describes no text model"):
        HFTextEncoder(str(tmp_path.parent), 16, proj_type="linear")
    with pytest.raises(ConfigError, match="embed_dim must be its width, 32, and is 16"):
        HFTextEncoder(str(tmp_path), 16)


@pytest.fixture
def model():
    image = VitConfig(image_size=32, patch_size=16, width=32, layers=1, heads=1, mlp_width=64)
    text = HuggingFaceTextConfig(
        model_type="roberta", options=ROBERTA, pad_id=1, context_length=8, pool="max"
    )
    clip = models.build(ClipConfig(image=image, text=text, embed_dim=16))
    return compat.OpenClipModel.of(clip.eval()).eval()


@torch.no_grad()
def test_a_models_text_tower_is_one_and_what_stands_there_is_computed(model):
    assert isinstance(model.text, HFTextEncoder)
    assert "text.transformer.encoder.layer.1.output.dense.weight" in model.state_dict()
    assert model.state_dict().keys() == {name for name, _ in model.named_parameters()}
    before, seen = model.encode_text(IDS), []
    assert torch.equal(model.clip.encode_text(IDS), before)
    model.text.transformer.encoder.layer[0].register_forward_hook(lambda *_: seen.append(1))
    again = copy.deepcopy(model)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.encode_text(IDS), before)
    assert seen == [1]
    model.text.proj = nn.Identity()
    assert model.encode_text(IDS).shape == (3, 32)
    model.text.pooler = _POOLERS["mean_pooler"]()
    with pytest.raises(ConfigError, match="pooler is a MeanPooler"):
        _ = model.clip


def test_checkpointing_gives_the_same_gradients(model):
    found = []
    for enable in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        model.encode_text(IDS).sum().backward()
        found.append([p.grad for p in model.text.parameters() if p.grad is not None])
    assert len(found[0]) > 20
    for mine, again in zip(*found, strict=True):
        torch.testing.assert_close(mine, again)
