"""Patterns give bash's names; those that stand for too many are refused before they are made."""

import subprocess
import time

import pytest

from diptych.data.braces import _count, expand_braces
from diptych.errors import ConfigError

PATTERNS = [
    "a",
    "{a,b}",
    "{000..123}.tar",
    "x{1,{2..4},5{6,7}}{a..c}",
    "{00{0..9},0{10..99},{100..1283}}",
    "{4..1}{a,,b}",
    "{0..20..7}",
    "{-3..3}",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_names_are_those_of_bash_and_counted_without_making_them(pattern):
    script = f"printf '%s\n' {pattern}"
    names = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert expand_braces(pattern) == names.stdout.split("\n")[:-1]
    assert _count(pattern) == len(expand_braces(pattern))


@pytest.mark.parametrize(
    "pattern",
    [
        "{0..999999999}.tar",
        "{0..99999999999999999999999}.tar",
        "{a,b}" * 40,
        "{a,b}" * 10_000,
        "{0..9999}{0..9999}",
        "{a,{b,{c,{0..9999999}}}}",
        "{0..1999999}" + "x" * 10_000,
        "{" + "0" * 100_000 + "1..99999}",
    ],
)
def test_too_many_names_are_refused_at_once(pattern):
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"stands for more than|unbalanced"):
        expand_braces(pattern)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("pattern", ["{a", "a}", "{" * 10_000, "{" * 3000 + "a" + "}" * 3000])
def test_unbalanced_and_senseless_braces_are_one_sentence(pattern):
    with pytest.raises(ConfigError, match=r"unbalanced braces"):
        expand_braces(pattern)
