"""GenLIP as open_clip's main branch has it: its classes against the formulas, files, traits, tasks,
and its tower in a CLIP model."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diptych import compat
from diptych.compat.convert import convert_genlip_state_dict, is_genlip_state_dict
from diptych.compat.faces.naflex import packed, patches_of
from diptych.compat.loss import GenLipLoss
from diptych.compat.model import CLIPVisionCfg, _build_vision_tower
from diptych.compat.model_traits import GENLIP_TRAITS, InputMode, traits_from_config
from diptych.compat.naflex_genlip_model import (
    GenLip,
    GenLipBlock,
    GenLipRotaryEmbedding,
    GenLipVisualAdapter,
    NaFlexGenLip,
    NaFlexGenLipTrunkCfg,
    NaFlexGenLipVisualAdapter,
    apply_interleaved_mrope,
    build_image_attn_mask,
    build_mrope_position_ids,
    build_patch_attn_mask,
    build_prefix_lm_mask,
)
from diptych.compat.open_clip_train.naflex_data import patchify
from diptych.compat.open_clip_train.train import TrainState, evaluate, train_one_epoch
from diptych.compat.task import GenLipTask
from diptych.compat.task.blocks import blocks_of
from diptych.compat.tokenizer import HFTokenizer
from diptych.compat.transforms.patches import PatchTransforms
from diptych.errors import CheckpointError, ConfigError
from diptych.families.genlip import GenlipImageConfig
from tests.compat.test_train_loop import Loader, options, train_data
from tests.families.genlip import formulas

PATCH, PAD = 4, 30
TRUNK = {
    "width": 16,
    "depth": 2,
    "num_heads": 2,
    "intermediate_size": 24,
    "text_embed_dim": 8,
    "mrope_section": (1, 2, 1),
    "rope_theta": 50.0,
    "attention_bias": True,
    "mlp_bias": True,
}
TEXT = {"vocab_size": 31, "context_length": 6, "pad_id": PAD, "bos_id": None, "eos_id": 29}
CFG = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 8, "patch_size": PATCH},
    "text_cfg": TEXT,
    "genlip_cfg": TRUNK,
}
WORDS = torch.tensor([[4, 9, 2, 29, PAD], [7, 29, PAD, PAD, PAD], [1, 2, 3, 4, 29]])
SIZES = ((8, 8), (4, 12), (8, 4))
"""Of pictures: four, three and two patches."""


def fixed_cfg(cfg=CFG):
    return cfg | {"vision_cfg": cfg["vision_cfg"] | {"genlip_naflex": False}}


@pytest.fixture
def model(randomise):
    def make(kind=NaFlexGenLip, **trunk):
        cfg = fixed_cfg() if kind is GenLip else CFG
        return randomise(kind(**cfg | {"genlip_cfg": TRUNK | trunk}))

    return make


def pictures():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(3, *size, generator=generator) for size in SIZES]


def patches(images):
    """As open_clip's loaders give them."""
    found = [patchify(image, (PATCH, PATCH)) for image in images]
    most = max(len(each["patches"]) for each in found)
    batch = {}
    for name in ("patches", "patch_coord", "patch_valid"):
        rows = [each[name] for each in found]
        batch[name] = torch.stack(
            [F.pad(r, (0, 0) * (r.ndim - 1) + (0, most - len(r))) for r in rows]
        )
    return batch


