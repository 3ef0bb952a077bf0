"""What is measured while a model is trained: accuracy on labelled pictures, loss and retrieval on
held-out pairs."""

import re
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import torch

from diptych.config import DataConfig, EvaluationConfig, Run
from diptych.data import open_source
from diptych.datasets import Dataset, open_own
from diptych.distributed import FAILURES, Peers, together
from diptych.encoder import Encoder
from diptych.errors import ConfigError, DataError, DataWarning, DiptychError, first_line
from diptych.evaluation import Task
from diptych.evaluation.engine import Engine
from diptych.evaluation.names import short_names
from diptych.inputs import Preprocess, Tokenizer
from diptych.models import Clip
from diptych.objectives import Objective
from diptych.training.metrics import Row
from diptych.training.state import TrainingState, exported
from diptych.training.validation import Validation

_TRIED = 8
"""Samples that are tried before the first step."""
_FLAG = re.compile(r"(?<![\w-])--(?:data\.)?([a-z-]+)")
_RECALL = re.compile(r"_r(\d+)$")
Measure = Callable[[Objective, Dataset, int], Row]
"""From an objective and its model, a dataset and the number of samples (0: all) to entries of a row
of metrics."""


@dataclass
class _Set:
    """One dataset: opened once, when it is first wanted."""

    flag: str
    open: Callable[[], Dataset]
    measure: Measure
    peers: Peers
    opened: list[Dataset] = field(default_factory=list[Dataset])

    def dataset(self) -> Dataset:
        """It, open, on every process. Raises what opening raises."""
        if not self.opened:
            self.opened.append(together(self.peers, self.open))
        return self.opened[0]

    def sentence(self, error: Exception) -> str:
        """What went wrong, with the flags of an evaluation."""
        text = str(error) if isinstance(error, DiptychError) else first_line(error)
        return f"{self.flag}: " + spelt_for_training(text)


def spelt_for_training(sentence: str) -> str:
    """The sentence with flags of data or of `diptych evaluate` as training spells them.

    >>> from diptych.training.evaluate import spelt_for_training
    >>> spelt_for_training("name them by --class-names; captions by --caption-key")
    'name them by --evaluation.class-names; captions by --data.caption-key'
    """

    def spelt(flag: re.Match[str]) -> str:
        name = flag[1].replace("-", "_")
        for config in (EvaluationConfig, DataConfig):
            if name in (field.name for field in fields(config)):
                return f"{config.flags}{flag[1]}"
        return flag[0]

    return _FLAG.sub(spelt, sentence)


class Evaluation:
    """All that a run measures on the way. Every process calls it alike, and encodes its share.

    `alone`: the objective reads no captions, so held-out pictures without any will do for its loss.
    """

    def __init__(
        self,
        run: Run,
        peers: Peers,
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        alone: bool = False,
    ):
        self._limit, self._compiled = run.evaluation.limit, run.compile
        self._sets = _accuracies(run, peers) + _pairs(run, peers, tokenizer, preprocess, alone)

    def __bool__(self) -> bool:
        """Whether anything is measured."""
        return bool(self._sets)

    def try_out(self, state: TrainingState) -> list[str]:
        """Open every set and measure a few samples: a sentence on each that fails, naming its
        flag."""
        wrong = list[str]()
        few = min(self._limit, _TRIED) if self._limit else _TRIED
        with self._shown(state) as objective:
            for each in self._sets:
                try:
                    # Some of the first samples may be bad; all of them must not be.
                    each.measure(objective, replace(each.dataset(), max_bad_share=1.0), few)
                except FAILURES as error:
                    wrong.append(each.sentence(error))
        return wrong

    def __call__(self, state: TrainingState) -> Row:
        """A row of metrics. A set that fails is a sentence in its `evaluation_failed`: what is
        measured on the way never ends a run."""
        with self._shown(state) as objective:
            return {"step": state.step} | self._measured(objective)

    @contextmanager
    def _shown(self, state: TrainingState) -> Generator[Objective, None, None]:
        # What is measured has other shapes and modes than a step: compiled, too, it would double
        # the graphs.
        eager = torch.compiler.set_stance("force_eager") if self._compiled else nullcontext()
        with eager, exported(state) if self._sets else nullcontext(state.objective) as objective:
            yield objective

    def _measured(self, objective: Objective) -> Row:
        row: Row = {}
        failed = list[str]()
        for each in self._sets:
            try:
                found = each.measure(objective, each.dataset(), self._limit)
            except Exception as error:  # noqa: BLE001 (whatever somebody's files or code raise)
                failed.append(each.sentence(error))
                continue
            accuracies = row.get("evaluation", {}) | found.pop("evaluation", {})
            row |= found | ({"evaluation": accuracies} if accuracies else {})
        return row | ({"evaluation_failed": failed} if failed else {})


