"""Files that a verb writes at its end: what keeps it from writing is said before the work."""

import os
import tempfile
from pathlib import Path

from diptych.errors import ConfigError

_BYTES = 2**16


def check_writable(folder: Path, flag: str) -> None:
    """Make the folder, and try to write into it. Raises ConfigError where that fails: a read-only
    or full disk, a file in place of a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(
            f"nothing can be written into {folder} ({flag}): {error.strerror}"
        ) from None
