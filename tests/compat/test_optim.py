"""An optimizer by open_clip_train's words, by what open_clip's own tests ask of it."""

import shlex

import pytest
import torch
import transformers
from torch import nn

from diptych import compat
from diptych.compat.hf_model import HFTextEncoder
from diptych.compat.open_clip_train.optim import (
    OptimizerCfg,
    collect_no_weight_decay,
    create_optimizer,
    make_wd_exclude,
)
from diptych.compat.open_clip_train.parse import parse
from diptych.compat.open_clip_train.scheduler import cosine_lr, get_learning_rate
from diptych.compat.open_clip_train.translate import translate
from diptych.errors import ConfigError, UnknownNameError
from tests.compat.peers import ours_of
from tests.compat.sections import TEXT, VISION
from tests.compat.test_open_clip_train import CSV, run_of


def tiny(kind=compat.CLIP, layers=2):
    return kind(32, VISION | {"layers": layers}, TEXT | {"layers": layers}, output_dict=True)


def scales(optimizer):
    return {
        id(p): group.get("lr_scale") for group in optimizer.param_groups for p in group["params"]
    }


@pytest.mark.parametrize("opt", ["adamw", "nadamw", "timm/adamw"])
@pytest.mark.parametrize("kind", [compat.CLIP, compat.CustomTextCLIP])
def test_a_tower_decays_from_its_end(opt, kind):
    model = tiny(kind)
    cfg = OptimizerCfg(opt, lr=1e-3, beta1=0.9, beta2=0.98, text_layer_decay=0.5)
    optimizer = create_optimizer(nn.DataParallel(model), cfg)
    found, own = scales(optimizer), dict(model.named_parameters())
    assert found.keys() == set(map(id, own.values()))
    text = "" if kind is compat.CLIP else "text."
    for name, scale in {
        "token_embedding.weight": 0.125,
        "transformer.resblocks.0.ln_1.weight": 0.25,
        "transformer.resblocks.1.mlp.c_fc.weight": 0.5,
        "ln_final.bias": 0.5,
        "text_projection": 1.0,
    }.items():
        assert found[id(own[text + name])] == scale
    assert found[id(own["visual.conv1.weight"])] == found[id(own["logit_scale"])] == 1
    assert all(g["lr"] == pytest.approx(1e-3 * g["lr_scale"]) for g in optimizer.param_groups)
    cosine_lr(optimizer, 1e-2, 0, 100)(0)
    assert all(g["lr"] == pytest.approx(1e-2 * g["lr_scale"]) for g in optimizer.param_groups)
    assert get_learning_rate(optimizer) == pytest.approx(1e-2)
    if opt == "nadamw":
        assert all(g["decoupled_weight_decay"] for g in optimizer.param_groups)


def test_without_a_decay_there_are_two_groups():
    cfg = OptimizerCfg(text_layer_decay=1.0)
    optimizer = create_optimizer(tiny(), cfg, torch.device("cpu"), tensorize=True)
    assert all(isinstance(group["lr"], torch.Tensor) for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.2]
    assert not any("lr_scale" in group for group in optimizer.param_groups)
    assert optimizer.defaults["betas"] == (0.9, 0.999)


def test_groups_of_layers_have_open_clips_names():
    names = [name for name, _ in tiny().visual.layer_groups()]
    assert names == ["embeddings", "layer.0", "layer.1", "proj"]
    own = ours_of("timm")
    *groups, (last, head) = own.visual.layer_groups()
    members = [part for _, group in groups for part in group] + [*head[0].parameters()]
    assert (last, head) == ("proj", [own.visual.head])
    assert set(map(id, members)) == set(map(id, own.visual.parameters()))
    assert "visual.trunk.pos_embed" not in own.no_weight_decay()
    resnet = [name for name, _ in ours_of("resnet").visual.layer_groups()]
    assert resnet == ["embeddings", *(f"layer.{i}" for i in range(4)), "proj"]


