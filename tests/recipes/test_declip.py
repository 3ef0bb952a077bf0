"""DeCLIP's recipes: every published configuration, as it stands there, at full size on `meta` and
small in steps."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diptych import pretrained, recipes
from diptych.batch import Batch
from diptych.config import (
    ClipConfig,
    ClipObjectiveConfig,
    DeclipObjectiveConfig,
    DefilipObjectiveConfig,
    SimClrConfig,
    SimSiamConfig,
)
from diptych.distributed import Peers
from diptych.families.clip import ResNetConfig
from diptych.families.declip.published_config import (
    PublishedDefilipObjectiveConfig,
    PublishedSimSiamConfig,
)
from diptych.interrupts import listening
from diptych.models import build
from diptych.objectives import build_objective
from diptych.optim import learning_rate
from diptych.training.assemble import assemble
from diptych.training.loop import Meter, train
from diptych.training.signals import Signals
from tests import goldens

NAMES = [name for name in recipes.names() if "-yfcc15m" in name or "-88m" in name]
PUBLISHED = [name for name in NAMES if name.endswith("-as-published")]
LAST = 29
"""The tiny vocabulary's end of text."""


def test_there_are_eleven_of_each():
    assert sorted(
        name.removesuffix("-as-published") for name in NAMES if name not in PUBLISHED
    ) == sorted(name.removesuffix("-as-published") for name in PUBLISHED)
    assert len(PUBLISHED) == 11


@pytest.mark.parametrize("name", NAMES)
def test_its_expected_result_is_the_published_one(name):
    [claim] = pretrained.entry(recipes.get(name).model.name).claims
    assert f"Expected: {claim.value} % zero-shot top-1" in recipes.describe(name)


@pytest.mark.parametrize("path", goldens.files("declip/misc*.json"), ids=lambda path: path.stem)
def test_rates_are_those_of_the_published_configurations(path):
    for folder, schedule in goldens.read(path)["lr_schedules"].items():
        [name] = [
            n for n in PUBLISHED if recipes.get(n).model.name == pretrained.entry(folder).name
        ]
        run = recipes.get(name)
        assert run.steps == schedule["kwargs"]["max_iter"]
        for iteration, rate in schedule["lr_at"]:
            found = learning_rate(run.optim, iteration - 1, run.steps)
            assert found == pytest.approx(rate, rel=1e-9, abs=1e-16), (name, iteration)


@pytest.mark.parametrize("path", goldens.files("declip/train3_*.json"), ids=lambda path: path.stem)
def test_optimisers_are_those_of_the_recorded_steps(path):
    record = goldens.read(path)
    model = pretrained.entry(Path(record["config_file"]).parent.name).name
    optim, chosen = recipes.get(f"{model}-as-published").optim, record["optimizer"]
    assert (optim.weight_decay, list(optim.betas), optim.eps) == (
        *(chosen["weight_decay"], chosen["betas"], chosen["eps"]),
    )
    assert optim.decayed == "tables"


def test_what_the_published_code_does_is_asked_for_and_only_there():
    plain, published = (
        recipes.get(f"defilip-vit-b-32-yfcc15m{end}") for end in ("", "-as-published")
    )
    assert isinstance(published.objective, PublishedDefilipObjectiveConfig)
    assert published.model.image.freeze_patches
    assert published.objective.contrast_masked
    assert not published.objective.share_queue
    assert published.objective.pairs.max_logit_scale == pytest.approx(math.exp(6))
    assert not published.objective.share_words
    assert isinstance(published.objective.views, PublishedSimSiamConfig)
    assert not plain.model.image.freeze_patches
    assert type(plain.objective) is DefilipObjectiveConfig
    assert type(plain.objective.pairs) is ClipObjectiveConfig
    assert type(plain.objective.views) is SimSiamConfig
    assert plain.objective.tokens.mask_padding
    assert (plain.objective.tokens_weight, plain.objective.pairs_weight) == (0.2, 0.4)
    assert not recipes.get("declip-rn50-yfcc15m-as-published").model.image.freeze_patches
    assert recipes.get("filip-vit-b-32-yfcc15m-as-published").objective.pairs_weight == 0
    assert recipes.get("declip-vit-b-32-88m-as-published").objective.pairs_weight == 0.6