def logits_of(model, image, words):
    """One picture and its caption's words, without padding, from the formulas."""
    state, config = model.state_dict(), tower_config(model)
    rows, columns = (side // PATCH for side in image.shape[1:])
    own = patchify(image, (PATCH, PATCH))["patches"]
    own = formulas.linear(own, state, "patch_embed.proj")
    read = formulas.linear(state["text_embed.weight"][words], state, "in_proj")
    places = [(0, i, j) for i in range(rows) for j in range(columns)]
    start = max(rows, columns)
    places += [(start + i,) * 3 for i in range(len(words))]
    x, first = torch.cat([own, read]), len(own)
    for i in range(config.layers):
        part = formulas.part(state, f"trunk.layers.{i}.")
        x = formulas.block(
            x, part, config, places, lambda i, j: j < first or (i >= first and j <= i)
        )
    x = formulas.normed(x, state, "trunk.ln_post", config)
    return F.linear(formulas.linear(x, state, "out_proj"), state["lm_head.weight"]), first


def tower_config(model):
    cfg = model.trunk_cfg
    return GenlipImageConfig(
        image_size=8,
        patch_size=PATCH,
        width=cfg.width,
        layers=cfg.depth,
        heads=cfg.num_heads,
        mlp_width=cfg.intermediate_size,
        rotary_sections=tuple(cfg.mrope_section),
        rotary_theta=cfg.rope_theta,
        qk_norm=cfg.qk_norm,
        norm="rms" if cfg.norm_type == "rmsnorm" else "layer",
        gated_attention=cfg.gated_attention,
        gated_mlp=cfg.use_swiglu_ffn,
    )


@pytest.mark.parametrize(
    "trunk",
    [{}, {"qk_norm": True, "norm_type": "rmsnorm"}, {"gated_attention": False}],
    ids=["published", "normed", "ungated"],
)
def test_logits_and_losses_are_the_formulas(model, trunk):
    made, images = model(**trunk), pictures()
    batch, losses, count = patches(images), 0.0, 0
    most = batch["patches"].shape[1]
    with torch.no_grad():
        found = made(batch, WORDS)["logits"]
        vectors = made.encode_image(batch)
    assert found.shape == (3, most + 5, 31)
    for i, image in enumerate(images):
        words = WORDS[i][WORDS[i] != PAD]
        wanted, first = logits_of(made, image, words)
        own = torch.cat([found[i, :first], found[i, most : most + len(words)]])
        torch.testing.assert_close(own, wanted, atol=1e-4, rtol=1e-4)
        losses += F.cross_entropy(wanted[first - 1 : -1], words, reduction="sum")
        count += len(words)
        _, mean = formulas.picture(image, tower_state(made), tower_config(made))
        vector = formulas.linear(mean, made.state_dict(), "visual.proj")
        torch.testing.assert_close(vectors[i], vector, atol=1e-5, rtol=1e-5)
    # Rows without gaps: the last patch tells the first word in all of them.
    made.pack_prefix = True
    packed_loss = made(batch, WORDS, compute_loss=True)["loss"]
    torch.testing.assert_close(packed_loss, losses / count, atol=1e-5, rtol=1e-5)


def tower_state(made):
    """Of the tower under Diptych's names."""
    config = replace(tower_config(made), image_size=8)
    visual = formulas.part(made.state_dict(), "visual.")
    state = formulas.part(visual, "trunk.layers.")
    state = {f"blocks.{n}": t for n, t in state.items()}
    kernel = visual["patch_embed.proj.weight"].unflatten(1, (PATCH, PATCH, 3))
    state["patch.weight"] = kernel.permute(0, 3, 1, 2)
    state["patch.bias"] = visual["patch_embed.proj.bias"]
    names = ("weight",) if config.norm == "rms" else ("weight", "bias")
    return state | {f"norm_post.{n}": visual[f"trunk.ln_post.{n}"] for n in names}


@pytest.mark.parametrize("kind", [NaFlexGenLip, GenLip])
def test_a_loss_is_that_of_the_logits_in_all_three_ways(model, kind):
    made = model(kind)
    images = torch.stack([pictures()[0]] * 3)
    image = images if kind is GenLip else patches(images)
    logits = made(image, WORDS)["logits"]
    labels = WORDS.masked_fill(WORDS == PAD, -100)
    wanted = F.cross_entropy(logits[:, 3:-1].flatten(0, 1), labels.flatten(), ignore_index=-100)
    asked = {"compute_loss": True, "caption_z_loss": True, "caption_loss_chunk_size": 3}
    block = made(image, WORDS, WORDS != PAD, **asked)
    made.pack_prefix = True
    rows = made(image, WORDS, **asked)
    assert made(image, WORDS)["image_seq_len"] == 4
    for found in (block, rows):
        torch.testing.assert_close(found["caption_loss_ce"], wanted)
        torch.testing.assert_close(found["caption_loss_z"], block["caption_loss_z"])
        assert found["loss"] is found["caption_loss_ce"]


def test_gradients_come_to_all_parts_also_where_blocks_are_computed_again(model):
    made, found = model().train(), []
    for on in (False, True):
        made.set_grad_checkpointing(on)
        assert made.trunk.grad_checkpointing is on
        made.zero_grad()
        made(patches(pictures()), WORDS, compute_loss=True)["loss"].backward()
        found.append({n: p.grad.clone() for n, p in made.named_parameters() if p.grad is not None})
    without = {n for n, _ in made.named_parameters()} - found[0].keys()
    assert without == {"visual.proj.weight", "visual.proj.bias"}
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad)
    assert not found[0]["text_embed.weight"][PAD].any()


