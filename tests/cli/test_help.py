"""`--help` fits a screen and has the flags that most people want; `--help-all` has every one."""

import re

import pytest

from diptych.cli import main
from diptych.cli.help_groups import GROUPS

COMMANDS = {
    "train": ["train", "clip-vit-l-14"],
    "evaluate": ["evaluate"],
    "reinforce": ["reinforce"],
}


def said(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 0
    return capsys.readouterr().out


def flags(text: str) -> set[str]:
    """The flags that have a line of their own; where one is on, the flag that turns it off."""
    return {found[1] for found in re.finditer(r"^(?:│|  )\s?(--[a-z]\S*)", text, re.MULTILINE)}


@pytest.mark.parametrize("verb", GROUPS)
def test_the_flags_of_its_groups_are_on_a_screen(capsys, verb):
    short = said(capsys, *COMMANDS[verb], "--help")
    names = {name for group in GROUPS[verb].values() for name in group}
    assert {flag[2:].replace("no-", "") for flag in flags(short)} == names
    assert len(short.splitlines()) < 75
    assert max(map(len, short.splitlines())) <= 110


@pytest.mark.parametrize("verb", GROUPS)
def test_all_flags_are_in_the_whole_help(capsys, verb):
    short, whole = (said(capsys, *COMMANDS[verb], word) for word in ("--help", "--help-all"))
    more = int(short.splitlines()[-2].split()[0])
    assert flags(short) < flags(whole)
    assert len(flags(whole) - flags(short)) == more


def test_a_verb_without_groups_shows_all_but_how_it_computes(capsys):
    short, whole = (said(capsys, "classify", word) for word in ("--help", "--help-all"))
    assert {"--names", "--examples", "--templates", "--top", "--out"} <= flags(short)
    assert {"--dtype", "--memory"} <= flags(whole) - flags(short)
    assert "What it could be: names, or one text file with a name a line" in short


def test_an_example_keeps_its_line_in_both(capsys):
    for word in ("--help", "--help-all"):
        lines = said(capsys, "evaluate", word).splitlines()
        assert "diptych evaluate --list" in lines


def test_what_is_on_has_the_flag_that_turns_it_off(capsys):
    short = said(capsys, "train", "clip-vit-l-14", "--help")
    assert "  --model.image.no-checkpointing " in short
    assert "with no- in it, off" in short
