"""Means and deviations of pixels that models expect, and names of published files, by open_clip's
and eva_clip's names."""

from diptych.config.model import OPENAI_MEAN, OPENAI_STD
from diptych.families.clip.layouts.open_clip import CONFIG, WEIGHTS
from diptych.weights.hub import HUB

OPENAI_DATASET_MEAN = OPENAI_MEAN
OPENAI_DATASET_STD = OPENAI_STD
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INCEPTION_MEAN = (0.5, 0.5, 0.5)
INCEPTION_STD = (0.5, 0.5, 0.5)
HF_WEIGHTS_NAME = "open_clip_pytorch_model.bin"
HF_SAFE_WEIGHTS_NAME = WEIGHTS
HF_CONFIG_NAME = CONFIG
LOCAL = LOCAL_DIR_PREFIX = "local-dir:"
"""What stands before a folder's path in the place of a model's name."""
HF_HUB_PREFIX = HUB
"""What stands before a name of the hub."""