def test_who_sees_whom():
    seen, words = torch.tensor([[True, True, False]]), torch.tensor([[True, True, False]])
    mask = build_prefix_lm_mask(seen, words)[0, 0]
    assert mask[0].tolist() == [True, True, False, False, False, False]
    assert mask[4].tolist() == [True, True, False, True, True, False]
    assert mask[5].tolist() == [True, True, False, True, True, True]
    assert build_image_attn_mask(seen)[0, 0].long().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert build_patch_attn_mask(seen).shape == (1, 1, 1, 3)
    places = build_mrope_position_ids(torch.tensor([[[0, 0], [0, 1], [7, 7]]]), seen, words)
    assert places.tolist() == [[[0, 0, 0, 2, 3, 4]], [[0, 0, 7, 2, 3, 4]], [[0, 1, 7, 2, 3, 4]]]
    turns = torch.arange(3.0)[:, None, None, None].expand(3, 1, 1, 8)
    found = apply_interleaved_mrope(turns, (4, 2, 2))
    assert found.flatten().tolist() == [0, 1, 2, 0, 1, 2, 0, 0]


def test_positions_that_arent_interleaved_are_by_time_alone():
    rotary = GenLipRotaryEmbedding(NaFlexGenLipTrunkCfg(**TRUNK | {"mrope_interleaved": False}))
    places = torch.tensor([[[3]], [[5]], [[7]]])
    same = torch.full((3, 1, 1), 3)
    assert torch.equal(rotary(torch.zeros(1), places)[0], rotary(torch.zeros(1), same)[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mrope_section": (2, 2, 2)}, "a head of 8 channels has 4"),
        ({"norm_type": "batch"}, "norm_type 'batch'"),
    ],
)
def test_sizes_that_dont_fit_are_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        NaFlexGenLip(**CFG | {"genlip_cfg": TRUNK | change})
    with pytest.raises(ConfigError, match="input_norm"):
        GenLip(**CFG | {"vision_cfg": CFG["vision_cfg"] | {"input_norm": True}})


def test_a_block_takes_open_clips_arguments():
    cfg = NaFlexGenLipTrunkCfg(**TRUNK | {"drop_path_rate": 0.25})
    block = GenLipBlock(cfg, nn.Identity, attn_bias=False, mlp_bias=False)
    assert isinstance(block.layer_norm1, nn.Identity)
    assert block.self_attn.k_proj.bias is None
    assert block.mlp.fc2.bias is None
    assert block.drop_path.rate == 0.25


# Weights.


def authors(made):
    """The authors' state dict, whose kernel is a convolution's."""
    state = made.state_dict()
    kernel = state["patch_embed.proj.weight"]
    if kernel.ndim == 2:
        kernel = kernel.unflatten(1, (PATCH, PATCH, 3)).permute(0, 3, 1, 2)
    found = {
        "vision_embeddings.patch_embedding.weight": kernel,
        "vision_embeddings.patch_embedding.bias": state["patch_embed.proj.bias"],
        "embeddings.weight": state["text_embed.weight"],
    }
    for theirs, ours in (
        ("visual.layers.", "trunk.layers."),
        ("ln_post.", "trunk.ln_post."),
        ("in_proj.", "in_proj."),
        ("proj.", "out_proj."),
        ("lm_head.", "lm_head."),
    ):
        found |= {theirs + n: t for n, t in formulas.part(state, ours).items()}
    return found


