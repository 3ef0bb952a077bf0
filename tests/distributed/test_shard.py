"""Sharded or not, many processes train as one does: weights, average and losses in float64."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from diptych.config import (
    ClipObjectiveConfig,
    ModelConfig,
    OptimConfig,
    Run,
    ShardConfig,
    SiglipObjectiveConfig,
    TextTowerConfig,
    TowerOptions,
)
from diptych.distributed import Parts, Peers, data_parallel, whole
from diptych.errors import ConfigError
from diptych.families.clip import ResNetConfig
from diptych.families.declip.published_config import (
    PublishedClipObjectiveConfig,
)
from diptych.families.huggingface import HuggingFaceTextConfig
from diptych.interrupts import listening
from diptych.models import build
from diptych.objectives import build_objective
from diptych.optim import build_optimizer
from diptych.training.assemble import parameter_groups
from diptych.training.average import Average
from diptych.training.loop import Meter, train
from diptych.training.signals import Signals
from diptych.training.state import TrainingState
from tests.distributed.harness import run_processes
from tests.objectives.composed import CONFIGS, CONTEXT, batch, model_config
from tests.objectives.small import SMALL_EVA

PAIRS, STEPS = 8, 3
EVA = replace(SMALL_EVA, attention_norm=True)
RESNET = ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=4, heads=2)
BERT = HuggingFaceTextConfig(
    model_type="bert",
    context_length=CONTEXT,
    options={
        "vocab_size": 30,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": CONTEXT,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
)
"""Another library's text tower, which is called on each piece of a batch."""
SEVEN = {
    "clip": ClipObjectiveConfig(tile=3),
    "siglip": SiglipObjectiveConfig(tile=3),
    "slip": CONFIGS["slip"],
    "declip": CONFIGS["declip"],
    "filip": CONFIGS["filip"],
    "defilip": CONFIGS["defilip"],
    "coca": CONFIGS["coca"],
    "coca, mammut": CONFIGS["coca, mammut"],
    "coca, mammut, tied": CONFIGS["coca, mammut, tied"],
}
# Objective, tower (in place of the small one of its side), micro-batches, checkpointing, optimiser:
# each objective once, and each value of the others with its neighbours.
CASES = [
    ("clip", None, 1, False, "adamw"),
    ("siglip", EVA, 2, True, "adamw"),
    ("slip", None, 2, False, "adamw"),
    ("declip", EVA, 1, False, "adamw"),
    ("filip", None, 1, True, "adamw"),
    ("defilip", EVA, 2, True, "adamw"),
    ("coca", None, 2, True, "adamw"),
    ("coca, mammut, tied", None, 2, True, "adamw"),
    ("clip", RESNET, 1, True, "adamw"),
    ("clip", EVA, 2, True, "lamb"),
]
OF_TRANSFORMERS = ("clip", BERT, 2, True, "adamw")
ALL = [(*case, "adamw") for case in product(SEVEN, (None, EVA), (1, 2), (False, True))]
# MaMMUT's decoder is for pictures' tokens of one width.
ALL = [case for case in ALL if case[1] is None or "mammut" not in case[0]]
ALL += [("clip", EVA, 2, True, name) for name in ("lamb", "lamb-deepspeed", "lion")]
ALL += [("clip", RESNET, 1, True, "adamw")]
REPLICATE = ShardConfig()
ZERO2, ZERO3 = ShardConfig(mode="zero2"), ShardConfig(mode="zero3")
HYBRID = ShardConfig(mode="zero3", nodes=True)
"""Of four processes on two machines."""


def assembled(peers, name, tower, checkpointing, shard, dtype=torch.float64, **options):
    """The state before the first step, and the objective as the processes share it."""
    torch.manual_seed(0)
    config = model_config(name)
    # A block of text is enough: its neighbours are the image tower's.
    config = replace(config, text=replace(config.text, layers=options.get("text_layers", 1)))
    if tower is not None:
        side = "text" if isinstance(tower, TextTowerConfig) else "image"
        config = replace(config, **{side: tower})
    # Only the first process has numbers where shards are made of them.
    elsewhere = shard.mode != "replicate" and not peers.is_main
    model = build(config, "meta" if elsewhere else "cpu", dtype).train()
    objective = build_objective(options.get("objective", SEVEN[name]), model).to(dtype)
    towers = [model.image, model.text] + ([] if model.decoder is None else [model.decoder])
    wrapped = data_parallel(objective, peers, shard, Parts(towers, towers if checkpointing else ()))
    optim = OptimConfig(
        name=options.get("optimizer", "adamw"),
        lr=options.get("lr", 3e-3),
        max_norm=0.5,
        eps=1e-3,
        schedule="constant",
    )
    run = Run(
        model=ModelConfig(
            image=TowerOptions(lr=2e-3, layer_decay=0.8), text=TowerOptions(weight_decay=0.1)
        ),
        optim=optim,
        batch_size=PAIRS,
        steps=STEPS,
        precision=options.get("precision", "fp32"),
    )
    state = TrainingState(
        objective=objective,
        optimizer=build_optimizer(optim, parameter_groups(objective, run)),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        average=Average(model, 0.5),
        steps=STEPS,
    )
    return state, wrapped, run


