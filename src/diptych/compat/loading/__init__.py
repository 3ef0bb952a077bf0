"""How a model comes about by open_clip's arguments: places of weights, overrides, precision."""
