"""Sentences name flags that exist: in the verb that says them, where only some verbs can."""

import ast
import importlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import diptych
from diptych import recipes
from diptych.cli import VERBS, index
from diptych.compat.open_clip_train.options import LATER, Options
from diptych.config import ObjectiveConfig
from diptych.experiments import CompareConfig
from diptych.training.plan import Machines

_SOURCE = Path(diptych.__file__).parent
# Not CSS' variables: var(--ink).
_FLAG = re.compile(r"(?<![\w(-])--[a-z][\w.*-]*|(?<!var)\(--[a-z][\w.*-]*")
_COMMAND = re.compile(r"`diptych ([a-z]+)[^`]*$")
_SETTING = re.compile(r"(?<![\w.-])[a-z_]+(?:\.[a-z_]+)*")
_FOREIGN = {
    *("--nproc-per-node", "--ntasks", "--ntasks-per-node"),  # torchrun, srun
    *("--shm-size", "--force-reinstall"),  # docker, pip
    *("--data-binary", "--json"),  # curl
    "--a.b",  # of the usage: any setting
}
_EVERYWHERE = {"--help", "--help-all", "--version"}
OPEN_CLIP_TRAIN = "open_clip_train"
"""A command line of its own, which speaks of open_clip's flags and of those of train."""
_ROOMS = {
    "app": ("app",),
    "checkpoints/content.py": ("convert",),
    "compat/open_clip_train": (OPEN_CLIP_TRAIN,),
    "cli/train_flags.py": ("train",),
    "config": ("train",),
    "data/bad.py": ("train",),
    "data/loader.py": ("train",),
    "data/order.py": ("train",),
    "data/ring.py": ("train",),
    "data/workers.py": ("train",),
    "datasets": ("evaluate",),
    "distributed": ("train",),
    "encoder/cache.py": ("evaluate",),
    "evaluation": ("evaluate",),
    "experiments/comparison": ("benchmark",),
    "experiments/digits": ("demo",),
    "experiments/objectives": ("benchmark",),
    "families": ("convert",),
    "inputs": ("train",),
    "objectives": ("train",),
    "optim": ("train",),
    "reports": ("report",),
    "search/export.py": ("index",),
    "search/joined.py": ("embed",),
    "search/query.py": ("search",),
    "search/texts.py": ("embed",),
    "search/update.py": ("embed",),
    "search": ("embed", "search"),
    "training": ("train",),
}
"""Room or file -> the verbs that say its sentences; of others any may."""


def _paths(config: object, prefix: str = "") -> Iterator[str]:
    """The dotted paths of a configuration's fields."""
    assert is_dataclass(config)
    for field in fields(config):
        yield f"{prefix}{field.name}"
        value = getattr(config, field.name, None)
        if is_dataclass(value) and not isinstance(value, type):
            yield from _paths(value, f"{prefix}{field.name}.")


def _settings() -> set[str]:
    """Of every recipe, with each objective."""
    found = set[str]()
    for name in recipes.names():
        found.update(_paths(recipes.get(name)))
    for kind in ObjectiveConfig.kinds().values():
        if kind.__module__.startswith("diptych."):
            found.update(_paths(kind(), "objective."))
    return found


def _flags(names: Collection[str]) -> set[str]:
    return {f"--{name.replace('_', '-')}" for name in names}


@pytest.fixture(scope="module")
def settings() -> set[str]:
    return _settings()


@pytest.fixture(scope="module")
def flags(settings: set[str]) -> dict[str, set[str]]:
    """Verb -> its flags."""
    found = {}
    both = (*fields(index.Export), *fields(index.Import))
    found["index"] = _flags([field.name for field in both])
    for verb in set(VERBS) - {"train", "plan", "index"}:
        module = importlib.import_module(f"diptych.cli.{verb}")
        found[verb] = _flags([field.name for field in fields(getattr(module, verb.title()))])
    found["train"] = _flags(settings) | {"--resume", "--resume-if-any"}
    found["plan"] = _flags(settings) | _flags([field.name for field in fields(Machines)])
    found["plan"].add("--mode")
    found["benchmark"] |= found["train"] | _flags([field.name for field in fields(CompareConfig)])
    found["benchmark"].add("--vary")
    found[OPEN_CLIP_TRAIN] = found["train"] | _flags([field.name for field in fields(Options)])
    found[OPEN_CLIP_TRAIN] |= {f"--{name}" for name in LATER}
    return found


