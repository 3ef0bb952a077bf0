"""The package's version, which checkpoints and results carry."""

__version__ = "0.1.0"
