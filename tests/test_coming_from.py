"""The tables of docs/from-*.md: what stands on Diptych's side is there. Commands and flags are
taken by the command line, imports import, calls have such arguments, names are names of something.

docs/from-open_clip.md has a table that the code writes: tests/compat/test_open_clip_train.py.
"""

import ast
import inspect
import re
from functools import cache
from pathlib import Path

import pytest

import diptych
from diptych import datasets, models, pretrained
from diptych.errors import DiptychError
from diptych.evaluation.tasks import TRAINED
from tests import command_lines, documents

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted({*DOCS.glob("from-*.md")} - {DOCS / "from-open_clip.md"})
EXTRAS = re.findall(r"^([\w-]+) = \[", (DOCS.parent / "pyproject.toml").read_text(), re.MULTILINE)
PLACEHOLDERS = {"M/P": "a model and its tag"}
_ROW = re.compile(r"^\|(.*)\|$", re.MULTILINE)
_SPAN = re.compile(r"`([^`]+)`")
_VERBS = (
    ("train", "tiny-digits", "--data.path", "a::b"),
    ("train", "tiny-digits", "--objective", "declip", "--data.path", "a"),
    ("evaluate", "MODEL"),
    ("classify", "MODEL", "x"),
    ("embed", "MODEL", "x", "--out", "x"),
)


def ours(page: str) -> list[list[str]]:
    """Of each row of a page's tables what its second column has in code."""
    rows = [re.split(r"(?<!\\)\|", row) for row in _ROW.findall(page)]
    return [_SPAN.findall(cells[1]) for cells in rows if cells[1].strip(" -")]


def lost(spans: list[str]) -> list[str]:
    """Those of a cell that aren't there. A word behind a flag is another of its values."""
    found, before = list[str](), ""
    for span in spans:
        whole = f"{before.split()[0]} {span}" if before and re.fullmatch(r"\w+", span) else span
        before = span if span.startswith("--") and " " in span else before
        if not _is_there(whole):
            found.append(whole)
    return found


@cache
def _is_there(span: str) -> bool:
    if command := documents.COMMAND.search(span):
        return not command_lines.refused(command_lines.words(command["rest"] or "--help"))
    if span.startswith("--"):
        return _is_taken(command_lines.words(span))
    if span.startswith("from "):
        return not documents.lost_imports(span)
    if "(" in span or "=" in span or span.startswith("clip."):
        return _is_python(span)
    return span in PLACEHOLDERS or _is_name(span.partition("/SET")[0])


def _is_taken(flags: list[str]) -> bool:
    """By some verb; one that is shown without a value has to be known."""
    if len(flags) == 1 or flags[1].startswith("--"):
        names = {
            name
            for verb in _VERBS
            for name in documents.known_flags(verb[0], verb[2:4] if verb[0] == "train" else ())
        }
        return {*flags} <= names
    return any(not command_lines.refused([*verb, *flags]) for verb in _VERBS)


def _is_python(span: str) -> bool:
    """Calls with arguments that they have; `dtype="fp16"` alone is an argument of `load`."""
    tree = ast.parse(span.replace("...,", "")).body[0]
    if isinstance(tree, ast.Assign) and isinstance(tree.value, ast.Constant):
        return tree.targets[0].id in inspect.signature(diptych.load).parameters
    try:
        _found(tree.value)
    except (AttributeError, KeyError):
        return False
    return True


def _found(node: ast.AST) -> object:
    """What an expression is, with an encoder as `clip` and the class as `index`; nothing is
    called."""
    if isinstance(node, ast.Call):
        called = _found(node.func)
        known = inspect.signature(called).parameters
        for argument in node.keywords:
            known[argument.arg]
        return diptych.Index if called == diptych.Index.open else None
    if isinstance(node, ast.Attribute):
        return getattr(_found(node.value), node.attr)
    assert isinstance(node, ast.Name)
    return {"diptych": diptych, "clip": _encoder(), "index": diptych.Index}[node.id]


@cache
def _encoder() -> diptych.Encoder:
    return diptych.Encoder(models.build(pretrained.get("tiny-32")))


def _is_name(word: str) -> bool:
    """Of a model, a dataset, a group, a task, or an extra of the package."""
    extra = re.fullmatch(r"diptych\[(.+)\]", word)
    if word in TRAINED or (extra and extra[1] in EXTRAS):
        return True
    for known in (pretrained.entry, lambda name: datasets.select((name,))):
        try:
            known(word)
        except DiptychError:
            continue
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_stands_on_diptychs_side_is_there(page):
    cells = ours(page.read_text())
    assert sum(map(len, cells)) >= 8
    assert not [span for cell in cells for span in lost(cell)]


def test_what_isnt_there_is_noticed():
    row = "| `--old` | `--optim.lrr`, `--optim.lr x`, `--shard.mode zero2`, `zero4` | |"
    [cell] = ours(row)
    assert lost(cell) == ["--optim.lrr", "--optim.lr x", "--shard.mode zero4"]
    assert lost(["diptych train clip-vit-b-33", "diptych embed MODEL x --ot y"]) != []
    calls = ['diptych.load(X, memori="2GB")', "clip.embed_picture(x)", 'dtyp="fp16"']
    assert lost([*calls, "cifar11", "diptych[nlkt]"]) == [*calls, "cifar11", "diptych[nlkt]"]
    assert lost(["from diptych.compat import create_modell"])