def _texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and content of each string but docstrings; what an f-string fills in is a star."""
    skipped = set[int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            skipped.update(map(id, node.values))
            parts = [each.value if isinstance(each, ast.Constant) else "*" for each in node.values]
            yield node.lineno, "".join(map(str, parts))
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in skipped:
            yield node.lineno, node.value


def _sentences() -> Iterator[tuple[str, int, str]]:
    for path in sorted(_SOURCE.rglob("*.py")):
        name = path.relative_to(_SOURCE).as_posix()
        for line, text in _texts(ast.parse(path.read_text(encoding="utf-8"))):
            yield name, line, text


def _verbs(file: str) -> tuple[str, ...]:
    """Whose sentences stand in a file; none where any verb may say them."""
    for room, verbs in _ROOMS.items():
        if file == room or file.startswith(f"{room}/"):
            return verbs
    own = file.removeprefix("cli/").removesuffix(".py").partition("_")[0]
    return (own,) if file.startswith("cli/") and own in VERBS else ()


def _named(text: str) -> Iterator[tuple[str, str]]:
    """Each flag, and the verb of the command that it is quoted with; empty: it stands alone."""
    for found in _FLAG.finditer(text):
        command = _COMMAND.search(text[: found.start()])
        yield found[0].lstrip("(").rstrip(".-"), command[1] if command else ""


def _exists(flag: str, known: Collection[str]) -> bool:
    """Whether it is one of them, or the beginning of one ("--data." in front of a name)."""
    return any(fnmatchcase(each, flag) or each.startswith(f"{flag}.") for each in known)


def _is_of(flag: str, verbs: Collection[str], flags: Mapping[str, set[str]]) -> bool:
    """Whether it is a flag of each of the verbs; of none: whether any has it."""
    if _exists(flag, _FOREIGN | _EVERYWHERE):
        return True
    return (all if verbs else any)(_exists(flag, flags[verb]) for verb in verbs or flags)


def test_flags_are_found_in_sentences() -> None:
    """Else the test below would pass whatever the sentences say."""
    code = '"""Not --this."""\nf"say --that {x}, or (--model.{side}.init) of var(--ink)."'
    [text] = [text for _, text in _texts(ast.parse(code))]
    assert list(_named(text)) == [("--that", ""), ("--model.*.init", "")]
    assert list(_named("`diptych embed X --out Y`, --top")) == [("--out", "embed"), ("--top", "")]
    assert _verbs("search/update.py") == ("embed",)
    assert _verbs("cli/evaluate_check.py") == ("evaluate",)
    flags = {"train": {"--model.text.init"}, "embed": {"--out"}, "search": {"--out", "--top"}}
    assert _is_of("--model.*.init", ["train"], flags)
    assert not _is_of("--model.*.size", ["train"], flags)
    assert not _is_of("--top", ["embed", "search"], flags)
    assert _is_of("--top", [], flags)


def test_flags_that_sentences_name_exist(flags: dict[str, set[str]]) -> None:
    unknown = [
        f"{file}:{line}: {flag}"
        for file, line, text in _sentences()
        for flag, verb in _named(text)
        if not _is_of(flag, (verb,) if verb else _verbs(file), flags)
    ]
    assert not unknown, "\n".join(unknown)


def test_settings_are_spelt_as_flags(settings: set[str]) -> None:
    """As a user of the command line types them: --optim.start-lr, not optim.start_lr. (A single
    word, such as seed, may be a word of any sentence.)"""
    telling = {setting for setting in settings if not setting.isalpha()}
    plain = []
    for file, line, text in _sentences():
        found = set(_SETTING.findall(text)) & telling
        if " " in text.strip():
            plain += [f"{file}:{line}: {setting}" for setting in sorted(found)]
    assert not plain, "\n".join(plain)
