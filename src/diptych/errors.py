"""What can go wrong by a user's doing, as a small tree.

    DiptychError
    ├── ConfigError            a value, flag or combination that can't work
    │   ├── UnknownNameError   a name that nothing answers to; carries near misses
    │   │   └── UnknownModelError   of a model, or of weights of it
    │   └── TextTooLongError   a text beyond the context, where none may be cut
    ├── CheckpointError        weights that can't be read, don't fit, or can't be written
    │   ├── DamagedError       files that aren't as they were written
    │   ├── MissingError       weights that aren't where they should be
    │   └── DownloadError      a file that couldn't be fetched
    ├── DataError              a source that can't be read, or too many bad samples
    │   ├── AbsentError        a source that isn't there
    │   └── ImageError         one picture that can't be decoded
    └── TrainingError          a run that had to stop (not-finite loss, full disk, no memory)
        └── StoppedError       a run that was stopped from outside: it is saved, and can go on

Every message is one sentence or two: what was wrong, then what to do. The command line prints it
without a traceback.

What is right only under a condition that a user should know is a `DiptychWarning`, by Python's
`warnings`; the command line prints its sentence on stderr.
"""

import copyreg
import difflib
import os
from collections.abc import Iterable
from typing import Any

_MANY = 20
"""Names in a sentence."""
_LISTED = 10_000
"""Names of a folder, to compare with one that isn't there."""
_NEAR = 0.6
"""Letters in common that make a near miss: ViTamin-S is no misspelt vit-s-32 (0.59)."""


class DiptychError(Exception):
    """The root: everything that Diptych raises on purpose."""

    quiet: bool | None = None
    """Whether another process of the run says it to the user; None: nobody knows."""


class ConfigError(DiptychError, ValueError):
    """A value, flag or combination that can't work."""


class UnknownNameError(ConfigError):
    """A name that nothing answers to. `near` holds the closest known names, best first: `near`, or
    by spelling; `hint` says them in words, or what else to do.

    >>> from diptych.errors import UnknownNameError
    >>> str(UnknownNameError("model", "vit-b-23", ["vit-b-32", "rn50"]))
    "no model is called 'vit-b-23'; did you mean 'vit-b-32'?"
    >>> str(UnknownNameError("objective", "SLIP", ["clip", "slip", "filip"]))
    "no objective is called 'SLIP'; did you mean 'slip'?"
    """

    def __init__(
        self,
        kind: str,
        name: str,
        known: Iterable[str],
        near: Iterable[str] = (),
        also: str = "",
        hint: str = "",
    ):
        known = sorted(known)
        self.near = list(dict.fromkeys(near))[:3] or _close(name, known)
        some = ", ".join(known if len(known) <= _MANY else [*known[:_MANY], "…"])
        self.hint = hint or (
            f"did you mean {' or '.join(map(repr, self.near))}?"
            if self.near
            else f"known are {some}"
        )
        more = f" ({also})" if also else ""
        super().__init__(f"no {kind} is called {name!r}; {self.hint}{more}")

    def __reduce__(self) -> tuple[Any, ...]:
        # Between processes its sentence travels, and isn't made anew from other arguments.
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # pyright: ignore


class UnknownModelError(UnknownNameError, RuntimeError):
    """A name of a model, or of its weights, that nothing answers to; open_clip and OpenAI's `clip`
    raise RuntimeError."""


def _close(name: str, known: Iterable[str]) -> list[str]:
    """Near misses, best first; one that differs in capitals alone is the only one."""
    spelt = {each.lower(): each for each in known}
    if same := spelt.get(name.lower()):
        return [same]
    return [
        spelt[each] for each in difflib.get_close_matches(name.lower(), spelt, n=3, cutoff=_NEAR)
    ]


class TextTooLongError(ConfigError, RuntimeError):
    """A text beyond the context where none may be cut; OpenAI's `clip` raises RuntimeError."""


class CheckpointError(DiptychError, RuntimeError):
    """Weights that can't be read, don't fit, or can't be written; torch and open_clip raise
    RuntimeError."""


class DamagedError(CheckpointError, ValueError):
    """Files that aren't as they were written: missing, cut off, changed. Of a file that isn't
    JSON open_clip raises ValueError."""


class MissingError(CheckpointError, FileNotFoundError):
    """A place of weights where nothing is; open_clip raises FileNotFoundError or
    RuntimeError."""


class DownloadError(CheckpointError, FileNotFoundError):
    """A file that couldn't be fetched; open_clip raises as of a MissingError."""


class DataError(DiptychError):
    """A source that can't be read, or too many bad samples."""


class AbsentError(DataError):
    """A source that isn't there."""


class ImageError(DataError):
    """One picture that can't be decoded."""


class TrainingError(DiptychError):
    """A run that had to stop; the last good checkpoint is intact."""


class StoppedError(TrainingError):
    """A run that was stopped from outside, by a signal or by the loss of another process: its last
    finished step is saved, and it can go on."""


class DiptychWarning(UserWarning):
    """The root of all warnings of Diptych."""


class AssumptionWarning(DiptychWarning):
    """Something that weights don't say was assumed, and the numbers rest on it."""


class RandomWeightsWarning(DiptychWarning):
    """A model was made without weights: its numbers mean nothing before training."""


class TruncationWarning(DiptychWarning):
    """Texts are longer than the model's context, and only their beginning counts."""


class DataWarning(DiptychWarning):
    """Data are read in a way that the user may not have meant."""


class DamageWarning(DiptychWarning):
    """Something on the disk isn't as it was written, and was passed by."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of this machine or of a GPU.

    >>> from diptych.errors import is_out_of_memory
    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes differ"))
    (True, False)
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return True
    # For the machine's own memory torch has no class.
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def first_line(error: BaseException) -> str:
    """What another library says went wrong, short enough for a sentence.

    >>> from diptych.errors import first_line
    >>> first_line(ValueError("no such key\\nwith ten lines of advice")), first_line(EOFError())
    ('no such key', 'EOFError')
    """
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def misfit(error: BaseException) -> str:
    """What doesn't fit in a description that somebody wrote. What Python says of types isn't for
    its readers.

    >>> from diptych.errors import misfit
    >>> misfit(ValueError("heads 0")), misfit(TypeError("unsupported operand type(s) for |"))
    ('heads 0', 'a value in it is of a type that none has there')
    """
    is_python = isinstance(error, TypeError | AttributeError)
    return "a value in it is of a type that none has there" if is_python else first_line(error)


def reason(error: BaseException) -> str:
    """What went wrong with a file that is named beside it: of the system's errors, the words.

    >>> from diptych.errors import reason
    >>> reason(FileNotFoundError(2, "No such file or directory", "x.txt"))
    'No such file or directory'
    """
    return (error.strerror if isinstance(error, OSError) else "") or str(error)


def beside(place: str | os.PathLike[str]) -> str:
    """The end of a sentence on a file or folder that isn't there: what has nearly its name.

    Not for what strangers name: it tells what else is in the folder.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from diptych.errors import beside
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "photos").mkdir()
    >>> beside(folder / "photo").replace(str(folder), "X"), beside("/nowhere/photo")
    ('; did you mean X/photos?', '')
    """
    folder, name = os.path.split(os.fspath(place).rstrip(os.sep))
    try:
        there = os.listdir(folder or ".")
    except (OSError, ValueError):
        return ""
    is_known = name in there or len(there) > _LISTED
    near = [] if is_known else _close(name, there)[:1]
    return f"; did you mean {os.path.join(folder, near[0])}?" if near else ""
