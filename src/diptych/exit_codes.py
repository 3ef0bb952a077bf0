"""How `diptych` ends: one table for all verbs."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a script may build on. 128 and a signal's number (130: Ctrl-C, 143: SIGTERM) is the
    code of what was stopped with nothing of it to go on with."""

    DONE = 0
    PARTLY = 1
    REFUSED = 2
    AGAIN = 75  # EX_TEMPFAIL of sysexits.h

    @property
    def meaning(self) -> str:
        """In words, for help and documents."""
        return _MEANING[self]


_MEANING = {
    ExitCode.DONE: "done",
    ExitCode.PARTLY: "a part failed, such as one of several tasks, or doctor found something; or a "
    "defect, with a traceback",
    ExitCode.REFUSED: "failed: the sentence says what to change before it is started again",
    ExitCode.AGAIN: "stopped from outside and saved: start it again with --resume",
}
