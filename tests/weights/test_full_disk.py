"""A disk that is full while a conversion writes: one sentence, and nothing under the final name."""

import contextlib
import errno
import resource
import signal

import pytest

from diptych.checkpoints import convert
from diptych.errors import CheckpointError
from diptych.weights import native
from diptych.weights.native import save_model
from tests.families.eva.small import MODELS


@contextlib.contextmanager
def limited(size):
    """No file can grow beyond `size` bytes, which the system reports as it does a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("to", ["native", "open-clip", "transformers", "eva"])
def test_conversions(tmp_path, random_model, vit, to):
    save_model(tmp_path / "in", random_model(MODELS["eva02-b"] if to == "eva" else vit))
    with (
        limited(20_000),
        pytest.raises(CheckpointError, match="could not write .*make room") as caught,
    ):
        convert(tmp_path / "in", to, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_no_space_at_the_very_end(tmp_path, random_model, vit, monkeypatch):
    """Writing went well, and flushing does not."""
    save_model(tmp_path / "good", random_model(vit))
    before = (tmp_path / "good" / native.WEIGHTS).read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for name in ("new", "good"):
        with pytest.raises(CheckpointError, match="No space left on device; make room"):
            save_model(tmp_path / name, random_model(vit, seed=1))
    assert [path.name for path in tmp_path.iterdir()] == ["good"]
    assert (tmp_path / "good" / native.WEIGHTS).read_bytes() == before
