"""CoCa is trained: a step has open_clip's gradients, and captions are learned."""

from dataclasses import replace

import pytest
import torch

import diptych
from diptych import compat, models, training
from diptych.batch import Batch, TextLengths
from diptych.checkpoints import convert
from diptych.config import (
    ClipConfig,
    ClipObjectiveConfig,
    CocaObjectiveConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    TowerOptions,
)
from diptych.errors import ConfigError
from diptych.families.clip.layouts.open_clip import export_table
from diptych.families.coca import CocaDecoderConfig, CocaImageConfig, CocaTextConfig
from diptych.objectives import build_objective
from diptych.training import read_metrics
from tests import tiny
from tests.families.coca.test_coca import CFG, IDS
from tests.training.runs import small_run, weights

open_clip = pytest.importorskip("open_clip")

CFG_SAID = {name: value for name, value in CFG.items() if name != "custom_text"}
WEIGHTS = (2.0, 0.7)


def by_open_clips_step(model, loss, pixels):
    """The loss, and in the model its gradients, of open_clip's step: its model, or ours in its
    spelling."""
    losses = loss(**model(pixels, IDS), output_dict=True)
    sum(losses.values()).backward()
    return sum(losses.values()).detach()


def near(found, theirs):
    """Each parameter's gradient, by its length; those that are rounding errors by all gradients'
    length."""
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    assert found.keys() == expected.keys()
    whole = torch.stack([each.norm() for each in expected.values()]).norm()
    for name, wanted in expected.items():
        error = (found[name].reshape(wanted.shape) - wanted).norm()
        assert error <= 1e-5 * wanted.norm() + 1e-8 * whole, name


def test_a_step_has_open_clips_gradients(randomise):
    theirs = randomise(open_clip.CoCa(**CFG_SAID)).train()
    ours = compat.CoCa(**CFG_SAID).train()
    ours.load_state_dict(theirs.state_dict())
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    total = by_open_clips_step(theirs, open_clip.CoCaLoss(*WEIGHTS), pixels)
    said = by_open_clips_step(ours, compat.CoCaLoss(*WEIGHTS), pixels)
    torch.testing.assert_close(said, total, rtol=1e-5, atol=0)
    found = {name: p.grad for name, p in ours.named_parameters()}
    near(found, theirs)
    model = ours.clip.train()
    model.zero_grad()  # the decoder is the same module
    config = CocaObjectiveConfig(captions_weight=WEIGHTS[0], pairs_weight=WEIGHTS[1], tile=5)
    lengths = TextLengths.of((IDS != 0).sum(dim=1).tolist())
    batch = Batch(images=(pixels,), texts=(IDS,), index=torch.arange(4), lengths=(lengths,))
    losses = build_objective(config, model)(batch)
    losses.total.backward()
    torch.testing.assert_close(losses.total.detach(), total, rtol=1e-5, atol=0)
    named = {name: p.grad for name, p in model.named_parameters()}
    near(export_table(model.config).to_foreign(named), theirs)


SIZES = {"width": 32, "layers": 1, "heads": 2, "mlp_width": 64}
MODEL = ClipConfig(
    image=CocaImageConfig(image_size=16, patch_size=8, queries=3, pool_heads=2, **SIZES),
    text=CocaTextConfig(context_length=12, **SIZES),
    decoder=CocaDecoderConfig(context_length=12, **SIZES | {"mlp_width": 128}),
    embed_dim=32,
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Twelve pictures of four colours, and a table of what they show."""
    folder = tmp_path_factory.mktemp("colours")
    paths = tiny.write_pictures(folder)
    rows = [f"{path},a {path.parent.name} field" for path in paths]
    (folder / "pairs.csv").write_text("\n".join(["filepath,title", *rows]) + "\n")
    return folder / "pairs.csv"


def run_on(pairs, out, **changes):
    run = small_run(
        out,
        model=ModelConfig(custom=MODEL),
        data=DataConfig(path=str(pairs), workers=0),
        objective=CocaObjectiveConfig(),
        batch_size=12,
    )
    return replace(run, **changes)


def test_a_run_that_goes_on_is_the_same_to_the_bit(pairs, tmp_path):
    text = TowerOptions(layer_decay=0.8, checkpointing=True)
    model = ModelConfig(custom=MODEL, image=TowerOptions(freeze=True), text=text)
    run = run_on(pairs, tmp_path / "run", steps=4, micro_batch=5, model=model)
    run = replace(run, save=replace(run.save, every_steps=2))
    expected = weights(training.fit(run, progress=False))
    again = training.fit(
        run, resume=tmp_path / "run" / "checkpoints" / "step-00000002", progress=False
    )
    found = weights(again)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    begun = models.build(MODEL)
    assert not torch.equal(begun.decoder.projection.weight, expected["decoder.projection.weight"])


def assert_only_the_decoder_is_trained(run, tmp_path):
    """Where both towers are frozen."""
    start, frozen = run.model.init, TowerOptions(freeze=True)
    run = replace(run, model=ModelConfig(init=start, image=frozen, text=frozen))
    found = weights(training.fit(replace(run, out=str(tmp_path / "frozen")), progress=False))
    begun = diptych.load(start).model.state_dict()
    changed = {name for name in begun if not torch.equal(found[name], begun[name])}
    assert changed == {name for name in begun if name.startswith("decoder.")}
    contrast = replace(run, objective=ClipObjectiveConfig(), out=str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="leave nothing to train"):
        training.fit(contrast, progress=False)


def test_captions_are_learned_and_go_on_being_learned_from_a_published_layout(pairs, tmp_path):
    run = run_on(pairs, tmp_path / "run", steps=50)
    run = replace(
        run,
        optim=replace(run.optim, lr=3e-3, warmup=5),
        evaluation=EvaluationConfig(pairs=str(pairs), every_steps=50),
    )
    training.fit(run, progress=False)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert {"pairs", "captions", "scale"} <= rows[0].keys()
    [held_out] = [row["val/loss"] for row in rows if "val/loss" in row]
    assert held_out < rows[0]["loss"] / 3
    colours = [tiny.picture(colour, seed=9) for colour in tiny.COLOURS]
    wanted = [f"a {colour} field" for colour in tiny.COLOURS]
    assert diptych.load(tmp_path / "run").caption(colours, beams=1, most=8, least=3) == wanted
    convert(tmp_path / "run", "open-clip", tmp_path / "published")
    again = run_on(
        pairs, tmp_path / "again", steps=2, model=ModelConfig(init=str(tmp_path / "published"))
    )
    captions_alone = CocaObjectiveConfig(pairs_weight=0.0)
    assert_only_the_decoder_is_trained(replace(again, objective=captions_alone), tmp_path)
    optim = replace(again.optim, lr=1e-4)
    training.fit(replace(again, objective=captions_alone, optim=optim), progress=False)
    begun = read_metrics(tmp_path / "again" / "metrics.jsonl")[0]["captions"]
    assert begun < rows[0]["captions"] / 2
    assert diptych.load(tmp_path / "again").caption(colours, beams=2, most=8, least=3) == wanted