def test_the_authors_weights_fit_both_classes_which_agree(model, randomise):
    source = model()
    state = authors(source)
    assert is_genlip_state_dict(state)
    assert not is_genlip_state_dict(source.state_dict())
    made = []
    for kind, cfg in ((NaFlexGenLip, CFG), (GenLip, fixed_cfg())):
        made.append(randomise(kind(**cfg), seed=5))
        made[-1].load_state_dict(convert_genlip_state_dict(made[-1], state), strict=True)
        assert torch.equal(made[-1].visual.proj.weight, state["proj.weight"])
    images = torch.stack([pictures()[0]] * 2)
    words = WORDS[:2]
    wanted = made[0](patches(images), words)["logits"]
    torch.testing.assert_close(made[1](images, words)["logits"], wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(source(patches(images), words)["logits"], wanted)


def test_weights_of_another_size_are_refused(model):
    state = authors(model())
    other = NaFlexGenLip(**CFG | {"genlip_cfg": TRUNK | {"width": 24, "mrope_section": (2, 2, 2)}})
    with pytest.raises(CheckpointError, match="it is of another size"):
        convert_genlip_state_dict(other, state)
    with pytest.raises(CheckpointError, match="no place in this model"):
        convert_genlip_state_dict(nn.Linear(2, 2), state)


@pytest.fixture
def described(tmp_path):
    """A configuration that is known by its file's name, and forgotten."""

    def add(name, cfg):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(cfg))
        compat.add_model_config(path)
        return name

    yield add
    for name in ("mine", "mine-fixed", "mine-clip"):
        compat.factory._MODEL_CONFIGS.pop(name, None)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("whose", ["authors", "open_clip"])
def test_the_factory_builds_what_a_file_describes(model, described, tmp_path, fixed, whose):
    source = model(GenLip if fixed else NaFlexGenLip)
    state = authors(source) if whose == "authors" else source.state_dict()
    torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}}, tmp_path / "w.pt")
    cfg = (fixed_cfg() if fixed else CFG) | {"preprocess_cfg": {"mean": [0.5] * 3}}
    name = described("mine-fixed" if fixed else "mine", cfg)
    weights = str(tmp_path / "w.pt")
    made, train, evaluation = compat.create_model_and_transforms(name, weights, image_std=(1,) * 3)
    assert type(made) is (GenLip if fixed else NaFlexGenLip)
    assert not made.training
    assert made.preprocess.mean == (0.5,) * 3
    assert made.preprocess.std == (1.0,) * 3
    for key, tensor in made.state_dict().items():
        # The authors' one projection is both the words' and the tower's.
        own = key.replace("visual.proj", "out_proj") if whose == "authors" else key
        assert torch.equal(tensor, source.state_dict()[own]), key
    assert isinstance(train, PatchTransforms) is isinstance(evaluation, PatchTransforms)
    assert isinstance(train, PatchTransforms) is not fixed
    assert made.__dict__["traits"] == traits_from_config(cfg)
    assert made.traits.image_input is (InputMode.FIXED if fixed else InputMode.NAFLEX)
    with pytest.raises(ConfigError, match="force_image_size=32"):
        compat.create_model(name, weights, force_image_size=32)
    folder = tmp_path / "folder"
    folder.mkdir()
    torch.save(source.state_dict(), folder / "open_clip_pytorch_model.bin")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg}))
    again = compat.create_model(f"local-dir:{folder}")
    assert torch.equal(again.lm_head.weight, source.lm_head.weight)
    nn.init.zeros_(again.lm_head.weight)
    missed = compat.load_checkpoint(again, weights)
    assert not missed.missing_keys
    assert torch.equal(again.lm_head.weight, source.lm_head.weight)


def test_weights_that_dont_fit_are_said(described, model, tmp_path):
    state = {n: t for n, t in model().state_dict().items() if n != "lm_head.weight"}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"w.pt: .*lm_head.weight"):
        compat.create_model(described("mine", CFG), str(tmp_path / "w.pt"))
    winged = described("mine", CFG | {"vision_cfg": {"wings": 2}})
    with pytest.raises(CheckpointError, match="describes no GenLIP model: .*wings"):
        compat.create_model(winged, load_weights=False)
    with pytest.raises(CheckpointError, match="no weights were given"):
        compat.create_model("naflexgenlip_test", require_pretrained=True)


def test_open_clips_configurations():
    listed = set(compat.list_models())
    assert {"naflexgenlip_so16", "genlip_ref_g16", "clip_genlip_fixed_ref_l16"} <= listed
    assert "naflexgenlip_b16" in compat.factory._MODEL_CONFIGS
    cfg = compat.get_model_config("naflexgenlip_ref_l16")
    assert cfg["genlip_cfg"]["intermediate_size"] == 2752
    assert compat.get_model_config("genlip_ref_l16")["vision_cfg"]["genlip_naflex"] is False
    made = compat.create_model("naflexgenlip_test", load_weights=False, force_naflex_vision=True)
    assert made.traits == GENLIP_TRAITS
    assert made.trunk.ln_post.weight.eq(1).all()
    assert not made.text_embed.weight[made.pad_id].any()
    assert 0.018 < made.lm_head.weight.std() < 0.022


