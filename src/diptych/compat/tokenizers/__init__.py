"""open_clip's tokenizers: what `diptych.compat.tokenizer` gives."""
