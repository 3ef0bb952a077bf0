import re

import pytest

from diptych.cli import main


def plan(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(["plan", *words])
    output = capsys.readouterr()
    return ended.value.code, output.out, output.err


def test_a_recipe_is_planned_for_some_gpus(capsys):
    flags = ("--gpus", "2", "--batch-size", "64", "--steps", "100", "--mode", "all")
    code, out, err = plan(capsys, "tiny-digits", *flags)
    assert (code, err) == (0, "")
    assert "2 GPUs of 80 GB: 32 of 64 pairs each" in out
    assert re.search(r"hours for 100 steps", out)
    assert [line.split()[0] for line in out.splitlines()[-4:]] == [
        "replicate",
        "zero2",
        "zero3",
        "hsdp",
    ]


def test_one_mode_alone(capsys):
    _, out, _ = plan(capsys, "tiny-digits", "--mode=zero3", "--micro-batch", "8", "--gpus=4")
    assert "in micro-batches of 8" in out
    assert "zero3" in out
    assert "zero2" not in out


@pytest.mark.parametrize(
    ("flags", "mode"),
    [
        ((), "replicate"),
        (("--shard.mode", "zero2"), "zero2"),
        (("--shard.mode", "zero3"), "zero3"),
        (("--shard.mode", "zero3", "--shard.nodes"), "hsdp"),
        (("--shard.mode", "zero3", "--mode", "replicate"), "replicate"),
    ],
    ids=str,
)
def test_the_mode_is_the_runs_own_unless_another_is_asked_for(capsys, flags, mode):
    _, out, _ = plan(capsys, "tiny-digits", "--gpus=4", *flags)
    heading, *rows = out.splitlines()[-2:]
    assert heading.startswith("one GPU")
    assert [row.split()[0] for row in rows] == [mode]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--mode", "zero4"), "--mode zero4 is none of replicate, zero2, zero3, hsdp, all"),
        (("--shard.mode", "zero2", "--shard.nodes"), "ask for --mode zero2 or --mode hsdp"),
        (("--gpus", "0"), "--gpus 0 must be a number of at least 1"),
        (("--gpus", "two"), "--gpus two must be a whole number"),
        (("--mfu", "1.5"), "--mfu 1.5 must be a number from above 0 to 1"),
        (("--model.init", "some.pt"), "isn't known without reading it: name it, too"),
        (("--optim.momentum", "0.5"), "--optim.momentum has no effect"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(capsys, flags, says):
    code, _, err = plan(capsys, "tiny-digits", *flags)
    assert code == 2
    assert says in err


def test_its_help_names_its_flags(capsys):
    code, out, _ = plan(capsys, "--help")
    assert code == 0
    assert "--memory GB" in out


@pytest.mark.slow
def test_eighteen_billion_parameters(capsys):
    code, out, _ = plan(capsys, "eva-clip-18b", "--gpus", "360", "--mode", "all")
    assert code == 0
    assert "18,325,482,241" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines()[-4:]}
    assert rows["replicate"][1] == "73.30"
    assert rows["replicate"][-2:] == ["none", "fits"]
    assert rows["zero3"][-1] != "fits"
