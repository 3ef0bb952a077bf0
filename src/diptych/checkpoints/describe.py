"""What a configuration may be given as."""

from pathlib import Path

from diptych import zoo
from diptych.config import ClipConfig


def read_config(config: ClipConfig | str | Path | None) -> ClipConfig | None:
    """A configuration itself, or that of a zoo name. Raises UnknownNameError with near misses."""
    return zoo.get(str(config)) if isinstance(config, str | Path) else config
