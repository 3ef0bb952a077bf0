"""Tasks of open_clip's main branch: a model and its loss as one module for a training loop.

task = CLIPTask(model)
losses, report = task({"image": pixels, "text": ids})
losses["loss"].backward()
"""

from diptych.compat.model_traits import unwrap_model
from diptych.compat.task.base_task import TrainingTask, get_model_from_task
from diptych.compat.task.checkpoint import load_checkpoint, save_checkpoint
from diptych.compat.task.choice import create_task
from diptych.compat.task.coca_task import CoCaTask
from diptych.compat.task.genlip_task import GenLipTask
from diptych.compat.task.image_text import (
    CLIPTask,
    DistillCLIPTask,
    ImageTextTask,
    SigLIPTask,
)

CLIPTrainingTask = TrainingTask

__all__ = [
    "CLIPTask",
    "CLIPTrainingTask",
    "CoCaTask",
    "DistillCLIPTask",
    "GenLipTask",
    "ImageTextTask",
    "SigLIPTask",
    "TrainingTask",
    "create_task",
    "get_model_from_task",
    "load_checkpoint",
    "save_checkpoint",
    "unwrap_model",
]