def rows_of(peers, state, dtype=torch.float64):
    """This process's rows of every step's batch."""
    torch.manual_seed(1)
    size, share = state.model.config.image.image_size, PAIRS // peers.size
    for _ in range(STEPS):
        whole_batch = batch(state.objective.views, PAIRS, dtype, size)
        if isinstance(state.model.config.text, HuggingFaceTextConfig):
            whole_batch = padded(whole_batch)
        yield whole_batch.rows(peers.rank * share, (peers.rank + 1) * share)


def padded(whole_batch):
    """With padding behind the captions, by which another library's tower knows their end."""
    texts = (
        ids * (torch.arange(CONTEXT) < lengths.device[:, None])
        for ids, lengths in zip(whole_batch.texts, whole_batch.lengths, strict=True)
    )
    return replace(whole_batch, texts=tuple(texts))


def trained(peers, name, tower, cut, checkpointing, optimizer, shard=REPLICATE):
    """The mean loss, the weights and their average after some steps of the loop, with groups of
    parameters and clipping."""
    state, wrapped, run = assembled(peers, name, tower, checkpointing, shard, optimizer=optimizer)
    run = replace(run, micro_batch=PAIRS // peers.size // cut)
    meter = Meter(PAIRS)
    with listening() as interrupts:
        signals = Signals(peers, interrupts)
        train(state, wrapped, list(rows_of(peers, state)), peers, run, meter, [], signals)
    loss = meter.report(state, peers)()["loss"]
    weights, average = (
        {key: whole(tensor.detach()).clone() for key, tensor in tensors.items()}
        for tensors in (state.objective.state_dict(), state.average.state())
    )
    return loss, weights, average


def all_trained(peers, work):
    peers = replace(peers, per_node=2)
    return [[trained(peers, *case, shard) for case in cases] for shard, cases in work]


# In the same processes: torch works out once how each operation on shards of some shape goes. Each
# mode has a part of the cases.
@pytest.mark.parametrize(
    ("size", "work"),
    [
        (2, [(REPLICATE, CASES[::3]), (ZERO2, CASES[1::4]), (ZERO3, CASES[1::2])]),
        (4, [(HYBRID, [("siglip", EVA, 2, True, "adamw")])]),
    ],
    ids=["two", "four"],
)
def test_every_mode_trains_as_one_process_does(size, work):
    assert_all_train_as_one(size, work)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "shard"), [(2, REPLICATE), (2, ZERO2), (2, ZERO3), (4, HYBRID)])
def test_a_text_tower_of_transformers_trains_as_in_one_process(size, shard):
    assert_all_train_as_one(size, [(shard, [OF_TRANSFORMERS])])


@pytest.mark.slow
@pytest.mark.parametrize(("size", "shard"), [(2, REPLICATE), (2, ZERO2), (2, ZERO3), (4, HYBRID)])
@pytest.mark.parametrize("objective", SEVEN)
def test_all_that_can_be_combined_trains_as_one_process_does(size, shard, objective):
    assert_all_train_as_one(size, [(shard, [case for case in ALL if case[0] == objective])])


def assert_all_train_as_one(size, work):
    def close(found, expected, within):
        torch.testing.assert_close(found, expected, rtol=0, atol=within, msg=lambda m: f"{at}: {m}")

    for results in run_processes(size, all_trained, work):
        for (shard, cases), found in zip(work, results, strict=True):
            for case, many in zip(cases, found, strict=True):
                one, at = alone(case), f"{shard.mode}, {case}"
                close(many[0], one[0], 1e-10)
                for expected, tensors in zip(one[1:], many[1:], strict=True):
                    left_out = {key for key in expected if key.startswith("queue.rows")}
                    if case[-1] == "lion":
                        # Attention doesn't depend on the keys' bias, so the sign of its gradient is
                        # that of a rounding error.
                        left_out |= {key for key in expected if key.endswith("qkv.bias")}
                    close(
                        {key: tensors[key] for key in tensors.keys() - left_out},
                        {key: expected[key] for key in expected.keys() - left_out},
                        1e-12,
                    )


