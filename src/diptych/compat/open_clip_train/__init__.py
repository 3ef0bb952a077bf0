"""open_clip's trainer over this engine: its command line becomes a Run.

    python -m diptych.compat.open_clip_train --train-data pairs.csv --model ViT-B-32 ...

What becomes of each flag stands in docs/from-open_clip.md.
"""
