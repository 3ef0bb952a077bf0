"""What users hold: a model with its tokenizer and its image transform, which gives vectors."""

from diptych.encoder.classes import class_vectors
from diptych.encoder.encoder import Encoder, Identity, Precision
from diptych.encoder.extract import extract
from diptych.encoder.load import load

__all__ = ["Encoder", "Identity", "Precision", "class_vectors", "extract", "load"]