OF_EACH_KIND = {
    (type(run.objective), type(pretrained.get(run.model.name).image)): run.recipe
    for run in map(recipes.get, NAMES)
    if "-88m" not in run.recipe  # whose queue of texts takes seconds to build
}.values()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in OF_EACH_KIND else pytest.mark.slow) for name in NAMES],
)
def test_full_size(name):
    run = recipes.get(name)
    config = pretrained.get(run.model.name)
    model = build(config, device="meta")
    assert config.embed_dim >= 512
    assert sum(p.numel() for p in build_objective(run.objective, model).parameters()) > 100_000_000


@pytest.mark.parametrize("name", NAMES)
def test_small_steps(name):
    run = tiny(recipes.get(name))
    state, wrapped, notes = assemble(run, Peers())
    assert notes == []
    before = {key: p.detach().clone() for key, p in state.objective.named_parameters()}
    state.steps = run.steps
    rows, meter = [], Meter(run.batch_size)
    report = [lambda state: rows.append(meter.report(state, Peers())())]
    batches = [batch(run, state, seed) for seed in range(2)]
    with listening() as interrupts:
        signals = Signals(Peers(), interrupts)
        train(state, wrapped, batches, Peers(), run, meter, report, signals)
    assert all(math.isfinite(row["loss"]) for row in rows)
    moved = {
        key for key, p in state.objective.named_parameters() if not torch.equal(p, before[key])
    }
    frozen = {key for key, p in state.objective.named_parameters() if not p.requires_grad}
    assert frozen == ({"model.image.patch.weight"} if run.model.image.freeze_patches else set())
    assert "model.text.tokens.weight" in moved
    assert not moved & frozen


def tiny(run):
    """The same run with small widths."""
    config = pretrained.get(run.model.name)
    image = config.image
    if isinstance(image, ResNetConfig):
        image = replace(image, image_size=32, layers=(1, 1, 1, 1), width=8, heads=4)
    else:
        image = replace(
            image, image_size=32, patch_size=8, width=16, layers=2, heads=2, mlp_width=32
        )
    text = replace(
        config.text,
        context_length=8,
        vocab_size=LAST + 1,
        width=16,
        layers=2,
        heads=2,
        mlp_width=32,
    )
    token_dim = config.token_dim and 6
    model = ClipConfig(
        image=image, text=text, embed_dim=8, token_dim=token_dim, tokenizer=config.tokenizer
    )
    objective = run.objective
    if hasattr(objective, "views"):
        small = (
            SimClrConfig(hidden=10, out=6)
            if "slip" in run.recipe
            else SimSiamConfig(width=8, hidden=4)
        )
        objective = replace(objective, views=small)
    if isinstance(objective, DeclipObjectiveConfig):
        objective = replace(objective, queue=32)
    model = replace(run.model, name="", custom=model)
    return replace(
        run, model=model, objective=objective, batch_size=6, steps=20_000, precision="fp32"
    )


def batch(run, state, seed):
    draw = torch.Generator().manual_seed(seed)
    views = state.objective.views
    texts = torch.randint(1, LAST - 1, (6, 8), generator=draw)
    texts[:, -1] = LAST
    images = tuple(torch.randn(6, 3, 32, 32, generator=draw) for _ in views.image)
    hidden = torch.where(torch.arange(8) % 3 == 1, texts, -100)
    return Batch(
        images=images,
        texts=tuple(texts for _ in views.text),
        index=torch.arange(6),
        mlm_labels=hidden,
    )
