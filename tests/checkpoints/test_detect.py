"""Whose weights a file holds, whatever training code put around them."""

import pytest
import torch

from diptych.checkpoints import detect, load_image_tower, load_model
from diptych.checkpoints.prefixes import tower
from diptych.errors import AssumptionWarning, CheckpointError
from diptych.families.clip.layouts import open_clip

PREFIXES = [
    "model.",
    "clip_model.",
    "module.model.",
    "_orig_mod.module.",
    "_fsdp_wrapped_module.",
    "base_model.model.",
    "net.clip.",
]


@pytest.fixture
def foreign(vit, random_model):
    return open_clip.export_table(vit).to_foreign(random_model(vit).state_dict())


@pytest.fixture
def own(vit, random_model):
    return random_model(vit).state_dict()


def same(path, own, config):
    state = load_model(path, config=config).model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in own.items())


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_names(tmp_path, foreign, own, vit, prefix):
    wrapped = {prefix + name: tensor for name, tensor in foreign.items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "w.ckpt")
    same(tmp_path / "w.ckpt", own, vit)


def test_what_stands_beside_the_model_stays_behind_and_is_listed(tmp_path, foreign, vit):
    wrapped = {f"model.{name}": tensor for name, tensor in foreign.items()}
    torch.save(wrapped | {"classifier.weight": torch.ones(2)}, tmp_path / "w.pt")
    assert load_model(tmp_path / "w.pt", config=vit).provenance["unused"] == ["classifier.weight"]


def test_two_models_in_one_file_are_not_chosen_between(tmp_path, foreign):
    student = {f"student.{name}": tensor for name, tensor in foreign.items()}
    teacher = {f"teacher.{name}": tensor for name, tensor in foreign.items()}
    torch.save(student | teacher, tmp_path / "w.pt")
    with pytest.raises(
        CheckpointError, match=r"several models \(student\., teacher\.\); say which: .*#student"
    ):
        load_model(tmp_path / "w.pt")


def test_the_average_beside_the_weights_is_said_not_to_be_read(tmp_path, foreign, own, vit):
    average = {name: tensor * 2 for name, tensor in foreign.items()}
    torch.save({"model_ema": average, "model": foreign}, tmp_path / "w.pt")
    with pytest.warns(
        AssumptionWarning, match="this is model, not model_ema; to read another: .*#model_ema"
    ):
        same(tmp_path / "w.pt", own, vit)


def _prefixed(prefix, tensors, factor=1.0):
    return {prefix + name: tensor * factor for name, tensor in tensors.items()}


CHOICES = {
    "container": (
        lambda w: {"model": _prefixed("", w, 2), "model_ema": w},
        "model_ema",
        "no weights 'nothing', only model, model_ema$",
    ),
    "inner container": (
        lambda w: {"model": _prefixed("", w, 2), "ema": {"module": w}},
        "ema.module",
        "no weights 'nothing', only model, ema.module$",
    ),
    "in a list": (
        lambda w: [_prefixed("", w, 2), w],
        "1",
        r"several state dicts \(0, 1\); say which: .*w.pt#0$",
    ),
    "prefix": (
        lambda w: _prefixed("student.", w, 2) | _prefixed("teacher.", w),
        "teacher",
        "no weights 'nothing', only student, teacher$",
    ),
    "prefix in a container": (
        lambda w: {
            "model": _prefixed("", w, 2),
            "ema": _prefixed("online_model.", w, 2) | _prefixed("ema_model.", w),
        },
        "ema.ema_model",
        "no weights 'nothing', only model, ema$",
    ),
    "average's": (
        lambda w: _prefixed("net.", w, 2) | _prefixed("ema_model.", w),
        "ema_model",
        "no weights 'nothing', only net, ema_model$",
    ),
}


@pytest.mark.parametrize("content", CHOICES)
def test_of_several_versions_one_is_chosen_by_its_key(tmp_path, foreign, own, vit, content):
    make, key, names = CHOICES[content]
    torch.save(make(foreign), tmp_path / "w.pt")
    same(f"{tmp_path / 'w.pt'}#{key}", own, vit)
    with pytest.raises(CheckpointError, match=names):
        load_model(f"{tmp_path / 'w.pt'}#nothing", config=vit)


