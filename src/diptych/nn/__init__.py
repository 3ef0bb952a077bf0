"""Blocks used by more than one tower."""

from diptych.nn.attention import Attention
from diptych.nn.block import Block
from diptych.nn.cross import CrossBlock
from diptych.nn.drop import StochasticDepth
from diptych.nn.linear import is_bare
from diptych.nn.mlp import GatedMlp, Mlp
from diptych.nn.norm import unrecorded
from diptych.nn.patch import ConvStem, PatchDropout, PatchEmbedding
from diptych.nn.query_pool import QueryPool
from diptych.nn.words import word_table

__all__ = [
    "Attention",
    "Block",
    "ConvStem",
    "CrossBlock",
    "GatedMlp",
    "Mlp",
    "PatchDropout",
    "PatchEmbedding",
    "QueryPool",
    "StochasticDepth",
    "is_bare",
    "unrecorded",
    "word_table",
]
