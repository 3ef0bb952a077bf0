"""`compat.MaMMUT`: both passes of its parts are those of the same model as Diptych has it, names of
weights are open_clip's, and it is made and trained as there."""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from diptych import compat
from diptych.compat.factory import load_checkpoint
from diptych.compat.model_traits import ModelFamily, get_model_traits, traits_from_config
from diptych.compat.open_clip_train import legacy_train
from diptych.compat.task.base_task import TrainingTask
from diptych.compat.transformer import MultimodalDecoder
from diptych.errors import CheckpointError, ConfigError

VISION = {
    "image_size": 32,
    "layers": 1,
    "width": 64,
    "output_tokens": True,
    "pool_type": "avg",
    "final_ln_after_pool": True,
}
TEXT = {
    "context_length": 8,
    "vocab_size": 60,
    "width": 32,
    "heads": 2,
    "layers": 3,
    "cross_attn_ratio": 2,
}
FORK = TEXT | {"pool_type": "avg_all", "use_pad_mask": False}
IDS = torch.tensor([[58, 5, 7, 59, 0, 0, 0, 0], [58, 3, 9, 4, 8, 6, 7, 59], [0] * 8])


def made(text=TEXT, vision=VISION, dim=32, seed=0):
    torch.manual_seed(seed)
    return compat.MaMMUT(dim, multimodal_cfg=text, vision_cfg=vision).eval()


@pytest.fixture
def pixels():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


CASES = {
    "open_clip": (TEXT, VISION, 32),
    "with a projection": (TEXT | {"proj_type": "linear", "pad_id": 7}, VISION, 16),
    "fork": (FORK, VISION | {"pool_type": "avg_all"}, 32),
    "without perceptrons": (FORK | {"has_mlp": False}, VISION | {"pool_type": "avg_all"}, 32),
    "of the class token": (TEXT, {**VISION, "pool_type": "tok", "final_ln_after_pool": False}, 32),
}


@pytest.mark.parametrize("name", CASES)
def test_its_parts_are_diptychs_model(pixels, name):
    model = made(*CASES[name])
    with torch.no_grad():
        found, clip = model(pixels, IDS), model.clip
        images, texts = clip(pixels, IDS)
        logits = clip.next_tokens(IDS, clip.read_pictures(pixels))
    torch.testing.assert_close(found["image_features"], images, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found["text_features"], texts, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found["logits"], logits, atol=1e-5, rtol=1e-5)
    assert set(dict(model.named_parameters())) == set(model.state_dict())
    again = compat.MaMMUT.of(clip).eval()
    with torch.no_grad():
        assert torch.equal(again(pixels, IDS)["logits"], found["logits"])


def test_state_dicts_of_both_programs(tmp_path):
    """`text.text_projection` is the vocabulary's matrix in LAION's fork, and a projection in
    open_clip."""
    model = made(FORK, VISION | {"pool_type": "avg_all"}, seed=1)
    state = model.state_dict()
    forked = {n.replace("text.lm_head", "text.text_projection"): t for n, t in state.items()}
    torch.save({"state_dict": forked}, tmp_path / "fork.pt")
    other = made(FORK, VISION | {"pool_type": "avg_all"})
    load_checkpoint(other, str(tmp_path / "fork.pt"), strict=True)
    assert all(torch.equal(t, state[n]) for n, t in other.state_dict().items())
    both = made(TEXT | {"proj_type": "linear"}, dim=16, seed=2)
    torch.save(both.state_dict(), tmp_path / "both.pt")
    third = made(TEXT | {"proj_type": "linear"}, dim=16)
    load_checkpoint(third, str(tmp_path / "both.pt"), strict=True)
    assert all(torch.equal(t, both.state_dict()[n]) for n, t in third.state_dict().items())


