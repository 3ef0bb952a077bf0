"""`diptych models`."""

import pytest

from diptych.cli import main


def test_sizes_and_claims(capsys):
    with pytest.raises(SystemExit) as error:
        main(["models", "vit-b-32*"])
    assert error.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    [plain] = [line for line in lines if line.startswith(" vit-b-32 ")]
    assert plain.split()[1:4] == ["224", "151.3", "M"]
    assert any("63.2" in line for line in lines)
    assert not any("vit-l" in line for line in lines)


def test_no_match_gets_near_misses(capsys):
    with pytest.raises(SystemExit) as error:
        main(["models", "vit-b-23"])
    assert error.value.code == 2
    assert "did you mean 'vit-b-32'" in capsys.readouterr().err
