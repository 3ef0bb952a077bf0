"""Numbers out of range are refused by name before anything begins, each of them."""

import contextlib
import dataclasses
import io
import itertools
import math
import typing
from typing import Annotated

import pytest

from diptych.cli import VERBS, main
from diptych.components import Component
from diptych.config import AugmentConfig, DataConfig, OptimConfig, Run, StrongConfig
from diptych.config.ranges import Filled, Range, Ranged, check_ranges
from diptych.errors import ConfigError
from diptych.families import objective_configs, tower_configs
from diptych.families.clip import VitConfig
from diptych.objectives.declip import DeclipObjective  # which imports its configurations


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"lr": math.nan}, "--optim.lr nan must be a number above 0"),
        ({"lr": math.inf}, "--optim.lr inf must be a number from above 0 to 1e+38"),
        ({"lr": -1.0}, "--optim.lr -1.0 must be a number above 0"),
        (
            {"betas": (0.9, 2.0)},
            "--optim.betas (0.9, 2.0): 2.0 must be a number from 0 to below 1",
        ),
        ({"eps": -1.0}, "--optim.eps -1.0 must be a number of at least 0"),
        ({"weight_decay": -1.0}, "--optim.weight-decay -1.0 must be a number of at least 0"),
        ({"final_lr": math.nan}, "--optim.final-lr nan must be a number of at least 0"),
        ({"max_norm": -0.1}, "--optim.max-norm -0.1 must be a number of at least 0"),
        ({"warmup": -1}, "--optim.warmup -1 must be a number of at least 0"),
        ({"momentum": 1.0}, "--optim.momentum 1.0 must be a number from 0 to below 1"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(setting, says):
    with pytest.raises(ConfigError) as error:
        OptimConfig(**setting)
    assert str(error.value) == says


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: AugmentConfig(scale=(1.0, 0.5)), "--data.augment.scale 1.0 0.5 must not fall"),
        (lambda: StrongConfig(blur_sigma=(2.0, 0.1)), "--data.strong.blur-sigma 2.0 0.1 must not"),
        (
            lambda: DataConfig(path="a::b", weights=(1.0, 0.0)),
            r"--data.weights 0 of b must be above 0",
        ),
        (lambda: Run(steps=0, epochs=0.0), "set --steps or --epochs above 0; both are 0"),
        (lambda: Run(steps=1, batch_size=10**12), "--batch-size 1000000000000 must be a number fr"),
        (lambda: VitConfig(heads=0), "heads 0 must be a number of at least 1"),
        (lambda: VitConfig(layers=10**9), "layers 1000000000 must be a number from 0 to 1000"),
    ],
)
def test_what_else_is_senseless(make, says):
    with pytest.raises(ConfigError) as error:
        make()
    assert says in str(error.value)


def below(kind):
    for each in kind.__subclasses__():
        yield each
        yield from below(each)


def _is_options(value):
    return dataclasses.is_dataclass(value) and value.__module__.startswith("diptych.cli.")


def configurations():
    """Every configuration of ours, and every verb's options."""
    assert {*objective_configs(), *tower_configs()}
    assert DeclipObjective
    found = {kind for base in (Component, Ranged) for kind in below(base)}
    for verb in VERBS:
        module = __import__(f"diptych.cli.{verb}", fromlist=[verb])
        found |= {each for each in vars(module).values() if _is_options(each)}
    ours = [kind for kind in found if kind.__module__.startswith("diptych.")]
    return sorted(filter(dataclasses.is_dataclass, ours), key=lambda kind: kind.__qualname__)


def numbers_of(hint, marked=False):
    """Of each number in a type, whether it has a range."""
    if hint in (int, float):
        yield marked
        return
    marks = getattr(hint, "__metadata__", ())
    inner = typing.get_args(hint)[:1] if marks else typing.get_args(hint)
    for each in inner:
        yield from numbers_of(each, marked or any(isinstance(mark, Range) for mark in marks))


@pytest.mark.parametrize("kind", configurations(), ids=lambda kind: kind.__qualname__)
def test_every_number_has_a_range(kind):
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        assert all(numbers_of(hints[field.name])), f"{kind.__qualname__}.{field.name}"


def samples(kind):
    """A made one, of those that have defaults."""
    with contextlib.suppress(TypeError, ConfigError):
        return kind(steps=1) if kind is Run else kind()
    return None


MADE = [made for kind in configurations() if issubclass(kind, Ranged) and (made := samples(kind))]


@pytest.mark.parametrize("made", MADE, ids=lambda made: type(made).__qualname__)
def test_every_range_is_checked_when_one_is_made(made):
    """A `__post_init__` that forgets its base's would check nothing."""
    hints = typing.get_type_hints(type(made), include_extras=True)
    for field in dataclasses.fields(made):
        bad = value_outside(hints[field.name])
        if bad is not None:
            with pytest.raises(ConfigError, match=field.name.replace("_", "[-_]")):
                dataclasses.replace(made, **{field.name: bad})


