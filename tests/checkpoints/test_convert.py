"""A conversion is proven before it is called done."""

from dataclasses import replace

import pytest
import torch

from diptych.checkpoints import convert, detect, load_model
from diptych.checkpoints.convert import targets
from diptych.errors import CheckpointError, UnknownNameError
from diptych.families.clip.layouts import open_clip
from diptych.weights.mapping import Table
from diptych.weights.native import save_model
from diptych.weights.read import read_weights
from tests.families.eva.small import MODELS

OF_ANY_TOWERS = [to for to in targets() if to not in ("eva", "declip", "unireplknet")]


@pytest.mark.parametrize("first", OF_ANY_TOWERS)
@pytest.mark.parametrize("second", OF_ANY_TOWERS)
def test_any_to_any_is_bit_equal(first, second, tmp_path, random_model, vit):
    model = random_model(vit)
    save_model(tmp_path / "start", model)
    convert(tmp_path / "start", first, tmp_path / "first")
    convert(tmp_path / "first", second, tmp_path / "second")
    assert detect(tmp_path / "second") == {"openai": "open-clip"}.get(second, second)
    loaded, meta = load_model(tmp_path / "second")
    assert meta.config == replace(vit, logit_scale=meta.config.logit_scale)
    state = model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())


def test_eva_towers_go_through_every_layout_of_theirs(tmp_path, random_model):
    config = MODELS["eva02-b"]
    model = random_model(config)
    source = save_model(tmp_path / "start", model)
    for number, to in enumerate(("eva", "transformers", "native", "transformers", "eva")):
        source = convert(source, to, tmp_path / str(number), config=config)
    state = model.state_dict()
    loaded = load_model(source, config=config).model.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_other_towers_are_not_evas(tmp_path, random_model, vit):
    save_model(tmp_path / "in", random_model(vit))
    with pytest.raises(
        CheckpointError, match="can't be written as eva: the layout is that of EVA's towers"
    ):
        convert(tmp_path / "in", "eva", tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


def test_a_wrong_table_is_caught(tmp_path, random_model, vit, monkeypatch):
    save_model(tmp_path / "in", random_model(vit))
    rules = open_clip.export_table

    def swapped(config):
        """The two norms of each block change places."""
        first, *others = rules(config).rules
        names = {rule.ours: rule for rule in others}
        one, two = names["image.blocks.#.norm_1.*"], names["image.blocks.#.norm_2.*"]
        kept = [rule for rule in others if rule not in (one, two)]
        both = replace(one, ours=two.ours), replace(two, ours=one.ours)
        return Table(rules=(first, *kept, *both))

    monkeypatch.setattr(open_clip, "export_table", swapped)
    with pytest.raises(CheckpointError, match="same weights"):
        convert(tmp_path / "in", "open-clip", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_wrong_configuration_is_caught(tmp_path, random_model, vit, monkeypatch):
    save_model(tmp_path / "in", random_model(vit))
    written = open_clip.to_json

    def quick(config):
        content = written(config)
        content["model_cfg"]["quick_gelu"] = True
        return content

    monkeypatch.setattr(open_clip, "to_json", quick)
    with pytest.raises(CheckpointError, match="same features"):
        convert(tmp_path / "in", "open-clip", tmp_path / "out")


def test_what_cannot_be_asked(tmp_path, random_model, vit):
    save_model(tmp_path / "in", random_model(vit))
    with pytest.raises(UnknownNameError, match="did you mean 'open-clip'"):
        convert(tmp_path / "in", "openclip", tmp_path / "out")
    with pytest.raises(CheckpointError, match="exists"):
        convert(tmp_path / "in", "open-clip", tmp_path / "in")


def test_the_dtype_is_kept(tmp_path, random_model, vit):
    save_model(tmp_path / "in", random_model(vit).to(torch.bfloat16))
    convert(tmp_path / "in", "transformers", tmp_path / "out")
    tensors, _ = read_weights(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
