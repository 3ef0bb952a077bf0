"""open_clip's own modules by its names, as `diptych.compat.transformer` shows them."""
