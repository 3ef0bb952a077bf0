"""What everyone in the objectives benchmark shares: data, towers, and the run but for its
objective."""

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from rich.console import Console
from rich.progress import track

from diptych import pretrained
from diptych.config import (
    ClipConfig,
    ModelConfig,
    ObjectiveConfig,
    Run,
    TokenizerConfig,
)
from diptych.data import rich_scenes, scenes, write_shards
from diptych.durable import write_file
from diptych.errors import ConfigError
from diptych.experiments.comparison.measures import Measures
from diptych.experiments.digits.render import STAMP, delete_earlier, is_made, render
from diptych.experiments.objectives.config import ObjectivesConfig
from diptych.families.clip import TextConfig
from diptych.families.tiny.recipes import DIGIT_PROMPTS, tiny_cifar10, tiny_digits

VOCABULARY, TOKEN_DIM = 49409, 64
"""Of DeCLIP's tokenizer, which has a mask token; and the width in which patches and words are
compared. Everyone's towers have both."""
COUNTS = {"train": 12000, "one": 1000, "many": 500}
"""Rich scenes of each part."""
_PER_SHARD = 1000


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What everyone shares."""

    run: Run
    """Of everyone, but for the objective, the share, the seed and the folder."""
    measures: Measures

    def variants(self, config: ObjectivesConfig, steps: int) -> dict[str, Run]:
        """The runs by name: `clip`, or `clip 1/4` where shares of the data are compared. Raises
        ConfigError where two would have the same."""
        found = dict[str, Run]()
        for share in config.shares:
            for objective in config.objectives:
                name = _name(objective, share, config)
                if name in found:
                    raise ConfigError(f"two variants would be called {name!r}: name other ones")
                found[name] = replace(
                    self.run,
                    objective=ObjectiveConfig.named(objective)(),
                    data=replace(self.run.data, share=share),
                    steps=steps,
                )
        return found

    def references(self, config: ObjectivesConfig) -> dict[str, str]:
        """Beside whom each is tested: the first objective with the same share of the data."""
        first, *others = config.objectives
        return {
            _name(other, share, config): _name(first, share, config)
            for share in config.shares
            for other in others
        }


def _name(objective: str, share: float, config: ObjectivesConfig) -> str:
    """Of a `package.module:Class`, the class's name."""
    short = objective.rpartition(":")[2]
    part = Fraction(share).limit_denominator(1000)
    return f"{short} {part}" if len(config.shares) > 1 else short


def prepare(config: ObjectivesConfig, console: Console) -> Setting:
    """The data, the towers and the run that everyone shares. Raises UnknownNameError for an unknown
    objective, and ConfigError for one that can't be imported or is alone."""
    for name in config.objectives:
        ObjectiveConfig.named(name)
    if len(config.objectives) * len(config.shares) < 2:
        raise ConfigError("a comparison takes two --objectives or more, or several --shares")
    if config.data == "digits":
        return _digits(Path(config.out), console)
    return _scenes(Path(config.out), console) if config.data == "scenes" else _pictures(config)


def _digits(out: Path, console: Console) -> Setting:
    render(out / "data", 0, console)
    run = tiny_digits(str(out))
    [test] = run.evaluation.paths
    labelled = replace(run.data, class_names=run.evaluation.class_names, templates=DIGIT_PROMPTS)
    return Setting(
        run=replace(run, model=_towers(pretrained.get("tiny"))),
        measures=Measures(
            labelled=(("zero-shot", replace(labelled, path=test)),),
            probe=replace(labelled, path=f"{out}/data/test/seen-000000.tar"),
            pairs=replace(run.data, path=test),
        ),
    )


def _scenes(out: Path, console: Console) -> Setting:
    _render_scenes(out / "data", console)
    run = tiny_digits(str(out))
    one, many = (f"{out}/data/test/{part}-000000.tar" for part in ("one", "many"))
    evaluation = replace(run.evaluation, path=one, pairs=many)
    data = replace(run.data, path=f"{out}/data/train/{{000000..000011}}.tar", workers=0)
    labelled = replace(data, class_names=evaluation.class_names, templates=DIGIT_PROMPTS)
    run = replace(run, data=data, evaluation=evaluation, batch_size=64)
    return Setting(
        run=replace(run, model=_towers(pretrained.get("tiny-scenes"))),
        measures=Measures(
            labelled=(("zero-shot", replace(labelled, path=one)),),
            pairs=replace(data, path=many),
            questions=replace(data, path=many),
        ),
    )


def _render_scenes(folder: Path, console: Console) -> None:
    """Write the rich scenes into `folder`, unless they are there already."""
    stamp = folder / STAMP
    made = {"rich": rich_scenes.VERSION, "counts": COUNTS}
    if is_made(stamp, made):
        return
    delete_earlier(folder, stamp)
    folder.mkdir(parents=True)
    stamp.write_text("{}")  # says whose folder it is, should the rest be interrupted
    for part in rich_scenes.PARTS:
        count = COUNTS[part]
        samples = track(rich_scenes.samples(part, count), f"{part:8}", total=count, console=console)
        if part == "train":
            write_shards(folder / "train", samples, per_shard=_PER_SHARD)
        else:
            write_shards(folder / "test", samples, prefix=f"{part}-")
    (folder / "digits.txt").write_text("\n".join(scenes.DIGITS) + "\n")
    write_file(stamp, lambda part: part.write_text(json.dumps(made)))


def _pictures(config: ObjectivesConfig) -> Setting:
    run = tiny_cifar10()
    names, templates = config.class_names, config.templates
    data = replace(run.data, path=config.data, class_names=names, templates=templates)
    watched = replace(
        run.evaluation, path=config.test, class_names=names, templates=templates, limit=1000
    )
    return Setting(
        run=replace(run, model=_towers(pretrained.get("tiny-32")), data=data, evaluation=watched),
        measures=Measures(labelled=(("zero-shot", replace(data, path=config.test)),), probe=data),
    )


def _towers(config: ClipConfig) -> ModelConfig:
    """With a mask token for MLM and projections for token-wise late interaction, which some
    objectives need and all get."""
    assert isinstance(config.text, TextConfig)
    text, tokenizer = replace(config.text, vocab_size=VOCABULARY), TokenizerConfig(kind="declip")
    return ModelConfig(custom=replace(config, text=text, tokenizer=tokenizer, token_dim=TOKEN_DIM))
