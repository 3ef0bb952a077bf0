"""Names of files, classes and models that a terminal would obey: verbs show them."""

import ast
from pathlib import Path

import pytest

import diptych.cli
from diptych.cli import main
from diptych.cli.show import Names, say, show
from diptych.terminal import escaped
from tests import tiny

HOSTILE = "a\x1b[31m\x07\r\nb\u202ec [red]d[/red] [link=file:///x]e[/link]"
SHOWN = r"a\x1b[31m\x07\r\nb\u202ec [red]d[/red] [link=file:///x]e[/link]"
FORBIDDEN = ("\x1b", "\x07", "\r", "\u202e")


def test_control_characters_are_shown():
    assert escaped(HOSTILE) == SHOWN
    assert (
        escaped("é 猫 \U0001f468\u200d\U0001f469 مى\u200cخواهم")
        == "é 猫 \U0001f468\u200d\U0001f469 مى\u200cخواهم"
    )
    assert escaped("a byte \udcff, a half \ud800") == r"a byte \xff, a half \ud800"
    assert escaped("\u2028\x9b\x00\x7f\ufeff") == r"\u2028\x9b\x00\x7f\ufeff"


def test_tables_show_names_as_they_are(capsys):
    table = Names("", HOSTILE)
    table.add_row("1", HOSTILE)
    show(table)
    say(HOSTILE)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [SHOWN, f"1  {SHOWN}", SHOWN]


def test_no_verb_prints_in_another_way():
    """`print` is for help and JSON, which hold no names of files."""
    for path in Path(diptych.cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id == "print" and path.name not in ("show.py", "__init__.py"):
                    assert ast.unparse(node.args[0]).startswith(
                        ("_help(", "_HELP", "short(full", "json.dumps(")
                    ), path
                assert node.func.id != "Table", path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model and class folders, all with names that a terminal would obey."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    name = HOSTILE.replace("/", "_")
    tiny.save(tmp_path / f"model {name}")
    for kind in (f"cat {name}", "dog"):
        tiny.write_pictures(tmp_path / "photos" / kind, each=1)
    (tmp_path / "photos" / "dog" / f"broken {name}.jpg").write_bytes(b"no picture")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["classify", "MODEL", "photos/", "--names", HOSTILE, "cat"],
        ["classify", "MODEL", HOSTILE, "--names", "a", "b"],
        ["embed", "MODEL", "photos", "--out", f"{HOSTILE.replace('/', '_')}.index"],
        ["evaluate", "MODEL", "--data", "photos", "--max-bad-share", "1", "--cache", ""],
        ["evaluate", "MODEL", "--tasks", "photos", HOSTILE, "--max-bad-share", "1", "--cache", ""],
        ["evaluate", HOSTILE, "--data", "photos"],
        ["convert", "MODEL", "--to", HOSTILE, "--out", "x"],
        ["convert", "MODEL", "--out", f"out {HOSTILE.replace('/', '_')}"],
        ["models", HOSTILE],
        ["report", HOSTILE],
        ["search", HOSTILE, "x"],
        ["train", HOSTILE],
        ["train", "tiny-digits", "--data.path", HOSTILE],
        ["train", "--resume", HOSTILE],
    ],
    ids=lambda words: f"{words[0]} {words[1][:9]!r} {words[2:3]}",
)
def test_no_verb_sends_them(folder, capfd, words):
    model = next(str(path) for path in folder.iterdir() if path.name.startswith("model "))
    with pytest.raises(SystemExit):
        main([model if word == "MODEL" else word for word in words])
    out, err = capfd.readouterr()
    assert out + err
    for character in FORBIDDEN:
        assert character not in out + err
