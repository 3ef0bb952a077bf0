"""The model of two towers, what every tower answers, and how a configuration becomes one."""

from diptych.models.build import build, build_decoder, build_tower
from diptych.models.clip import Clip
from diptych.models.decoder import Decoder
from diptych.models.tower import TokenKind, Tower, TowerOutput

__all__ = [
    "Clip",
    "Decoder",
    "TokenKind",
    "Tower",
    "TowerOutput",
    "build",
    "build_decoder",
    "build_tower",
]
