"""Small runs that the training tests share."""

from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file

from diptych.config import (
    ClipConfig,
    DataConfig,
    DeclipObjectiveConfig,
    DefilipObjectiveConfig,
    FilipObjectiveConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    Run,
    SaveConfig,
    SimClrConfig,
    SimSiamConfig,
    SlipObjectiveConfig,
    TokenizerConfig,
    TokenPairsConfig,
    TowerOptions,
    TrackConfig,
)
from diptych.families.clip import TextConfig, VitConfig

MODEL = ClipConfig(
    image=VitConfig(image_size=16, patch_size=8, width=32, layers=2, heads=2, mlp_width=64),
    text=TextConfig(context_length=16, width=32, layers=1, heads=2, mlp_width=64),
    embed_dim=16,
)
STEM = VitConfig(
    image_size=16,
    patch_size=4,
    width=32,
    layers=1,
    heads=2,
    mlp_width=64,
    stem_widths=(8, 16),
    pool="mean",
)
"""With batch normalisation."""
WORDY = replace(
    MODEL,
    text=TextConfig(context_length=16, width=32, layers=1, heads=2, mlp_width=64, vocab_size=49409),
    tokenizer=TokenizerConfig(kind="declip"),
    token_dim=8,
)
"""With an id for masked words, and a space for patches and words."""
SIM_SIAM = SimSiamConfig(width=16, hidden=8)
COMPOSED: dict[str, ObjectiveConfig] = {
    "slip": SlipObjectiveConfig(views=SimClrConfig(hidden=16, out=8)),
    "declip": DeclipObjectiveConfig(views=SIM_SIAM, queue=20),
    "filip": FilipObjectiveConfig(tokens=TokenPairsConfig(keep=2)),
    "defilip": DefilipObjectiveConfig(views=SIM_SIAM, queue=20, tokens=TokenPairsConfig(keep=2)),
}


def small_run(out: Path, **changes) -> Run:
    """Twelve steps of eight pairs: a second on one core."""
    run = Run(
        model=ModelConfig(custom=MODEL, image=TowerOptions(patch_dropout=0.25)),
        data=DataConfig(path="synthetic:20", workers=0),
        optim=OptimConfig(lr=1e-3, warmup=2, max_norm=1.0),
        save=SaveConfig(every_steps=4, keep=2),
        track=TrackConfig(every_steps=3),
        batch_size=8,
        steps=12,
        out=str(out),
    )
    return replace(run, **changes)


def weights(folder: Path) -> dict:
    """Every tensor of a checkpoint: the model's and the optimiser's."""
    return load_file(folder / "model.safetensors") | load_file(folder / "training.safetensors")


def assert_same_bits(one: Path, other: Path) -> None:
    """Fail unless both checkpoints hold the same tensors, bit for bit."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not first[name].equal(second[name])] == []


def small() -> Run:
    """As a recipe, for the command line."""
    return small_run(Path("run"))
