"""Is Diptych right on this GPU, and how fast, beside open_clip: `python -m benchmarks.gpu`."""
