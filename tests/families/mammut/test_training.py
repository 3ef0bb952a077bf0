"""A MaMMUT is trained as a CoCa is, and writes what it was trained on."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import diptych
from diptych import models, pretrained, training
from diptych.batch import Batch, TextLengths
from diptych.checkpoints import convert
from diptych.config import (
    ClipObjectiveConfig,
    CocaObjectiveConfig,
    DataConfig,
    ModelConfig,
)
from diptych.objectives import build_objective
from tests import tiny
from tests.families.mammut.test_mammut import CFGS, IDS, config_of
from tests.training.runs import small_run, weights

LENGTHS = [4, 9, 2, 4]


@pytest.mark.parametrize("name", CFGS)
def test_a_steps_loss_is_that_of_the_two_passes(random_model, name):
    """Equations 1 and 2 of arXiv:2303.16839, from the model's two passes one by one; and every
    parameter has a gradient."""
    model = random_model(config_of(CFGS[name])).train()
    pixels = torch.randn(4, 3, 36, 36, generator=torch.Generator().manual_seed(3))
    batch = Batch(
        images=(pixels,), texts=(IDS,), index=torch.arange(4), lengths=(TextLengths.of(LENGTHS),)
    )
    config = CocaObjectiveConfig(pairs_weight=0.7, captions_weight=1.5, tile=5)
    losses = build_objective(config, model)(batch)
    losses.total.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
    with torch.no_grad():
        images, texts = model(pixels, IDS)
        logits = model.logits(images, texts)
        every = torch.arange(4)
        pairs = (F.cross_entropy(logits, every) + F.cross_entropy(logits.T, every)) / 2
        words = model.next_tokens(IDS, model.read_pictures(pixels))
        told = torch.cat([IDS[i, 1:n] for i, n in enumerate(LENGTHS)])
        said = torch.cat([words[i, : n - 1] for i, n in enumerate(LENGTHS)])
        expected = 0.7 * pairs + 1.5 * F.cross_entropy(said, told)
    torch.testing.assert_close(losses.total.detach(), expected, rtol=1e-5, atol=1e-6)


def test_the_contrast_alone_leaves_what_only_captions_need(random_model):
    model = random_model(config_of(CFGS["open_clip"])).train()
    pixels = torch.randn(4, 3, 36, 36)
    batch = Batch(images=(pixels,), texts=(IDS,), index=torch.arange(4))
    build_objective(ClipObjectiveConfig(), model)(batch).total.backward()
    named = dict(model.named_parameters())
    assert all((p.grad is None) == n.startswith("decoder.") for n, p in named.items())


@pytest.mark.slow
def test_captions_are_learned_and_written_after_a_conversion(tmp_path):
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    rows = ["filepath,title"]
    for seed in range(3):
        for colour in tiny.COLOURS:
            name = f"{colour}-{seed}.png"
            tiny.picture(colour, seed).save(pairs / name)
            rows.append(f"{name},a {colour} field")
    (pairs / "pairs.csv").write_text("\n".join(rows))
    small = {"width": 32, "heads": 2, "mlp_width": 64}
    config = pretrained.get("tiny-mammut")
    config = replace(
        config,
        image=replace(config.image, image_size=16, **small),
        text=replace(config.text, context_length=16, **small),
        decoder=replace(config.decoder, context_length=16, picture_width=32, **small),
        embed_dim=32,
    )
    run = small_run(
        tmp_path / "run",
        model=ModelConfig(custom=config),
        data=DataConfig(path=str(pairs / "pairs.csv"), workers=0),
        objective=CocaObjectiveConfig(),
        batch_size=12,
        steps=50,
    )
    run = replace(run, optim=replace(run.optim, lr=3e-3, warmup=5))
    found = weights(training.fit(run, progress=False))
    begun = models.build(config).state_dict()
    assert not torch.equal(begun["decoder.pictures.weight"], found["decoder.pictures.weight"])
    convert(tmp_path / "run", "open-clip", tmp_path / "published")
    colours = [tiny.picture(colour, seed=9) for colour in tiny.COLOURS]
    wanted = [f"a {colour} field" for colour in tiny.COLOURS]
    for place in ("run", "published"):
        loaded = diptych.load(tmp_path / place)
        for beams in (1, 2):
            assert loaded.caption(colours, beams=beams, most=8, least=3) == wanted
