"""Files that something damaged, or that someone made to do harm: whatever is in them, the answer is
a result or a DiptychError of one sentence, within limits of time and memory for each.

A few of each kind run with the tests. `DIPTYCH_FUZZ=5000 pytest tests/fuzzing` tries that many of
each; `DIPTYCH_FUZZ_SEED` chooses others. What failed is told with its number.
"""

import json
import os
from typing import Any

import pytest

from tests.forked import Script
from tests.fuzzing.targets import TARGETS

COUNT = os.environ.get("DIPTYCH_FUZZ", "4")
SEED = os.environ.get("DIPTYCH_FUZZ_SEED", "0")


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    process = Script("from tests.fuzzing.run import main; main()", COUNT, SEED)
    code, found, errors = process.end(600.0 * int(COUNT))
    assert code == 0, errors
    return json.loads(found.splitlines()[-1])


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_file_gives_a_result_or_one_sentence(found, name):
    assert found[name] == {}