def test_what_is_padding(pixels):
    model, mask = made(), IDS != 0
    with torch.no_grad():
        torch.testing.assert_close(model.encode_text(IDS, text_valid=mask), model.encode_text(IDS))
        mask[0, 2] = False
        hidden = model.encode_text(IDS, text_valid=mask)
        assert not torch.allclose(hidden[0], model.encode_text(IDS)[0])
        torch.testing.assert_close(hidden[1], model.encode_text(IDS)[1])
        fork = made(FORK)
        assert torch.equal(fork.encode_text(IDS, text_valid=mask), fork.encode_text(IDS))
        # A picture's padding, too, and one that is padding alone.
        context = torch.randn(3, 5, 32)
        padded = torch.cat([context, torch.randn(3, 2, 32)], 1)
        valid = torch.arange(7).expand(3, -1) < 5
        torch.testing.assert_close(
            model.text(IDS, context=padded, context_valid=valid),
            model.text(IDS, context=context),
            atol=1e-5,
            rtol=1e-5,
        )
        nothing = model.text(IDS, context=padded, context_valid=torch.zeros_like(valid))
        assert bool(nothing.isfinite().all())


def test_a_pass_is_asked_for_by_name():
    text, context = made().text, torch.zeros(3, 5, 32)
    assert isinstance(text, MultimodalDecoder)
    for options, error in (
        ({"context": context, "mode": "contrastive"}, AssertionError),
        ({"mode": "caption"}, AssertionError),
        ({"mode": "both"}, ValueError),
    ):
        with pytest.raises(error):
            text(IDS, **options)
    with pytest.raises(AssertionError, match="pool_type 'eos'"):
        MultimodalDecoder(8, 60, 32, 2, 2, pool_type="eos")
    with pytest.raises(AssertionError, match="cross_attn_ratio 3"):
        MultimodalDecoder(8, 60, 32, 2, 2, cross_attn_ratio=3)
    with pytest.raises(ConfigError, match="output_tokens=True"):
        made(vision={**VISION, "output_tokens": False})
    with pytest.raises(ConfigError, match="embed_dim 16"):
        made(dim=16)
    with pytest.raises(CheckpointError, match="text_arch = 'fast'"):
        made(TEXT | {"text_arch": "fast"})
    assert made(TEXT | {"variable_text": True}).traits.variable_text
    assert not made().traits.variable_text


