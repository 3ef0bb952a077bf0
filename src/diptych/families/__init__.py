"""A folder for each line of models that were published together."""

__all__: list[str] = []
