"""open_clip 3.3's loop under the name that its main branch gives it."""

from diptych.compat.open_clip_train.evaluate import evaluate
from diptych.compat.open_clip_train.metrics import (
    get_clip_metrics,
    maybe_compute_generative_loss,
)
from diptych.compat.open_clip_train.train import train_model as train_one_epoch
from diptych.compat.open_clip_train.train import unwrap_model
from diptych.compat.open_clip_train.utils import (
    AverageMeter,
    backward,
    postprocess_clip_output,
)

__all__ = [
    "AverageMeter",
    "backward",
    "evaluate",
    "get_clip_metrics",
    "maybe_compute_generative_loss",
    "postprocess_clip_output",
    "train_one_epoch",
    "unwrap_model",
]
