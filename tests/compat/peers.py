"""Small models of open_clip's, and the same configurations as ours."""

import copy

import torch

from diptych import models
from diptych.compat import OpenClipModel
from diptych.families.clip.layouts.open_clip_config import from_json

VIT = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "head_width": 32}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32}
TIMM = {"timm_pool": "avg", "timm_proj": "linear", "image_size": 64, "timm_model_pretrained": False}
KINDS = {
    "vit": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT},
    "bias": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT, "init_logit_bias": -10.0},
    "quick": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT, "quick_gelu": True},
    "resnet": {"embed_dim": 24, "vision_cfg": RESNET, "text_cfg": TEXT},
    "timm": {
        "embed_dim": 24,
        "vision_cfg": TIMM | {"timm_model_name": "resnet10t"},
        "text_cfg": TEXT,
    },
}


def peer_of(kind: str) -> torch.nn.Module:
    """open_clip's model, with random weights."""
    import open_clip

    torch.manual_seed(0)
    return open_clip.CLIP(**copy.deepcopy(KINDS[kind])).eval()


def ours_of(kind: str) -> OpenClipModel:
    """Ours of the same configuration, with other random weights."""
    torch.manual_seed(1)
    return OpenClipModel(models.build(from_json({"model_cfg": KINDS[kind]}))).eval()
