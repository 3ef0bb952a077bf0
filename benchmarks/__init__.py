"""Diptych beside open_clip on this machine, in one run: `python -m benchmarks`."""
