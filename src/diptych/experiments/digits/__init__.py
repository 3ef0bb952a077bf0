"""The demo: a tiny CLIP learns from captioned scenes made of real handwritten digits."""