# A CLIP model with its tower.

CLIP = {
    "embed_dim": 8,
    "custom_text": True,
    "vision_cfg": CFG["vision_cfg"] | {"pool_type": "avg", "genlip_cfg": TRUNK},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
}


@pytest.mark.parametrize("fixed", [False, True])
def test_a_clip_model_starts_from_the_authors_tower(model, described, tmp_path, fixed):
    source = model()
    torch.save(authors(source), tmp_path / "w.pt")
    name = described("mine-clip", fixed_cfg(CLIP) if fixed else CLIP)
    with pytest.warns(UserWarning, match="randomly"):
        made = compat.create_model(name, pretrained_image_path=str(tmp_path / "w.pt"))
    kind = GenLipVisualAdapter if fixed else NaFlexGenLipVisualAdapter
    assert type(made.visual) is kind
    assert torch.equal(made.visual.proj.weight, source.out_proj.weight)
    assert made.visual.patch_embed.proj.weight.ndim == (4 if fixed else 2)
    images = torch.stack([pictures()[0]] * 2)
    with torch.no_grad():
        vectors = made.encode_image(images)
        source.visual.proj.load_state_dict(source.out_proj.state_dict())
        torch.testing.assert_close(vectors, source.encode_image(patches(images)))
        ours = made.clip.image(made.pixels(images)).pooled
        torch.testing.assert_close(vectors, ours, atol=1e-5, rtol=1e-5)
        if not fixed:
            torch.testing.assert_close(made.encode_image(patches(images)), vectors)
            columns = packed(patches(images), PATCH)
            torch.testing.assert_close(made.encode_image(columns), vectors)
            torch.testing.assert_close(made.pixels(patches(images)), columns)
    if fixed:
        with pytest.raises(ConfigError, match="squares of pixels"):
            made.encode_image(patches(images))
    assert made.traits.image_input is (InputMode.FIXED if fixed else InputMode.NAFLEX)
    assert "visual.trunk.layers.1.self_attn.q_proj.weight" in made.state_dict()
    made.set_grad_checkpointing(True, impl="inline")
    assert made.visual.trunk.grad_checkpointing is True
    made.lock_image_tower()
    assert not any(p.requires_grad for p in made.visual.parameters())
    assert len(blocks_of(made)) == 3


def test_a_tower_that_drops_patches_stands_as_diptychs(described):
    name = described("mine-clip", CLIP)
    made = compat.create_model(name, load_weights=False, force_patch_dropout=0.5)
    assert not isinstance(made.visual, NaFlexGenLipVisualAdapter)
    assert made.visual.tower.drop.share == 0.5


def test_groups_are_locked_from_the_input_on():
    cfg = CLIPVisionCfg(image_size=8, patch_size=4, pool_type="avg", genlip_cfg=TRUNK)
    tower = _build_vision_tower(8, cfg)
    groups = tower.layer_groups()
    assert [name for name, _ in groups] == ["embeddings", "layer.0", "layer.1", "proj"]
    assert groups[2][1] == [tower.trunk.layers[1], tower.trunk.ln_post]
    tower.lock(unlocked_groups=2)
    trained = {n.split(".")[0] for n, p in tower.named_parameters() if p.requires_grad}
    assert trained == {"trunk", "proj"}
    assert not any(p.requires_grad for p in tower.trunk.layers[0].parameters())
    bare = _build_vision_tower(16, cfg)
    assert [name for name, _ in bare.layer_groups()][-1] == "layer.1"


def test_patches_of_what_isnt_patches():
    columns = packed(patches(pictures()), PATCH)
    found = patches_of(columns, PATCH)
    for name, tensor in patches(pictures()).items():
        own = (
            found[name] if name != "patch_coord" else found[name] * found["patch_valid"][..., None]
        )
        assert torch.equal(own, tensor), name


# Training.


@pytest.fixture
def batch():
    return {"image": patches(pictures()), "text": WORDS, "text_valid": WORDS != PAD}