def value_outside(hint):
    marks = getattr(hint, "__metadata__", ())
    if any(isinstance(mark, Range) for mark in marks):
        return math.nan if hint.__origin__ is float else -(10**30)
    inner = [value_outside(each) for each in typing.get_args(hint)]
    if typing.get_origin(hint) is tuple and inner and inner[0] is not None:
        return tuple(each for each in inner if each is not None)
    return next((each for each in inner if each is not None), None)


HOSTILE = ("nan", "-1", "1" + "0" * 40)  # the last one is beyond float32, too


POSITIONALS = {
    "search": ["x.index", "cat"],
    "embed": ["model", "photos", "--out", "x.index"],
    "classify": ["model", "photo.jpg", "--names", "a", "b"],
    "evaluate": ["model", "--data", "photos"],
    "demo": [],
    "benchmark": ["objectives"],
    "convert": ["a.pt", "--to", "onnx", "--out", "a.onnx"],
    "duplicates": ["x.index"],
}


def ranges_of(hint):
    yield from (mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Range))
    for each in typing.get_args(hint):
        yield from ranges_of(each)


def flags():
    """Each verb's flags of a number, with numbers that are senseless for it."""
    for verb in (*POSITIONALS, "report"):
        module = __import__(f"diptych.cli.{verb}", fromlist=[verb])
        kind = vars(module)[verb.capitalize()]
        for name, hint in typing.get_type_hints(kind, include_extras=True).items():
            if "flags" in name or not any(numbers_of(hint)):
                continue
            for value in HOSTILE:
                if not any(float(value) in each for each in ranges_of(hint)):
                    yield verb, f"--{name.replace('_', '-')}", value


@pytest.mark.parametrize(("verb", "flag", "value"), list(flags()))
def test_no_flag_of_a_verb_takes_senseless_numbers(tmp_path, monkeypatch, verb, flag, value):
    monkeypatch.chdir(tmp_path)
    assert flag[2:] in said([verb, *POSITIONALS[verb], f"{flag}={value}"])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_no_flag_of_a_run_takes_senseless_numbers(tmp_path, monkeypatch):
    """In turn, since each command takes a third of a second."""
    monkeypatch.chdir(tmp_path)
    for (flag, hint), value in zip(run_flags(Run), itertools.cycle(HOSTILE), strict=False):
        if any(float(value) in each for each in ranges_of(hint)):
            continue  # --save.keep -1
        refuses(flag, hint, value)
    assert not list(tmp_path.iterdir())


def test_a_flag_of_each_part_of_a_run_takes_no_senseless_number(tmp_path, monkeypatch):
    """Of what is above; `test_every_range_is_checked_when_one_is_made` makes each with each."""
    monkeypatch.chdir(tmp_path)
    parts = {flag.rpartition(".")[0]: (flag, hint) for flag, hint in run_flags(Run)}
    for flag, hint in parts.values():
        refuses(flag, hint, "nan")
    assert not list(tmp_path.iterdir())


def refuses(flag: str, hint: object, value: str):
    words = [f"{flag}={value}"] if typing.get_origin(hint) is not tuple else [flag, value, value]
    name = flag.rpartition(".")[2].removeprefix("--")
    assert name in said(["train", "tiny-digits", *words]).replace("_", "-"), flag


def run_flags(kind, before="--"):
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if dataclasses.is_dataclass(hint) and not issubclass(hint, Component):
            yield from run_flags(hint, f"{before}{name.replace('_', '-')}.")
        elif any(numbers_of(hint)):
            yield f"{before}{name.replace('_', '-')}", hint


def said(words: list[str]) -> str:
    """What a command that must fail answers on stderr, in a sentence."""
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream), pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2, words
    assert "Traceback" not in stream.getvalue()
    return " ".join(stream.getvalue().replace("│", " ").split())


def test_ranges_of_options_without_a_base():
    @dataclasses.dataclass
    class Options:
        depth: Annotated[int, Range(1, 5)] | None = None
        pair: tuple[Annotated[float, Range()], Annotated[float, Range()]] = (0.0, 1.0)
        names: Annotated[tuple[str, ...], Filled("NAME")] = ()

    check_ranges(Options(depth=None, names=("a",)))
    with pytest.raises(ConfigError, match="--depth 6 must be a number from 1 to 5"):
        check_ranges(Options(depth=6))
    for depth in (1.5, True, "deep"):
        with pytest.raises(ConfigError, match=f"--depth {depth} must be a"):
            check_ranges(Options(depth=depth))
    with pytest.raises(ConfigError, match=r"--pair \(0.9,\) must be 2 values, not 1"):
        check_ranges(Options(pair=(0.9,)))
    with pytest.raises(ConfigError, match="NAME '' is empty"):
        check_ranges(Options(names=("a", "")))
    with pytest.raises(ConfigError, match="--pair must have a value, and has none"):
        check_ranges(Options(pair=None))
