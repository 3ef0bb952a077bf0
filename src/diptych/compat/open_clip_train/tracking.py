"""Numbers for TensorBoard and W&B, as open_clip_train's arguments ask for them."""

from typing import Any

from diptych.errors import ConfigError


def track(said: dict[str, float], step: int | None, args: Any, writer: Any) -> None:
    """Give numbers to TensorBoard's `writer`, and with `args.wandb` to the run that W&B has open.
    Raises ConfigError where W&B isn't installed."""
    if writer is not None:
        for name, value in said.items():
            writer.add_scalar(name, value, step)
    if vars(args).get("wandb"):
        try:
            import wandb
        except ImportError as error:
            raise ConfigError("args.wandb needs W&B: pip install 'diptych[track]'") from error
        wandb.log(said, step=step)
