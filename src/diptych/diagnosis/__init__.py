"""Why two loads of "the same" model give other vectors: part by part, with the cosine it costs."""

from diptych.diagnosis.diagnose import Diagnosis, diagnose
from diptych.diagnosis.differences import Difference
from diptych.diagnosis.load import Load
from diptych.diagnosis.named import load_named
from diptych.diagnosis.peers import from_open_clip, from_transformers
from diptych.diagnosis.setting import Cosines

__all__ = [
    "Cosines",
    "Diagnosis",
    "Difference",
    "Load",
    "diagnose",
    "from_open_clip",
    "from_transformers",
    "load_named",
]
