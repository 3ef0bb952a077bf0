"""The loss of open_clip_train's arguments, by its module's name."""

from diptych.compat.losses.choice import create_loss_from_args

__all__ = ["create_loss_from_args"]
