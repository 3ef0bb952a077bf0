"""Power cuts, for real: a disk image is copied as it is while programs write to it, and the copy is
what a machine would find when it starts again.

    DIPTYCH_POWER_CUT=1 pytest tests/power_cut        as root, where Linux has loop devices

The programs are stopped while the image is copied, nothing is flushed for them, and ext4 is told
not to flush by itself what is renamed (noauto_da_alloc).
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import diptych
from diptych import search
from diptych.checkpoints.steps import newest, step_of
from diptych.config import SaveConfig, TrackConfig
from diptych.config.serialize import to_json
from diptych.evaluation import Result
from diptych.training import fit, load_run, read_metrics
from tests.training.runs import assert_same_bits, small_run

MOMENTS = 20
STEPS = 60
MEGABYTES = 256

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("DIPTYCH_POWER_CUT"), reason="DIPTYCH_POWER_CUT=1 runs it, as root"
    ),
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0 or not Path("/dev/loop-control").exists(),
        reason="mounting an image needs root and Linux's loop devices",
    ),
]

TRAIN = """
import sys
from pathlib import Path
from diptych.training import fit, load_run
fit(load_run(Path(sys.argv[1])), resume=True, progress=False)
"""

WRITE = """
import sys
from dataclasses import replace
from pathlib import Path
from PIL import Image
from diptych import models, pretrained, search
from diptych.encoder import Encoder
from diptych.evaluation import Result
from diptych.families.clip import VitConfig
from diptych.reports import headline, write
from diptych.checkpoints import convert
from diptych.weights import save_model

place = Path(sys.argv[1])
image = VitConfig(image_size=32, width=64, layers=1, heads=1, mlp_width=128)
model = models.build(replace(pretrained.get("tiny"), image=image))
encoder = Encoder(model)
for number in range(10**6):
    each = place / f"{number:04d}"
    (each / "photos").mkdir(parents=True)
    for path in (each / "page.html", place / "page.html"):
        write(path, "title", [headline({"number": str(number)})])
    for path in (each / "r.json", place / "r.json"):
        Result(task="zero-shot", metrics={"top1": float(number)}, protocol={}, data={}, model={}
            ).save(path)
    save_model(each / "model", model)
    convert(each / "model", "open-clip", each / "converted")
    for index in (each / "index", place / "index"):
        Image.new("RGB", (32, 32), (number % 256, 9, 9)).save(each / "photos" / "a.png")
        search.update(index, each / "photos", encoder, progress=False)
    Path(sys.argv[2], str(number)).touch()
"""


@contextmanager
def mounted(image: Path, place: Path, *options: str) -> Generator[Path, None, None]:
    place.mkdir(exist_ok=True)
    subprocess.run(
        ["mount", "-o", ",".join(("loop", *options)), str(image), str(place)], check=True
    )
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def disk(tmp_path) -> Generator[Path, None, None]:
    """A disk of its own, at `tmp_path / "disk"`; its image is `tmp_path / "image"`."""
    image = tmp_path / "image"
    with open(image, "wb") as file:
        file.truncate(MEGABYTES << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    with mounted(image, tmp_path / "disk", "noauto_da_alloc") as place:
        yield place


@contextmanager
def running(code: str, *arguments: object) -> Generator[subprocess.Popen[bytes], None, None]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Generator[None, None, None]:
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.05)  # until what it had asked the kernel for is under way
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextmanager
def after_cut(disk: Path) -> Generator[Path, None, None]:
    """What the disk holds after a power cut now."""
    copy = disk.with_name("copy")
    shutil.copyfile(disk.with_name("image"), copy)
    with mounted(copy, disk.with_name("again")) as place:
        yield place
    copy.unlink()


def wait_for(process: subprocess.Popen[bytes], path: Path) -> None:
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.05)


def test_a_run_goes_on_after_a_power_cut(disk, tmp_path):
    """At each moment: what was logged before the step under way is there, and the checkpoint before
    the one that is being written beside it; nothing is broken. From some of them, on to the same
    end bit for bit."""
    out, rng = disk / "run", random.Random(0)
    run = small_run(
        out, steps=STEPS, save=SaveConfig(every_steps=1, keep=2), track=TrackConfig(every_steps=1)
    )
    out.mkdir()
    (out / "run.json").write_text(to_json(run))
    subprocess.run(["sync", "-f", str(disk)], check=True)
    copies, reached = list[Path](), list[int]()
    with running(TRAIN, out) as process:
        wait_for(process, out / "checkpoints" / "step-00000001")
        for moment in range(MOMENTS):
            time.sleep(rng.uniform(0, 0.8))
            with stopped(process), warnings.catch_warnings(), after_cut(disk) as found:
                warnings.simplefilter("error")  # a broken checkpoint, a damaged line
                logged = [row["step"] for row in read_metrics(out / "metrics.jsonl")]
                step = step_of(newest(found / "run", lambda folder: folder))
                assert step >= logged[-1] - 2
                lasting = [row["step"] for row in read_metrics(found / "run" / "metrics.jsonl")]
                assert lasting[: len(logged) - 1] == logged[:-1]
                assert load_run(found / "run") == run
                assert diptych.load(found / "run").provenance["step"] == step
                reached.append(step)
                if moment % 7 == 0:
                    copies.append(Path(shutil.copytree(found / "run", tmp_path / str(moment))))
    assert reached == sorted(reached)
    assert len(set(reached)) > 3
    rare = replace(run, save=SaveConfig(every_steps=0))
    whole = fit(replace(rare, out=str(tmp_path / "whole")), progress=False)
    for copy in copies:
        assert_same_bits(fit(replace(rare, out=str(copy)), resume=True, progress=False), whole)
        assert not list(copy.rglob(".*"))


def test_what_was_done_is_there_after_a_power_cut(disk, tmp_path):
    """Pages, results, models, conversions and indexes of a round that ended are whole; those of the
    round that was under way are whole or not there."""
    rng, done, rounds = random.Random(1), -1, tmp_path / "rounds"
    rounds.mkdir()
    with running(WRITE, disk, rounds) as process:
        wait_for(process, disk / "0000" / "index" / "meta.json")
        for _ in range(MOMENTS):
            time.sleep(rng.uniform(0, 0.6))
            with stopped(process), after_cut(disk) as found:
                done = max([-1, *(int(path.name) for path in rounds.iterdir())])
                for place in sorted(found.glob("0*")):
                    check_round(place, ended=int(place.name) <= done)
                check_page_and_result(found, at_least=done)
                if done >= 0:
                    assert len(search.Index.open(found / "index")) >= 1
    assert done > 2


def check_round(place: Path, ended: bool) -> None:
    for name in ("model", "converted"):
        if ended or (place / name).exists():
            diptych.load(place / name)
    for name in ("page.html", "r.json"):
        assert not ended or (place / name).exists()
    check_page_and_result(place, at_least=int(place.name))
    if ended:
        assert len(search.Index.open(place / "index")) == 1


def check_page_and_result(place: Path, at_least: int) -> None:
    if (place / "page.html").exists():
        assert (place / "page.html").read_text().rstrip().endswith("</html>")
    if (place / "r.json").exists():
        assert Result.load(place / "r.json").metrics["top1"] >= at_least
