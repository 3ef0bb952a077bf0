"""open_clip's losses: what `diptych.compat.loss` shows, and the choice among them."""
