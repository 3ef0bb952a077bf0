"""open_clip's image transforms, step by step: what `diptych.compat.transform` makes."""
