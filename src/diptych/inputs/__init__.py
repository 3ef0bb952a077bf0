"""From files and captions to what the towers take: tokenizers, decoding, preprocessing, the
training crop."""

from diptych.inputs.augment import TrainCrop
from diptych.inputs.build import build_tokenizer, tokenizer_of
from diptych.inputs.clip_tokenizer import ClipTokenizer, DeclipTokenizer
from diptych.inputs.huggingface_tokenizer import HuggingFaceTokenizer
from diptych.inputs.images import MAX_PIXELS, decode
from diptych.inputs.picture import Picture
from diptych.inputs.preprocess import Preprocess
from diptych.inputs.tokenizer import Tokenizer
from diptych.inputs.vocabulary import write_transformers_files

__all__ = [
    "ClipTokenizer",
    "DeclipTokenizer",
    "HuggingFaceTokenizer",
    "MAX_PIXELS",
    "Picture",
    "Preprocess",
    "Tokenizer",
    "TrainCrop",
    "build_tokenizer",
    "decode",
    "tokenizer_of",
    "write_transformers_files",
]
