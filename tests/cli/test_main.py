"""The root of the command line, as a user meets it: real processes where that matters."""

import os
import re
import subprocess
import sys
import warnings

import pytest

from diptych import __version__
from diptych.cli import VERBS, main
from diptych.cli import models as models_verb
from diptych.errors import AssumptionWarning


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, **options
    )


def leave(*arguments: str) -> int:
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert isinstance(error.value.code, int)
    return error.value.code


def test_help_lists_the_verbs_and_imports_no_torch():
    script = (
        "import sys; from diptych.cli import main\n"
        "try: main(sys.argv[1:])\nfinally: assert 'torch' not in sys.modules"
    )
    for arguments in (
        [],
        ["--help"],
        ["--version"],
        ["embed", "--help"],
        ["search", "--help"],
        ["models", "--help"],
        ["demo", "--help"],
        ["benchmark", "--help"],
    ):
        done = run("-c", script, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        if not arguments or arguments == ["--help"]:
            assert all(verb in done.stdout for verb in VERBS)


def test_the_version(capsys):
    assert leave("--version") == 0
    assert capsys.readouterr().out == f"diptych {__version__}\n"


def test_a_typo_in_a_verb_gets_a_near_miss(capsys):
    assert leave("serch", "x") == 2
    assert capsys.readouterr().err == "diptych: no verb is called 'serch'; did you mean 'search'?\n"


def test_a_verb_of_other_programs_gets_ours(capsys):
    assert leave("label", "x") == 2
    err = capsys.readouterr().err
    assert err == "diptych: no verb is called 'label'; did you mean 'classify'?\n"


def test_a_typo_in_a_flag_gets_a_near_miss(capsys):
    assert leave("search", "x.index", "a dog", "--tpo", "3") == 2
    assert "--top" in capsys.readouterr().err


def test_what_a_user_did_is_one_sentence(capsys):
    assert leave("search", "nowhere.index", "a dog") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("diptych: nowhere.index is not an index;")
    assert err.count("\n") == 1


def test_ctrl_c_is_130(monkeypatch, capsys):
    monkeypatch.setattr(
        "diptych.cli.models.run", lambda _: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    assert leave("models") == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_closed_pipe_is_quiet():
    command = f"{sys.executable} -m diptych models | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_our_own_mistakes_keep_their_traceback(monkeypatch):
    monkeypatch.setattr("diptych.cli.models.run", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["models"])


def test_a_warning_of_ours_is_a_line_on_stderr(capsys, monkeypatch):
    def verb(arguments):
        for _ in range(2):
            warnings.warn("gelu is assumed", AssumptionWarning, stacklevel=1)
        with pytest.warns(RuntimeWarning, match="of others"):
            warnings.warn("of others", RuntimeWarning, stacklevel=1)

    monkeypatch.setattr(models_verb, "run", verb)
    with pytest.raises(SystemExit):
        main(["models"])
    assert capsys.readouterr().err == "diptych: gelu is assumed\n" * 2


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device", "a/b"), "a/b: No space left on device; make room"),
        (PermissionError(13, "Permission denied", "a"), "a: Permission denied; choose a place"),
        (OSError(30, "Read-only file system", "a"), "a: Read-only file system; choose a place"),
        (OSError("odd"), "odd"),
        (MemoryError(), "there isn't enough memory"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(monkeypatch, capfd, error, says):
    def refuse(_):
        raise error

    monkeypatch.setattr(models_verb, "run", refuse)
    assert leave("models") == 2
    told = capfd.readouterr().err
    assert told.startswith(f"diptych: {says}")
    assert told.count("\n") == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_stdout_is_one_sentence(unbuffered):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "diptych", "models"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
    assert done.returncode == 2
    assert done.stderr == "diptych: the output (stdout): No space left on device; make room\n"


def test_control_characters_of_names_are_shown_not_sent(capsys):
    assert leave("search", "\x1b[31mred\x07.index", "a dog") == 2
    told = capsys.readouterr().err
    assert "\\x1b[31mred\\x07.index" in told
    assert "\x1b" not in told


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("search x.index cat --tpo 3", "no flag of search is called '--tpo'; .*'--top'"),
        ("search x.index cat -n 3", "no flag of search is called '-n'; .*'--top'"),
        ("search x.index cat --top x", "--top 'x' must be a whole number"),
        ("search x.index cat --top", "search needs a value for --top"),
        ("classify m p --output x", "is called '--output'; did you mean '--out'"),
        ("classify --model m p", "MODEL stands without a flag: `diptych classify MODEL PICTURE"),
        ("classify m p --names a --top 1 x", "has no place for x: put a pattern into quotes"),
        ("embed m p --out x --half 3", "--half takes no value, but 3 follows it"),
        ("embed m p", "embed needs --out X.index; `diptych embed --help` says more"),
        ("evaluate m --task probe", "no value of --task is called 'probe'; known are fewshot, l"),
        ("train --lr 1", "a recipe stands before --lr: `diptych train tiny-digits --lr ...`"),
        ("plan --gpus 8", "a recipe stands before --gpus: `diptych plan tiny-digits --gpus ...`"),
        ("train --recipe x --lr 1", "a recipe stands without a flag: `diptych train x ...`"),
        ("plan --recipe=x", "a recipe stands without a flag: `diptych plan x ...`"),
        ("plan --recipe", "a recipe stands without a flag: `diptych plan RECIPE ...`"),
        ("benchmark runs --recipe x --vary a: --vary b:", "`diptych benchmark runs x ...`"),
        ("train tiny-digits --optim.name lambs", "no optimiser is called 'lambs'; did you mean"),
        ("train tiny-digits --lr 1", "did you mean '--optim.lr' or"),
        ("train tiny-digits --caption-key x", "did you mean '--data.caption-key'"),
        ("plan tiny-digits --gpu 8", "no flag of plan tiny-digits .*'--gpus'"),
    ],
)
def test_a_command_line_that_does_not_fit_is_one_sentence(arguments, says, capsys):
    assert leave(*arguments.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert re.match(f"diptych: .*{says}", err)