@pytest.mark.parametrize(
    ("kind", "sizes", "table"),
    [
        (
            transformers.RobertaConfig,
            {"hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 20},
            "position_embeddings",
        ),
        (transformers.MT5Config, {"d_model": 32, "d_ff": 64}, "relative_attention_bias"),
    ],
    ids=["roberta", "mt5"],
)
def test_a_tower_of_transformers(kind, sizes, table):
    heads = {"num_heads": 2, "num_layers": 2} if "d_ff" in sizes else {}
    heads = heads or {"num_attention_heads": 2, "num_hidden_layers": 2}
    tower = HFTextEncoder("x", 16, kind(vocab_size=50, **sizes, **heads), "cls_pooler", "linear")
    for in_head in (True, False):
        groups = tower.layer_groups(in_head)
        pooler = ["pooler"] if kind is transformers.RobertaConfig and not in_head else []
        names = [name for name, _ in groups]
        assert names == ["embeddings", "layer.0", "layer.1", *pooler, "proj"]
        members = [id(part) for _, group in groups for part in group]
        assert sorted(members) == sorted(map(id, tower.parameters()))
    exclude, own = make_wd_exclude(tower), dict(tower.named_parameters())
    tables = [name for name in own if f"{table}.weight" in name]
    assert tables
    assert all(exclude(name, own[name]) for name in tables)
    assert not any(exclude(name, own[name]) for name in own if "word_embeddings" in name)


class _Says(nn.Module):
    def __init__(self, **said):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(3, 2))
        for name, value in said.items():
            setattr(self, name, lambda value=value: value)


@pytest.mark.parametrize(
    ("said", "excluded"),
    [
        ({"no_weight_decay": {"table"}}, True),
        ({"no_weight_decay_patterns": ["tab*"]}, True),
        ({"no_weight_decay_keywords": {"ble"}}, True),
        ({"no_weight_decay_keywords": {"tab"}}, False),
        ({}, False),
    ],
)
def test_a_module_says_what_has_no_weight_decay_for_itself_alone(said, excluded):
    model = nn.ModuleDict({"a": _Says(**said), "b": _Says()})
    exclude = make_wd_exclude(model)
    assert exclude("a.table", model["a"].table) is excluded
    assert not exclude("b.table", model["b"].table)
    assert make_wd_exclude(model, ["b.*"])("b.table", model["b"].table)
    assert collect_no_weight_decay(nn.Linear(2, 3)) == (set(), [])


def test_muons_fallback():
    cfg = OptimizerCfg("timm/nadamuon", opt_kwargs={"fallback_lr_scale": 0.5})
    cfg.fallback_list = ["*token_embedding*"]
    model = tiny()
    optimizer = create_optimizer(model, cfg)
    falls = [group for group in optimizer.param_groups if group.get("use_fallback")]
    assert falls[0]["params"] == [model.token_embedding.weight]
    assert optimizer.defaults["fallback_lr_scale"] == 0.5


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"text_layer_decay": 0.0}, ConfigError, "--text-layer-decay must be in"),
        ({"audio_layer_decay": 0.5}, ConfigError, "the model has no audio tower"),
        ({"fallback_list": ["*"]}, ConfigError, "of Muon and its like"),
        ({"beta1": 0.9}, ConfigError, "said together, or neither"),
        ({"opt": "adam"}, UnknownNameError, "no optimiser is called 'adam'"),
        ({"opt": "timm/adamv"}, UnknownNameError, "no optimiser of timm is called 'adamv'"),
        ({"opt_kwargs": {"mode": 1}}, ConfigError, "--opt-kwargs mode: adamw has no such"),
        (
            {"opt": "timm/lamb", "opt_kwargs": {"mode": 1}},
            ConfigError,
            "timm/lamb has no such argument; it has always_adapt",
        ),
    ],
)
def test_what_no_optimizer_takes_is_refused(changes, error, said):
    with pytest.raises(error, match=said):
        create_optimizer(tiny(layers=1), OptimizerCfg(**changes))


@pytest.mark.parametrize(
    ("words", "path", "wanted"),
    [
        ("betas=(0.8,0.95)", "betas", (0.8, 0.95)),
        ("eps=1e-5", "eps", 1e-5),
        ("weight_decay=1", "weight_decay", 1.0),
        ("amsgrad=False", "eps", 1e-6),
    ],
)
def test_arguments_of_a_command_line_are_settings(words, path, wanted):
    assert getattr(run_of(*CSV, "--opt-kwargs", words).optim, path) == wanted


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("mode=fast", "--opt-kwargs mode: adamw has no such argument; it has amsgrad"),
        ("amsgrad=True", "amsgrad=True can't be honoured"),
        ("betas=0.9", "two numbers, as in"),
        ("eps=small", "eps=small must be a number"),
    ],
)
def test_arguments_that_a_run_cannot_take_are_refused(words, said):
    with pytest.raises(ConfigError, match=said):
        run_of(*CSV, "--opt-kwargs", words)


def test_how_it_is_computed_is_remarked():
    options, _ = parse([*CSV, *shlex.split("--opt-kwargs foreach=False fused=True")])
    remarks = translate(options, gpu=True).remarks
    assert [each.split()[1] for each in remarks if "opt-kwargs" in each] == ["foreach", "fused"]
