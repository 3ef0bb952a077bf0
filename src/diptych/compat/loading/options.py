"""Options of open_clip's that Diptych hasn't."""

from typing import Any

from diptych.errors import ConfigError


def refuse(options: dict[str, Any]) -> None:
    """Raises ConfigError for an option that is set and that can't be honoured."""
    for name, value in options.items():
        if value:
            raise ConfigError(f"{name}={value!r} has no counterpart in Diptych; leave it out")
