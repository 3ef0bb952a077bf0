"""Towers, the model of two towers, and how a configuration becomes one."""

from diptych.models.bridges import HuggingFaceText, TimmTower
from diptych.models.build import build, build_tower
from diptych.models.clip import Clip
from diptych.models.eva import EvaTransformer
from diptych.models.resnet import ResNet
from diptych.models.text import TextTransformer
from diptych.models.tower import TokenKind, Tower, TowerOutput
from diptych.models.unireplknet import UniRepLKNet
from diptych.models.vit import VisionTransformer

__all__ = [
    "Clip",
    "EvaTransformer",
    "HuggingFaceText",
    "ResNet",
    "TextTransformer",
    "TimmTower",
    "TokenKind",
    "Tower",
    "TowerOutput",
    "UniRepLKNet",
    "VisionTransformer",
    "build",
    "build_tower",
]
