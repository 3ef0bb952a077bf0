"""Tables are bijections, and strict."""

import pytest
import torch

from diptych.errors import CheckpointError
from diptych.families.clip.layouts import openai, transformers_names
from diptych.families.eva.layouts import eva
from diptych.families.eva.layouts import image as eva_image
from diptych.families.eva.layouts import transformers as eva_transformers
from diptych.weights.mapping import FUSED, SCALAR, TRANSPOSED, Rule, Table, check_fit, rows

TABLE = Table(
    rules=(
        Rule("scale", "logit_scale", SCALAR),
        Rule("projection.weight", "proj", TRANSPOSED),
        *rows(
            "blocks.#.", "layers.#.", ("qkv.*", ("q.*", "k.*", "v.*"), FUSED), ("norm.*", "ln.*")
        ),
    ),
    ignored=("*.position_ids",),
)


@pytest.fixture
def foreign():
    parts = {f"layers.{i}.{name}.weight": torch.randn(2, 4) for i in (0, 11) for name in "qkv"}
    return {
        "logit_scale": torch.tensor(2.5),
        "proj": torch.randn(4, 3),
        "layers.11.ln.bias": torch.randn(4),
    } | parts


def test_there_and_back_is_bit_equal(foreign):
    ours = TABLE.to_ours(foreign | {"text.position_ids": torch.arange(3)})
    assert ours["scale"].shape == (1,)
    assert ours["projection.weight"].shape == (3, 4)
    assert torch.equal(
        ours["blocks.11.qkv.weight"],
        torch.cat([foreign[f"layers.11.{name}.weight"] for name in "qkv"]),
    )
    back = TABLE.to_foreign(ours)
    assert back.keys() == foreign.keys()
    assert all(
        torch.equal(back[name], foreign[name]) and back[name].is_contiguous() for name in foreign
    )


def test_order_of_the_file_does_not_matter(foreign):
    ours, reverse = TABLE.to_ours(foreign), TABLE.to_ours(dict(reversed(foreign.items())))
    assert all(torch.equal(ours[name], reverse[name]) for name in ours)


def test_unknown_names_raise_both_ways(foreign):
    extra = {f"adapter.{i}": torch.zeros(1) for i in range(5)}
    with pytest.raises(
        CheckpointError, match=r"adapter.0, adapter.1, adapter.2 and 2 more have no place"
    ):
        TABLE.to_ours(foreign | extra)
    with pytest.raises(
        CheckpointError, match=r"adapter.0, adapter.1, adapter.2 and 2 more can't be expressed"
    ):
        TABLE.to_foreign(extra)


def test_a_missing_part_raises(foreign):
    del foreign["layers.0.k.weight"]
    with pytest.raises(CheckpointError, match=r"blocks.0.qkv.weight can't be made"):
        TABLE.to_ours(foreign)


def test_parts_that_do_not_fit_together_raise(foreign):
    foreign["layers.0.k.weight"] = torch.randn(2, 5)
    with pytest.raises(
        CheckpointError, match=r"blocks.0.qkv.weight can't be made of \[2, 4\], \[2, 5\], \[2, 4\]"
    ):
        TABLE.to_ours(foreign)


def test_what_is_noted_is_allowed_and_told(foreign):
    table = Table(rules=TABLE.rules, ignored=("*.position_ids",), noted=("mask_token", "lm_head.*"))
    extra = {
        "text.position_ids": torch.arange(3),
        "mask_token": torch.zeros(1),
        "lm_head.bias": torch.zeros(1),
    }
    assert table.to_ours(foreign | extra).keys() == TABLE.to_ours(foreign).keys()
    assert table.unused(foreign | extra) == ["mask_token", "lm_head.bias"]


def test_what_a_layout_may_lack_has_a_value(foreign):
    table = Table(rules=TABLE.rules, absent={"scale": torch.tensor([4.5])})
    assert table.to_ours(foreign)["scale"].item() == 2.5
    del foreign["logit_scale"]
    assert table.to_ours(foreign)["scale"].item() == 4.5
    assert table.to_ours(foreign).shapes["scale"].shape == (1,)


def test_check_fit():
    model = {"a": torch.zeros(2, 3), "b": torch.zeros(1)}
    check_fit(model, model)
    with pytest.raises(CheckpointError, match="b is missing"):
        check_fit({"a": model["a"]}, model)
    with pytest.raises(CheckpointError, match="c are not in the model"):
        check_fit(model | {"c": torch.zeros(1)}, model)
    with pytest.raises(CheckpointError, match=r"a is \[3, 2\] where the model has \[2, 3\]"):
        check_fit(model | {"a": torch.zeros(3, 2)}, model)
    with pytest.raises(
        CheckpointError, match=r"b is of torch.int64 where the model has torch.float32"
    ):
        check_fit(model | {"b": torch.zeros(1, dtype=torch.int64)}, model)


@pytest.mark.parametrize(
    "rules",
    [
        (*openai.SCALE, *openai.VIT, *openai.text("")),
        (*openai.SCALE, *openai.RESNET, *openai.text("text.")),
        transformers_names.TABLE.rules,
        eva.table(()).rules,
        eva.table(("visual.blocks.0.attn.q_proj.weight", "visual.blocks.0.mlp.w1.weight")).rules,
        eva_image.table(("blocks.0.attn.q_proj.bias", "blocks.0.mlp.fc1_g.weight")).rules,
        eva_transformers.table(()).rules,
        eva_transformers.table(("vision_model.encoder.layers.0.mlp.fc3.weight",)).rules,
    ],
)
def test_published_tables_name_nothing_twice(rules):
    ours = [rule.ours for rule in rules]
    foreign = [name for rule in rules for name in rule.sources]
    assert len(set(ours)) == len(ours)
    assert len(set(foreign)) == len(foreign)
