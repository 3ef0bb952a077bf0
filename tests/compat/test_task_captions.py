"""Tasks of models that write captions, of pictures cut into patches, and compiled ones, by what
open_clip's own tests ask of them."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diptych import compat, models
from diptych.compat.faces.naflex import packed
from diptych.compat.naflex_config import NaFlexDataConfig
from diptych.compat.open_clip_train import train
from diptych.compat.open_clip_train.steps import Step
from diptych.compat.task.base_task import TrainingTask
from diptych.config import ClipConfig, PreprocessConfig
from diptych.errors import ConfigError
from diptych.families.siglip import NaflexImageConfig, SiglipTextConfig
from diptych.inputs.native import pack
from tests.compat.peers import ours_of
from tests.compat.sections import TEXT, VISION
from tests.compat.test_train_loop import options

EVERY = {"output_tokens": True}


def coca():
    torch.manual_seed(0)
    text = TEXT | EVERY | {"embed_cls": True}
    image = VISION | EVERY | {"attentional_pool": True, "attn_pooler_heads": 2}
    return compat.CoCa(32, multimodal_cfg=TEXT, text_cfg=text, vision_cfg=image).double()


def pairs(rows=4):
    torch.manual_seed(1)
    text = torch.randint(1, 60, (rows, 8))
    text[1, 5:] = 0
    return {"image": torch.rand(rows, 3, 32, 32).double(), "text": text}


def test_captions_are_the_next_tokens_but_padding():
    model, batch = coca(), pairs()
    task = compat.CoCaTask(model, caption_loss_weight=3.0, clip_loss_weight=0.0).train()
    losses, report = task(batch)
    logits = model(**batch)["logits"]
    labels = batch["text"][:, 1:].masked_fill(batch["text"][:, 1:] == 0, -100)
    wanted = F.cross_entropy(logits.transpose(1, 2), labels)
    torch.testing.assert_close(losses["caption_loss"], 3 * wanted)
    assert losses["loss"] == losses["contrastive_loss"] + losses["caption_loss"]
    assert list(report) == ["logit_scale"]
    masked = {**batch, "text_valid": batch["text"] > 0}
    assert (task.caption_labels([masked]) == labels).all()


def test_a_model_that_gives_logits_of_all_tokens():
    class Writes(nn.Module):
        pad_id = 7

        def forward(self, image, text):
            width = torch.ones(len(text), 4)
            scale, logits = torch.tensor(1.0), torch.zeros(*text.shape, 9)
            logits[..., 3] = 1.0
            found = {"image_features": width, "text_features": width, "logit_scale": scale}
            return found | {"logits": logits, "logit_bias": scale}

    text = torch.tensor([[1, 3, 7], [2, 7, 7]])
    task = compat.CoCaTask(Writes(), caption_loss_weight=1.0).train()
    losses, report = task(torch.zeros(2, 3, 4, 4), text)
    assert losses["caption_loss"].item() == pytest.approx(math.log(math.e + 8) - 1)
    assert list(report) == ["logit_scale", "logit_bias"]
    data = {"val": SimpleNamespace(dataloader=[{"image": torch.zeros(2, 3, 4, 4), "text": text}])}
    found = train.evaluate(task, data, 1, options())
    assert found["val_generative_loss"] == pytest.approx(losses["caption_loss"].item())


def test_captions_of_several_batches_are_one():
    model, whole = coca(), pairs()
    task, args = compat.CoCaTask(model).train(), options(accum_freq=2)
    losses, _ = Step(task, None, args).gradients([whole])
    wanted = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    parts = [{name: each[list(rows)] for name, each in whole.items()} for rows in ((0, 2, 3), (1,))]
    again, _ = Step(task, None, args).gradients(parts)
    torch.testing.assert_close(again, losses)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], msg=name)
    short = {**parts[1], "text": parts[1]["text"][:, :6]}
    assert task.caption_labels([parts[0], short]).shape == (4, 7)
    filled = task.concat_accum_features({"logits": [torch.ones(3, 7, 2), torch.ones(1, 5, 2)]})
    assert filled["logits"].shape == (4, 7, 2)
    assert not filled["logits"][3, 5:].any()


def test_arguments_choose_captions_by_the_model():
    words = {"coca_caption_loss_weight": 3.5, "coca_contrastive_loss_weight": 0.25}
    args = SimpleNamespace(model="hf-hub:a/b", caption_z_loss_weight=1e-4, **words)
    task = compat.create_task(args, model=nn.DataParallel(coca()))
    assert isinstance(task, compat.CoCaTask)
    assert (task.loss.caption_loss_weight, task.loss.clip_loss_weight) == (3.5, 0.25)
    assert (task.loss.z_loss_weight, task.caption_z_loss_weight) == (1e-4, 1e-4)
    with pytest.raises(ConfigError, match="not supported for generative models"):
        compat.create_task(SimpleNamespace(distill=True), model=coca())


@pytest.mark.parametrize(
    ("words", "kept"),
    [({}, True), ({"torchcompile": True}, False)]
    + [
        ({"torchcompile": True, "torchcompile_strategy": how}, how == "model")
        for how in ("model", "step")
    ],
)
def test_labels_are_not_kept_where_the_loss_is_compiled(words, kept):
    assert compat.create_loss(SimpleNamespace(**words)).cache_labels is kept


def naflex():
    torch.manual_seed(0)
    sizes = {"width": 16, "layers": 1, "heads": 2, "mlp_width": 16}
    return ClipConfig(
        image=NaflexImageConfig(image_size=16, patch_size=4, **sizes),
        text=SiglipTextConfig(vocab_size=64, context_length=8, **sizes),
        embed_dim=16,
        preprocess=PreprocessConfig(resize="native", patches=9, patch_size=4),
    )


def patches_of(pixels):
    """As open_clip's loader cuts two pictures of 3 x 2 and of 2 x 2 patches."""
    found = torch.zeros(2, 6, 48)
    coordinates, valid = torch.zeros(2, 6, 2).long(), torch.zeros(2, 6).bool()
    for row, (rows, columns) in enumerate(((3, 2), (2, 2))):
        for place in range(rows * columns):
            y, x = divmod(place, columns)
            cut = pixels[row][:, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
            found[row, place] = cut.permute(1, 2, 0).flatten()
            coordinates[row, place], valid[row, place] = torch.tensor([y, x]), True
    return {"patches": found, "patch_coord": coordinates, "patch_valid": valid, "seq_len": 6}


def test_patches_are_the_pictures_that_our_tower_takes():
    model = compat.OpenClipModel(models.build(naflex()), output_dict=True)
    levels = [torch.randint(256, (3, *size)).byte() for size in ((12, 8), (8, 8))]
    image = patches_of([each.float() for each in levels])
    ours = torch.stack([pack(each, 4, 6) for each in levels]).float()
    assert torch.equal(packed(image, 4), ours)
    batch = {"image": image, "text": torch.ones(2, 8).long()}
    task = compat.CLIPTask(model).train()
    losses, _ = task(batch)
    assert losses["loss"] == task({**batch, "image": ours})[0]["loss"]
    losses["loss"].backward()
    assert model.visual.trunk.embeds.proj.weight.grad is not None
    assert task.batch_size(batch) == 2


def test_a_batch_of_nothing_is_of_patches():
    model = compat.OpenClipModel(models.build(naflex()), output_dict=True)
    task = compat.CLIPTask(model)
    assert task.naflex_eval_config is None
    task.set_naflex_data_config(NaFlexDataConfig.resolve(patch_sizes=[4], seq_lens=[6, 9]))
    assert task.naflex_eval_config == ((4, 4), 9)
    batch = task.create_dummy_batch(batch_size=2)
    assert batch["image"]["patches"].shape == (2, 9, 48)
    assert task.train()(batch)[0]["loss"].isfinite()
    varied = NaFlexDataConfig.resolve(patch_sizes=[4, 8], seq_lens=[6])
    assert varied.eval_patch_shape == (48,)
    assert varied.is_spatial((4, 4))
    known = NaFlexDataConfig.resolve(patch_sizes=[4, 8], seq_lens=[6], model_patch_size=4)
    assert known.eval_patch_shape == (48,)
    resized = NaFlexDataConfig.resolve(patch_sizes=[8], seq_lens=[6], model_patch_size=4)
    assert resized.eval_patch_shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"patch_sizes": [0]}, "a NaFlex patch size must be 1 or more"),
        ({"seq_lens": [4], "seq_len_probs": [1.0, 1.0]}, "must match seq-lens length, 1"),
        ({"patch_size_probs": [-1.0]}, "non-negative"),
        ({"batch_divisor": 0}, "batch divisor must be 1 or more"),
    ],
)
def test_patches_that_cannot_be_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        NaFlexDataConfig.resolve(**options)