def test_an_average_behind_other_words_is_said_and_each_of_its_versions_is_named(
    tmp_path, foreign, own, vit
):
    inside = _prefixed("online_model.", foreign) | _prefixed("ema_model.", foreign, 2)
    torch.save({"model": foreign, "ema": inside}, tmp_path / "w.pt")
    with pytest.warns(AssumptionWarning, match="this is model, not ema; to read another: .*#ema$"):
        same(tmp_path / "w.pt", own, vit)
    with pytest.warns(AssumptionWarning, match=r"not ema_model; .*/w\.pt#ema\.ema_model$"):
        same(f"{tmp_path / 'w.pt'}#ema", own, vit)


def test_a_key_of_a_file_that_holds_one_set_is_to_be_left_out(tmp_path, foreign, vit):
    torch.save(foreign, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="only one set without a name: leave #ema out"):
        load_model(f"{tmp_path / 'w.pt'}#ema", config=vit)


@pytest.mark.parametrize("average", ["ema_model.", "model_ema.module."])
def test_a_moving_average_beside_in_one_state_dict_isnt_read_and_is_said(
    tmp_path, foreign, own, vit, average
):
    torch.save(
        _prefixed("model.", foreign) | _prefixed(average, foreign, 2) | {"n": torch.ones(1)},
        tmp_path / "w.pt",
    )
    with pytest.warns(AssumptionWarning, match=f"this is model, not {average[:-1]}; to read"):
        same(tmp_path / "w.pt", own, vit)


def test_the_counter_of_torchs_average_is_no_weight(tmp_path, foreign, own, vit):
    torch.save(_prefixed("module.", foreign) | {"n_averaged": torch.tensor(3)}, tmp_path / "w.pt")
    same(tmp_path / "w.pt", own, vit)


def test_weights_beside_what_else_a_tuple_holds(tmp_path, foreign, own, vit):
    torch.save((foreign, {"epoch": 3}), tmp_path / "w.pt")
    same(tmp_path / "w.pt", own, vit)


@pytest.mark.parametrize("prefix", ["", "clip.", "module."])
def test_our_own_state_dict(tmp_path, own, vit, prefix):
    torch.save({prefix + name: tensor for name, tensor in own.items()}, tmp_path / "w.pt")
    same(tmp_path / "w.pt", own, vit)
    assert detect(tmp_path / "w.pt") == "native-weights"
    with pytest.raises(CheckpointError, match="no published model .* give config="):
        load_model(tmp_path / "w.pt")


@pytest.mark.parametrize("prefix", ["", "visual.", "model.visual.", "module."])
def test_a_tower_behind_a_prefix(tmp_path, foreign, vit, prefix):
    alone = {
        prefix + name.removeprefix("visual."): tensor
        for name, tensor in foreign.items()
        if name.startswith("visual.")
    }
    torch.save(alone, tmp_path / "w.pt")
    assert load_image_tower(tmp_path / "w.pt", config=vit.image).config == vit.image


def test_a_tower_behind_open_clips_own_word_is_of_a_layout_that_tells_how_it_is_built(foreign):
    names = [name for name in foreign if name.startswith("visual.")]
    found = tower(names, "image")
    assert found is not None
    assert found.tower_config is not None


@pytest.mark.parametrize("outer", ["", "model.", "net.clip."])
def test_a_model_that_lost_the_name_which_tells_its_text_tower_is_no_tower_alone(
    tmp_path, foreign, vit, outer
):
    """As one process's part of a model that is shared out."""
    lost = {outer + name: t for name, t in foreign.items() if name != "token_embedding.weight"}
    torch.save(lost, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="of the text tower only parts"):
        load_model(tmp_path / "w.pt", config=vit)
    beside = {outer + name: t for name, t in foreign.items() if name.startswith("visual.")}
    beside |= {"logit_scale": foreign["logit_scale"], "head.weight": torch.ones(3, 48)}
    torch.save(beside, tmp_path / "w.pt")
    assert load_model(tmp_path / "w.pt", config=vit).config.missing == "text"
