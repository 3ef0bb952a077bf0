"""open_clip 3.3's trainer under the name that its main branch gives it."""

from diptych.compat.open_clip_train.latest import get_latest_file as get_latest_checkpoint
from diptych.compat.open_clip_train.main import main
from diptych.compat.open_clip_train.utils import random_seed

__all__ = ["get_latest_checkpoint", "main", "random_seed"]
