"""Which open_clip's API this is, for code that asks."""

__version__ = "3.3.0"
