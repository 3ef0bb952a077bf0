"""Which of the processes that torchrun started this is; known before torch is imported."""

import contextlib
import io
import os
from collections.abc import Generator


def is_first() -> bool:
    """Whether this process talks to the user."""
    return os.environ.get("RANK", "").strip() in ("", "0")


def is_alone() -> bool:
    """Whether this process was started without others."""
    return not os.environ.get("RANK")


@contextlib.contextmanager
def said_by_the_first() -> Generator[None, None, None]:
    """Within, what is printed, by the first process and by the others alike, is printed once."""
    with contextlib.ExitStack() as stack:
        if not is_first():
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        yield
