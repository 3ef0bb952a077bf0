"""The choice among losses, as open_clip_train makes it."""

from typing import Any

from torch import nn

from diptych.compat.loss import ClipLoss, CoCaLoss, DistillClipLoss, SigLipLoss
from diptych.errors import ConfigError


def create_loss(args: Any) -> nn.Module:
    """The loss that open_clip_train's arguments ask for: `distill`, a `model` that is CoCa,
    `siglip`, else InfoNCE. What `args` hasn't is as by default."""
    said = vars(args)
    if said.get("siglip") and not said.get("distill") and not is_coca(said.get("model")):
        if said.get("horovod"):
            raise ConfigError("horovod has no counterpart in Diptych; start processes by torchrun")
        return SigLipLoss(
            rank=said.get("rank", 0),
            world_size=said.get("world_size", 1),
            dist_impl=said.get("loss_dist_impl"),
        )
    options = {
        name: said[name]
        for name in ("local_loss", "gather_with_grad", "rank", "world_size")
        if name in said
    }
    options |= {"cache_labels": True, "use_horovod": said.get("horovod", False)}
    if said.get("distill"):
        return DistillClipLoss(**options)
    if is_coca(said.get("model")):
        weights = (said["coca_caption_loss_weight"], said["coca_contrastive_loss_weight"])
        return CoCaLoss(*weights, **options)
    return ClipLoss(**options)


def is_coca(model: object) -> bool:
    """By the model's name, which is how open_clip says it."""
    return "coca" in str(model).lower()
