"""The folder of a run belongs to one training at a time."""

import contextlib
import warnings
from collections.abc import Generator
from pathlib import Path

from diptych.distributed import Peers, on_main
from diptych.durable import lock, sweep
from diptych.errors import ConfigError, DiptychWarning
from diptych.interrupts import Interrupts
from diptych.writable import check_writable


@contextlib.contextmanager
def claimed(out: str, peers: Peers, interrupts: Interrupts) -> Generator[None, None, None]:
    """Within, `out` is there, is this run's alone, and holds nothing half-written of killed ones.

    The first process holds the file `lock` in it, which the system takes back when the process
    ends, however it ends; a folder that was made for it goes with it if nothing came into it.
    Raises ConfigError, on all processes, if another training holds it or it can't be written.
    """
    with contextlib.ExitStack() as stack, interrupts.at_last(stack.close):
        on_main(peers, lambda: _claim(out, stack))
        yield


def _claim(folder: str, stack: contextlib.ExitStack) -> None:
    check_writable(folder, "--out")
    out = Path(folder)
    try:
        held = stack.enter_context(lock(out / "lock"))
    except BlockingIOError as error:
        raise ConfigError(
            f"another training is under way in {out} ({error.strerror}); wait until it has ended, "
            "or choose another --out"
        ) from error
    if not held:
        warnings.warn(
            f"the file system of {out} has no locks: nothing but you keeps another training out",
            DiptychWarning,
            stacklevel=2,
        )
        return
    sweep(out)
    sweep(out / "checkpoints")
