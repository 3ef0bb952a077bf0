"""What everyone in the objectives benchmark shares: data, towers, and the run but for its
objective."""

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from diptych import pretrained
from diptych.config import (
    ClipConfig,
    DataConfig,
    ModelConfig,
    ObjectiveConfig,
    Run,
    SaveConfig,
    TokenizerConfig,
)
from diptych.experiments.digits.render import render
from diptych.experiments.objectives.config import ObjectivesConfig
from diptych.families.clip import TextConfig
from diptych.families.tiny.recipes import DIGIT_PROMPTS, tiny_cifar10, tiny_digits

VOCABULARY, TOKEN_DIM = 49409, 64
"""Of DeCLIP's tokenizer, which has a mask token; and the width in which patches and words are
compared. Everyone's towers have both."""
POINTS = 10
"""Evaluations on the way: the points of the curves."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What everyone shares."""

    run: Run
    """Of everyone, but for the objective, the seed and the folder."""
    test: DataConfig
    """Labelled pictures that are asked for."""
    probe: DataConfig
    """Labelled pictures that the linear classifier learns from."""
    captioned: DataConfig | None
    """Pictures with captions of their own, for retrieval; None: there are none."""

    def with_objective(self, name: str, seed: int, folder: Path, steps: int) -> Run:
        """The run of one objective and seed, in a folder of its own below `folder`."""
        return replace(
            self.run,
            objective=ObjectiveConfig.named(name)(),
            seed=seed,
            steps=steps,
            out=str(run_folder(folder, name, seed)),
            save=SaveConfig(every_steps=0, every_minutes=5.0, keep=1),
            evaluation=replace(self.run.evaluation, every_steps=max(1, steps // POINTS)),
            recipe=f"benchmark {name}",
        )


def run_folder(folder: Path, name: str, seed: int) -> Path:
    """Where the run of one objective and seed stands below `folder`: `clip-0`; of a
    `package.module:Class`, the class's name."""
    return folder / f"{name.rpartition(':')[2]}-{seed}"


def prepare(config: ObjectivesConfig, console: Console) -> Setting:
    """The data, the towers and the run that everyone shares. Raises UnknownNameError for an unknown
    objective, and ConfigError for one that can't be imported."""
    for name in config.objectives:
        ObjectiveConfig.named(name)
    return _digits(Path(config.out), console) if config.data == "digits" else _pictures(config)


def _digits(out: Path, console: Console) -> Setting:
    render(out / "data", 0, console)
    run = tiny_digits(str(out))
    [test] = run.evaluation.paths
    labelled = replace(run.data, class_names=run.evaluation.class_names, templates=DIGIT_PROMPTS)
    return Setting(
        run=replace(run, model=_towers(pretrained.get("tiny"))),
        test=replace(labelled, path=test),
        probe=replace(labelled, path=f"{out}/data/test/seen-000000.tar"),
        captioned=replace(run.data, path=test),
    )


def _pictures(config: ObjectivesConfig) -> Setting:
    run = tiny_cifar10()
    names, templates = config.class_names, config.templates
    data = replace(run.data, path=config.data, class_names=names, templates=templates)
    watched = replace(
        run.evaluation, path=config.test, class_names=names, templates=templates, limit=1000
    )
    return Setting(
        run=replace(run, model=_towers(pretrained.get("tiny-32")), data=data, evaluation=watched),
        test=replace(data, path=config.test),
        probe=data,
        captioned=None,
    )


def _towers(config: ClipConfig) -> ModelConfig:
    """With a mask token for MLM and projections for token-wise late interaction, which some
    objectives need and all get."""
    assert isinstance(config.text, TextConfig)
    text, tokenizer = replace(config.text, vocab_size=VOCABULARY), TokenizerConfig(kind="declip")
    return ModelConfig(custom=replace(config, text=text, tokenizer=tokenizer, token_dim=TOKEN_DIM))