def test_a_task_trains_on_captions(model, batch):
    made = model()
    args = SimpleNamespace(distill=False, siglip=False, caption_z_loss_weight=0.1)
    task = compat.create_task(args, model=made).train()
    assert type(task) is compat.GenLipTask
    assert (task.pad_id, task.batch_size(batch), task.primary_key) == (PAD, 3, "image")
    losses, report = task(batch)
    wanted = losses["caption_loss_ce"] + 0.1 * losses["caption_loss_z"]
    torch.testing.assert_close(losses["loss"], wanted)
    assert report == {}
    assert not losses["caption_loss_ce"].requires_grad
    task.clamp_logit_scale()
    with torch.no_grad():
        assert task.eval()({**batch, "text_valid": None})["loss"].item() == losses["loss"].item()
    apart = compat.GenLipTask(made, fused_loss=False, caption_z_loss_weight=0.1)
    assert type(apart.loss) is GenLipLoss
    torch.testing.assert_close(apart.training_forward(batch)[0]["loss"], losses["loss"])
    assert compat.GenLipTask(made, loss=GenLipLoss()).fused_loss is False
    dummy = task.create_dummy_batch()
    assert dummy["text_valid"].all()
    assert [name for name, _ in made.fsdp_shard_modules()] == ["trunk.layers.0", "trunk.layers.1"]


def test_a_loss_that_a_task_cant_make_is_refused(model, batch):
    with pytest.raises(ConfigError, match="caption_z_loss_weight=-0.1 must be non-negative"):
        compat.GenLipTask(model(), caption_z_loss_weight=-0.1, default_loss=False)

    class Silent(nn.Module):
        pad_id = PAD

        def forward(self, **given):
            return {"caption_loss_ce": torch.ones(())}

    with pytest.raises(ConfigError, match="needs caption_loss_z of the model"):
        compat.GenLipTask(Silent(), caption_z_loss_weight=0.1).training_forward(batch)
    with pytest.raises(ConfigError, match="distillation"):
        compat.create_task(SimpleNamespace(distill=True), model=model())


def test_captions_are_learned(model, batch):
    torch.manual_seed(0)
    made = NaFlexGenLip(**CFG)
    task = compat.GenLipTask(made).train()
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
    found = []
    for _ in range(40):
        losses, _ = task(batch)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        found.append(losses["loss"].item())
    assert found[-1] < 0.5 * found[0]


def test_captions_end_with_a_turns_end(monkeypatch):
    transformers = pytest.importorskip("transformers")

    class Words:
        pad_token_id, eos_token_id, sep_token_id = 9, 8, None
        bos_token_id = cls_token_id = None

        def __len__(self):
            return 10

        def encode(self, text, add_special_tokens):
            return [7, 8] if text == "<|im_end|>\n" else []

        def __call__(self, texts, add_special_tokens):
            return {"input_ids": [list(range(1, 1 + len(text))) for text in texts]}

    asked = {}

    def from_pretrained(name, **options):
        asked.update(options)
        return Words()

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", from_pretrained)
    tokenizer = compat.get_tokenizer("naflexgenlip_ref_l16", context_length=6)
    assert type(tokenizer) is HFTokenizer
    assert asked["pad_token"] == "<|endoftext|>"
    assert tokenizer("abc", pad=False)[0].tolist() == [1, 2, 3, 7, 8]
    ids, valid = tokenizer("abc", output_mask=True)
    assert ids.tolist() == [[1, 2, 3, 7, 8, 9]]
    assert valid.sum() == 5
    with pytest.warns(UserWarning, match="1 of 1"):
        assert tokenizer("abcdef").tolist() == [[1, 2, 3, 4, 7, 8]]
    with pytest.raises(ConfigError, match="strip_sep_token"):
        HFTokenizer("words", tokenizer_mode="genlip", strip_sep_token=True)


def test_the_loop_trains_and_evaluates_its_task():
    torch.manual_seed(0)
    task = GenLipTask(GenLip(8, fixed_cfg()["vision_cfg"], TEXT, TRUNK))
    rows = {"image": torch.rand(3, 3, 8, 8), "text": WORDS}
    data = {each: SimpleNamespace(dataloader=Loader([rows] * 2)) for each in ("train", "val")}
    args = options(epochs=1, val_frequency=1)
    wanted = task.eval().eval_forward(rows)["caption_loss_ce"].item()
    found = evaluate(task, data, 1, args)
    assert found == {"val_generative_loss": pytest.approx(wanted), "num_samples": 6, "epoch": 1}
    state = TrainState(task, torch.optim.SGD(task.parameters(), lr=0.5))
    train_one_epoch(state, train_data(Loader([rows] * 4)), args)
    assert evaluate(task, data, 1, args)["val_generative_loss"] < wanted