def test_it_is_trained_by_the_task_of_captions(pixels):
    model = made(TEXT | {"pad_id": 7}).double().train()
    model.set_grad_checkpointing()
    args = SimpleNamespace(model="any", coca_caption_loss_weight=3.0)
    task = compat.create_task(args, model=model)
    assert isinstance(task, compat.CoCaTask)
    assert isinstance(task, TrainingTask)
    assert task.pad_id == 7
    batch = {"image": pixels.double(), "text": IDS}
    losses, _ = task.train()(batch)
    labels = IDS[:, 1:].masked_fill(IDS[:, 1:] == 7, -100)
    logits = model(**batch)["logits"][:, :-1].transpose(1, 2)
    torch.testing.assert_close(losses["caption_loss"], 3 * F.cross_entropy(logits, labels))
    losses["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())
    given = model(**batch, labels=labels)
    torch.testing.assert_close(given["caption_loss_ce"] * 3, losses["caption_loss"])
    assert "logits" not in given
    weights = {"coca_caption_loss_weight": 1.0, "coca_contrastive_loss_weight": 1.0}
    loss = compat.create_loss(SimpleNamespace(model="mammut_any", **weights), model=model)
    assert (type(loss), loss.pad_id) == (compat.CoCaLoss, 7)


@pytest.mark.parametrize("kind", ["top_k", "beam_search"])
def test_captions(pixels, kind):
    model = made(TEXT | {"bos_id": 1, "eos_id": 2})
    found = model.generate(pixels, generation_type=kind, seq_len=6, min_seq_len=3)
    assert found.shape[0] == 3
    assert found.shape[1] <= 6
    assert (found[:, 0] == 1).all()


def test_groups_of_layers():
    model = made()
    names = [name for name, _ in model.text.layer_groups()]
    assert names == ["embeddings", "layer.0", "layer.1", "layer.2", "proj"]
    assert model.no_weight_decay() >= {"text.positional_embedding", "visual.class_embedding"}
    model.lock_text_tower(unlocked_layers=2)
    trained = {n for n, p in model.text.named_parameters() if p.requires_grad}
    begins = ("resblocks.2.", "cross_attn.1.", "ln_final.", "lm_head")
    assert trained == {n for n, _ in model.text.named_parameters() if n.startswith(begins)}


@pytest.mark.parametrize("name", ["mammut2_ViT-B-32", "mammut_ViT-S-32"])
def test_models_by_name(name):
    cfg = compat.get_model_config(name)
    assert "text_cfg" not in cfg
    assert traits_from_config(cfg).family is ModelFamily.MAMMUT
    assert name in compat.list_models()
    if name == "mammut_ViT-S-32":
        model = compat.create_model(name, load_weights=False)
        assert isinstance(model, compat.MaMMUT)
        assert get_model_traits(model).family is ModelFamily.MAMMUT
        assert model.context_length == 77


def test_configurations_of_the_fork_are_translated(tmp_path):
    text = {name: value for name, value in TEXT.items() if name != "layers"} | {"layers": 2}
    cfg = {
        "embed_dim": 32,
        "vision_cfg": VISION | {"pool_type": "avg_all"},
        "text_cfg": text | {"output_tokens": True, "does_full_decoding": True},
        "custom_text": True,
    }
    (tmp_path / "fork-tiny.json").write_text(json.dumps(cfg))
    lean = cfg | {"text_cfg": cfg["text_cfg"] | {"has_mlp": False}}
    (tmp_path / "fork-lean.json").write_text(json.dumps(lean))
    with pytest.warns(UserWarning, match="has_mlp"):
        compat.add_model_config(tmp_path)
    said = compat.get_model_config("fork-tiny")
    assert said["multimodal_cfg"]["pool_type"] == "avg_all"
    assert "text_cfg" not in said
    assert compat.get_model_config("fork-lean") is None
    model = compat.create_model("fork-tiny", load_weights=False)
    assert isinstance(model, compat.MaMMUT)
    built = compat.create_model(str(tmp_path / "fork-lean.json"), load_weights=False)
    assert "text.resblocks.0.mlp.c_fc.weight" not in built.state_dict()
    (tmp_path / "no-text.json").write_text(json.dumps({"embed_dim": 3, "vision_cfg": {}}))
    with pytest.raises(CheckpointError, match="text_cfg or multimodal_cfg"):
        compat.add_model_config(tmp_path / "no-text.json")


def test_lower_precision(pixels):
    model = made()
    compat.convert_weights_to_lp(model, torch.bfloat16)
    assert model.map_viz2txt_kv.dtype == model.text.lm_head.dtype == torch.bfloat16
    assert model.text.ln_final.weight.dtype == torch.float32
    with torch.no_grad():
        found = model(pixels.bfloat16(), IDS)
    assert found["logits"].dtype == torch.bfloat16
    assert bool(found["logits"].isfinite().all())


def test_open_clips_older_loop_puts_texts_of_several_lengths_together(pixels):
    """Two batches of one step have the gradients of both together."""
    model = made(TEXT | {"pad_id": 0}).double().train()
    loss = compat.CoCaLoss(0.7, 1.3, pad_id=model.pad_id)
    whole = {"image": pixels.double(), "text": IDS}
    losses, _ = compat.CoCaTask(model, loss=loss).train()(whole)
    losses["loss"].backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    batches = [(pixels[:1].double(), IDS[:1, :4]), (pixels[1:].double(), IDS[1:])]

    class Loader(list):
        num_batches, num_samples = 2, 3

    args = SimpleNamespace(
        device="cpu",
        precision="fp32",
        distill=False,
        accum_freq=2,
        skip_scheduler=True,
        grad_clip_norm=None,
        rank=0,
        world_size=1,
        batch_size=2,
        log_every_n_steps=1,
        wandb=False,
    )
    data = {"train": SimpleNamespace(dataloader=Loader(batches), set_epoch=lambda epoch: None)}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    legacy_train.train_one_epoch(model, data, loss, 0, optimizer, None, None, None, args)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-6, atol=1e-9)