def test_patches_that_a_tower_does_not_take_are_refused():
    image = patches_of([torch.zeros(3, 12, 8), torch.zeros(3, 8, 8)])
    with pytest.raises(ConfigError, match="patches of 48 numbers; this tower takes 8 x 8"):
        packed(image, 8)
    image["patch_coord"][0, 1] = 7
    with pytest.raises(ConfigError, match="must fill a grid"):
        packed(image, 4)
    with pytest.raises(ConfigError, match="squares of pixels"):
        ours_of("timm").encode_image(image)


class Doubles(TrainingTask):
    data_keys = ("x",)

    def training_forward(self, batch):
        return {"loss": self.trainable_module(batch["x"]).sum()}, {}


class Blocks(nn.Sequential):
    def fsdp_shard_modules(self):
        return list(self.named_children())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # which dynamo itself asks for
def test_a_task_is_compiled():
    task = Doubles(nn.Linear(3, 2))
    assert task.compile(backend="eager", mode=None) is task
    task.train()(torch.ones(4, 3))[0]["loss"].backward()
    assert task.batch_size({"x": torch.ones(4, 3)}) == 4
    task.eval().compile(target="model", backend="eager")
    assert compat.get_model_from_task(task).weight.grad is not None
    blocks = Doubles(Blocks(nn.Linear(3, 3), nn.Linear(3, 2)))
    blocks.compile(target="blocks", backend="eager")
    names = blocks.state_dict()["state_dict"].keys()
    assert not any("_orig_mod" in name for name in names)
    assert blocks.train()(torch.ones(4, 3))[0]["loss"].isfinite()


def test_what_cannot_be_compiled_is_refused():
    for target, said in (("blocks", "nobody knows"), ("step", "choose task, model or blocks")):
        with pytest.raises(ConfigError, match=said):
            Doubles(nn.Linear(3, 2)).compile(target=target)
