"""Runs whose towers start from published weights, each from its own file."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

import diptych
from diptych.checkpoints import load_model
from diptych.config import ModelConfig, OptimConfig, TokenizerConfig, TowerOptions
from diptych.config.serialize import to_dict
from diptych.distributed import Peers
from diptych.errors import CheckpointError, ConfigError
from diptych.families.eva import EvaConfig
from diptych.families.eva.layouts import eva
from diptych.models import build
from diptych.training import fit
from diptych.training.assemble import assemble
from diptych.weights.native import save_model
from diptych.weights.resize import stretch_positions
from tests.training.runs import MODEL, assert_same_bits, small_run

TOWER = EvaConfig(
    image_size=16,
    patch_size=8,
    width=32,
    layers=2,
    heads=2,
    mlp_width=40,
    mlp="swiglu",
    mlp_norm=True,
)
GATED = replace(MODEL, image=replace(TOWER, attention_norm=True, rotary_grid=16))


@pytest.fixture
def files(tmp_path):
    """An image tower as masked-image pretraining leaves it (without norms inside attention, with a
    mask token), and a whole model of another image tower."""
    torch.manual_seed(1)
    donor = build(replace(GATED, image=replace(GATED.image, attention_norm=False)))
    foreign = eva.export_table(donor.image.config).to_foreign(donor.state_dict())
    image = {
        name.removeprefix("visual."): t for name, t in foreign.items() if name.startswith("visual.")
    }
    torch.save(image | {"mask_token": torch.zeros(1, 1, 32)}, tmp_path / "image.pt")
    text = build(MODEL)
    save_model(tmp_path / "text", text)
    return tmp_path / "image.pt", donor, tmp_path / "text", text


def started(tmp_path, files, **changes):
    image, _, text, _ = files
    towers = {"image": TowerOptions(init=str(image)), "text": TowerOptions(init=str(text))}
    return small_run(tmp_path / "run", model=ModelConfig(custom=GATED, **towers), **changes)


def test_each_tower_starts_from_its_file(tmp_path, files):
    _, donor, _, text = files
    state, _, notes = assemble(started(tmp_path, files), Peers())
    ours = state.model.state_dict()
    norms = [name for name in ours if ".attention.norm." in name and name.startswith("image.")]
    assert len(norms) == 4
    for name, tensor in ours.items():
        if name in norms:
            assert torch.equal(tensor, torch.full_like(tensor, float(name.endswith("weight"))))
        elif name.startswith("image."):
            assert torch.equal(tensor, donor.state_dict()[name]), name
        elif name.startswith("text."):
            assert torch.equal(tensor, text.state_dict()[name]), name
    assert any("mask_token is not used" in note for note in notes)
    assert any("no norms inside attention" in note for note in notes)


def test_the_run_trains_and_resumes_when_the_files_are_gone(tmp_path, files, capsys):
    optim = replace(started(tmp_path, files).optim, schedule="constant")
    run = started(tmp_path, files, optim=optim)
    whole = fit(replace(run, out=str(tmp_path / "whole")))
    assert "mask_token is not used" in capsys.readouterr().err
    fit(replace(run, steps=8), progress=False)
    files[0].unlink()
    assert_same_bits(fit(run, resume=True, progress=False), whole)
    assert load_model(tmp_path / "run").config == GATED


def test_a_file_of_another_tower_is_refused(tmp_path, files):
    run = started(tmp_path, files)
    wrong = replace(
        run, model=replace(run.model, custom=replace(GATED, image=replace(GATED.image, layers=3)))
    )
    with pytest.raises(CheckpointError, match="the image tower can't start from"):
        fit(wrong, progress=False)


def test_frozen_patches_stay(tmp_path):
    run = small_run(
        tmp_path / "run", model=ModelConfig(custom=MODEL, image=TowerOptions(freeze_patches=True))
    )
    state, _, _ = assemble(run, Peers())
    before = {name: tensor.clone() for name, tensor in state.model.image.state_dict().items()}
    after = load_model(fit(run, progress=False)).model.image.state_dict()
    assert torch.equal(before["patch.weight"], after["patch.weight"])
    assert not torch.equal(before["positions"], after["positions"])
    with pytest.raises(ConfigError, match="freeze_patches"):
        assemble(
            replace(run, model=ModelConfig(custom=MODEL, text=TowerOptions(freeze_patches=True))),
            Peers(),
        )


def test_the_tokenizer_beside_the_weights_is_the_runs(tmp_path):
    """Its name may be nobody's, or another's by now; nothing is fetched."""
    pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "circle", "a", "of"]
    tokenizer = TokenizerConfig(kind="huggingface", name="nobody/nothing")
    text = replace(MODEL.text, vocab_size=len(words))
    folder = tmp_path / "model"
    save_model(folder, build(replace(MODEL, text=text, tokenizer=tokenizer)))
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    run = small_run(tmp_path / "run", model=ModelConfig(init=str(folder)), steps=1)
    kept = diptych.load(fit(run, progress=False)).tokenizer
    assert [kept.decode([i]) for i in range(5, 9)] == words[5:]
    # Gone on with, it is the checkpoint's, wherever that once came from.
    shutil.rmtree(folder)
    again = diptych.load(fit(replace(run, steps=2), resume=True, progress=False)).tokenizer
    assert again(["a red circle"]).tolist() == kept(["a red circle"]).tolist()


def test_a_models_name_may_be_a_file_that_describes_it(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"format": "diptych", "config": to_dict(MODEL)}))
    run = small_run(tmp_path / "run", model=ModelConfig(name=str(file)))
    assert assemble(run, Peers())[0].model.config == MODEL


def test_what_decays_may_be_told_by_dimensions(tmp_path):
    """Position tables, too; class tokens and other vectors don't, whatever they are called."""
    names = dict[str, set[str]]()
    for decayed in ("matrices", "tensors"):
        optim = OptimConfig(decayed=decayed)
        state, _, _ = assemble(small_run(tmp_path / "run", optim=optim), Peers())
        groups = [group.names for group in state.groups if group.weight_decay]
        names[decayed] = set().union(*groups)
    assert names["tensors"] - names["matrices"] == {"model.image.positions", "model.text.positions"}
    assert names["matrices"] < names["tensors"]


def test_a_run_takes_longer_texts_than_the_model_that_it_starts_from(tmp_path):
    model = build(replace(MODEL, text=replace(MODEL.text, context_length=24)))
    save_model(tmp_path / "short", model)
    options = ModelConfig(init=str(tmp_path / "short"), text=TowerOptions(context=32))
    found = assemble(small_run(tmp_path / "run", model=options), Peers())[0].model
    positions = model.text.state_dict()["positions"]
    assert found.config.text.context_length == 32
    assert torch.equal(found.text.state_dict()["positions"], stretch_positions(positions, 32))
    with pytest.raises(ConfigError, match="--model.image.context 32: an image tower reads no"):
        ModelConfig(image=TowerOptions(context=32))
