"""The command line, called as a function."""

import pytest

from diptych.cli import main


def call(*arguments: object) -> int:
    """The exit code of `diptych ARGUMENTS`."""
    with pytest.raises(SystemExit) as error:
        main([str(argument) for argument in arguments])
    assert isinstance(error.value.code, int)
    return error.value.code
