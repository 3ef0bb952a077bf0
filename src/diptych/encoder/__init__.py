"""What users hold: a model with its tokenizer and its image transform, which gives vectors."""

from diptych.encoder.cache import Cache, CacheEntry
from diptych.encoder.classes import class_vectors, prompts
from diptych.encoder.embedder import Precision
from diptych.encoder.encoder import Encoder
from diptych.encoder.explain import attention_weights, patch_features
from diptych.encoder.extract import extract
from diptych.encoder.features import FeatureExtractor, ImageFeatures, extract_features
from diptych.encoder.identity import Identity
from diptych.encoder.load import load
from diptych.encoder.reinforcement import Reinforcement, reinforce
from diptych.encoder.texts import Texts

__all__ = [
    "Cache",
    "CacheEntry",
    "Encoder",
    "FeatureExtractor",
    "Identity",
    "ImageFeatures",
    "Precision",
    "Reinforcement",
    "Texts",
    "attention_weights",
    "class_vectors",
    "extract",
    "extract_features",
    "load",
    "patch_features",
    "prompts",
    "reinforce",
]
