"""What users hold: a model with its tokenizer and its image transform, which gives vectors."""

from diptych.encoder.cache import Block, Cache
from diptych.encoder.classes import class_vectors
from diptych.encoder.encoder import Encoder, Identity, Precision
from diptych.encoder.extract import extract
from diptych.encoder.load import load
from diptych.encoder.pictures import Pictures, View, embed_pictures
from diptych.encoder.texts import Texts

__all__ = [
    "Block",
    "Cache",
    "Encoder",
    "Identity",
    "Pictures",
    "Precision",
    "Texts",
    "View",
    "class_vectors",
    "embed_pictures",
    "extract",
    "load",
]
