"""What a file's names may run: worked out by hand for each place where a module can lie."""

import json
import os
import subprocess
import sys

import pytest

from diptych.errors import ConfigError
from diptych.named import check_named

OURS = "import diptych\n\nprint('RAN')\n\n\nclass Config:\n    pass\n"
"""A module that would pass for one written for Diptych, and says that it ran."""


def write(folder, name="evil.py", text=OURS):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


@pytest.mark.parametrize(
    "path",
    [
        "antigravity:fly",
        "antigravity:Config",
        "this:s",
        "antigravity.nothing:Config",
        "antigravity..nothing:Config",
        "idlelib.idle:Config",
        "lib2to3.tests.test_parser:TestParserIdempotency",
        "turtledemo.clock:Config",
    ],
)
def test_modules_of_others_are_not_imported(path):
    module = path.partition(":")[0]
    assert module not in sys.modules
    with pytest.raises(ConfigError, match=r"isn't imported because a file names it: it isn't writ"):
        check_named(path)
    assert not {"antigravity", "this", "idlelib.idle", "turtledemo"} & set(sys.modules)


def test_what_is_imported_already_may_be_named():
    check_named("json:JSONDecoder")
    check_named("anything.at_all:X")  # there is no such package: left to the import


@pytest.mark.parametrize(
    ("text", "name", "fits"),
    [
        (OURS, "Config", True),
        (OURS, "Other", False),
        ("from diptych.config import Run\nclass Config: pass", "Config", True),
        ("from diptych_evil import Run\nclass Config: pass", "Config", False),
        ("def f():\n    class Config: import diptych", "Config", False),
        ("class Config: pass", "Config", False),
        ("import diptych\nclass Config(", "Config", False),
        ("(" * 10_000, "Config", False),
    ],
)
def test_only_what_is_written_for_us(tmp_path, monkeypatch, text, name, fits):
    write(tmp_path, text=text)
    monkeypatch.syspath_prepend(tmp_path)
    if fits:
        check_named(f"evil:{name}")
    else:
        with pytest.raises(ConfigError, match="isn't written for Diptych, or doesn't define"):
            check_named(f"evil:{name}")
    assert "evil" not in sys.modules


@pytest.mark.parametrize("below", [".", "code", "code/more"])
@pytest.mark.parametrize("mark", ["model.json", "run.json"])
def test_nothing_beside_a_model(tmp_path, monkeypatch, below, mark):
    write(tmp_path / "model" / below)
    (tmp_path / "model" / mark).write_text("{}")
    monkeypatch.syspath_prepend(tmp_path)
    path = ".".join(("model", *(part for part in below.split("/") if part != "."), "evil"))
    with pytest.raises(ConfigError, match="it lies beside a model, in .*/model;"):
        check_named(f"{path}:Config")


READ = "from diptych.config import *; from diptych.config.serialize import from_json"
READ += "; import sys; from_json(ClipConfig, open('config.json').read())"


def run(folder, *words, **environment):
    """Both streams of a process in `folder`, which reads a configuration that names evil.py."""
    text = json.dumps({"type": "ClipConfig", "image": {"type": "evil:Config"}})
    (folder / "config.json").write_text(text)
    (folder / "script.py").write_text(READ)
    source = os.path.dirname(os.path.dirname(sys.modules["diptych"].__file__))
    places = os.pathsep.join((source, *environment.pop("also", ())))
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": places} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_where_a_module_may_lie(tmp_path):
    write(tmp_path)
    assert "it lies in the current folder" in (said := run(tmp_path, "-c", READ))
    assert "RAN" not in said
    assert "RAN" in run(tmp_path, "script.py")
    assert "RAN" in run(tmp_path, "-c", READ, also=[str(tmp_path)])
    assert "RAN" in run(tmp_path, "-c", "import evil; " + READ)


def test_python_m_diptych_runs_nothing_of_the_current_folder(tmp_path):
    """Python itself puts it first; a module of the name of one that we use would run."""
    write(tmp_path, "tyro.py", "print('RAN')")
    write(tmp_path)
    words = ("-m", "diptych", "convert", "nothing", "--config", "config.json", "--out", "x")
    said = run(tmp_path, *words)
    assert "RAN" not in said
    assert "diptych: " in said
    assert "RAN" in run(tmp_path, "-m", "diptych", "models", "tiny", DIPTYCH_IMPORT="evil")
    said = run(tmp_path, "-m", "diptych", "models", DIPTYCH_IMPORT="nowhere")
    assert said.startswith("diptych: DIPTYCH_IMPORT can't be imported: there is no module nowhere")