def _accuracies(run: Run, peers: Peers) -> list[_Set]:
    config, paths = run.evaluation, run.evaluation.paths
    return [
        _Set(
            flag=f"--evaluation.path {path}",
            open=_opening(
                DataConfig(path=path, class_names=config.class_names, templates=config.templates),
                "zero-shot",
            ),
            measure=_accuracy(f"{name}/" if len(paths) > 1 else "", peers),
            peers=peers,
        )
        for path, name in short_names(paths).items()
    ]


def _pairs(
    run: Run, peers: Peers, tokenizer: Tokenizer, preprocess: Preprocess, alone: bool
) -> list[_Set]:
    path = run.evaluation.pairs
    if not path:
        return []
    root = "" if "::" in run.data.image_root else run.data.image_root
    data = replace(run.data, path=path, source=None, weights=(), upsample=(), image_root=root)
    validation = Validation(
        data=data,
        batch_size=run.batch_size,
        tokenizer=tokenizer,
        preprocess=preprocess,
        peers=peers,
    )
    flag = f"--evaluation.pairs {path}"
    opening = _opening(data, "retrieval")
    opening = _or_pictures_alone(opening, data, flag) if alone else opening
    return [_Set(flag, opening, _recalls_and_loss(validation), peers)]


def _opening(data: DataConfig, kind: Literal["zero-shot", "retrieval"]) -> Callable[[], Dataset]:
    def opened() -> Dataset:
        try:
            return open_own(data, kind)
        except DiptychError as error:
            if kind == "retrieval":
                raise
            hint = "pairs with captions and no labels are for --evaluation.pairs"
            raise ConfigError(f"{error} ({hint})") from error

    return opened


def _or_pictures_alone(
    opening: Callable[[], Dataset], data: DataConfig, flag: str
) -> Callable[[], Dataset]:
    """The pairs; or, where there are pictures without captions, these, without a metric."""

    def opened() -> Dataset:
        try:
            return opening()
        except DataError as error:
            source = open_source(data, alone=True, flags="--")
            warnings.warn(
                f"{flag}: the loss alone is measured: {spelt_for_training(str(error))}",
                DataWarning,
                stacklevel=2,
            )
            return Dataset(name=data.path, kind="retrieval", source=source, metric="")

    return opened


def _accuracy(prefix: str, peers: Peers) -> Measure:
    def measure(objective: Objective, dataset: Dataset, limit: int) -> Row:
        found = evaluate_model(objective.model, dataset, limit, peers)
        return {"evaluation": {f"{prefix}{name}": value for name, value in found.items()}}

    return measure


def _recalls_and_loss(validation: Validation) -> Measure:
    def measure(objective: Objective, dataset: Dataset, limit: int) -> Row:
        row: Row = {"val/loss": validation.loss(objective, dataset.source, limit)}
        if not dataset.metric:
            return row
        found = evaluate_model(objective.model, dataset, limit, validation.peers)
        for name, value in found.items():
            row["val/" + _RECALL.sub(r"_R@\1", name)] = value
        return row

    return measure


def evaluate_model(model: Clip, dataset: Dataset, limit: int, peers: Peers) -> dict[str, float]:
    """The metrics of a model in training on the first `limit` samples (0: all) of a dataset."""
    engine = Engine(limit=limit, peers=peers)
    [extractor] = engine.extractors(Encoder(model)).values()
    task = Task(name=dataset.name, data=dataset.path)
    [result] = engine.measure(task, {"test": dataset}, [extractor])
    return dict(result.metrics)