def alone(case):
    if str(case) not in ALONE:  # options of another library's tower have no hash
        ALONE[str(case)] = trained(Peers(), *case)
    return ALONE[str(case)]


ALONE = {}


LIMIT = 5.0
CLAMPED = PublishedClipObjectiveConfig(
    min_logit_scale=1.0, max_logit_scale=LIMIT, clamp_before_step=True
)


def all_clamped(peers, modes):
    return [clamped(peers, shard) for shard in modes]


def clamped(peers, shard):
    """The scales that the loss saw, and the last one, where the limit is kept before the optimiser
    moves the scale, and with a limit that only that keeps."""
    state, wrapped, run = assembled(peers, "clip", None, False, shard, objective=CLAMPED)
    state.objective.contrastive.after_step = lambda: None
    meter, scales = Meter(PAIRS), []

    def report(state):
        scales.append(meter.report(state, peers)()["scale"])

    with listening() as interrupts:
        signals = Signals(peers, interrupts)
        train(state, wrapped, list(rows_of(peers, state)), peers, run, meter, [report], signals)
    return scales, whole(state.model.logit_scale.detach()).exp().item()


def test_a_limit_before_the_step_is_kept_on_shards():
    scales, last = clamped(Peers(), REPLICATE)
    assert scales[0] > 14
    assert max(*scales[1:], last) < LIMIT * 1.01  # a step of 0.003 from the limit at most
    for modes in run_processes(2, all_clamped, (ZERO2, ZERO3)):
        for found, end in modes:
            assert found == pytest.approx(scales, abs=1e-12)
            assert end == pytest.approx(last, abs=1e-12)


def gathered_in_bf16(peers, shard):
    """Of each step the scale that the loss saw, the scale that there was, and the loss; and in
    which dtypes a block and a head have their weights."""
    # In towers of width 16 every large step multiplies what rounding does to the loss.
    options = {"precision": "bf16", "lr": 1e-4, "text_layers": 2}
    state, wrapped, run = assembled(peers, "slip", None, False, shard, torch.float32, **options)
    seen = {}

    def look(name):
        return lambda module, args: seen.update({name: module.weight.dtype})

    objective = state.objective
    objective.model.image.blocks[0].mlp.up.register_forward_pre_hook(look("block"))
    objective.self_supervision.head[0].register_forward_pre_hook(look("head"))
    meter, scales, losses = Meter(PAIRS), [], []
    before = [whole(objective.model.logit_scale.detach()).exp().item()]

    def report(state):
        row = meter.report(state, peers)()
        scales.append(row["scale"])
        losses.append(row["loss"])
        before.append(whole(objective.model.logit_scale.detach()).exp().item())

    rows = list(rows_of(peers, state, torch.float32))
    with listening() as interrupts:
        signals = Signals(peers, interrupts)
        train(state, wrapped, rows, peers, run, meter, [report], signals)
    weights = {key: whole(p.detach()) for key, p in objective.named_parameters()}
    assert {p.dtype for p in weights.values()} == {torch.float32}
    return scales, before, losses, seen


def test_scales_and_heads_stay_in_float32_where_blocks_are_gathered_in_bf16():
    _, _, expected, _ = gathered_in_bf16(Peers(), REPLICATE)
    shard = ShardConfig(mode="zero3", precision="bf16")
    for scales, before, losses, seen in run_processes(2, gathered_in_bf16, shard):
        assert scales == pytest.approx(before[:-1], rel=1e-7)
        assert len(set(scales)) == STEPS
        assert seen == {"block": torch.bfloat16, "head": torch.float32}
        assert losses == pytest.approx(expected, rel=0.02)


def refused(peers):
    with pytest.raises(ConfigError, match="equally many processes, at least 2.*there are 1"):
        assembled(peers, "clip", None, False, ShardConfig(mode="zero3", nodes=True))


def test_a_shard_within_a_node_of_one_process_is_refused():
    run_processes(2, refused)
