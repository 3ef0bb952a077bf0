"""How pictures and captions are contrasted: the part that all objectives share."""

from jaxtyping import Float
from torch import Tensor

from diptych.config import ClipObjectiveConfig, ContrastiveConfig, SiglipObjectiveConfig
from diptych.distributed import Peers
from diptych.errors import ConfigError
from diptych.models import Clip
from diptych.objectives.contrast import tiled_info_nce, tiled_sigmoid


def check_pairs(config: ContrastiveConfig, model: Clip) -> None:
    """Raises ConfigError if the model lacks what the contrast needs. Softmax doesn't see a bias: it
    isn't trained."""
    match config:
        case SiglipObjectiveConfig():
            if model.logit_bias is None:
                raise ConfigError(
                    "the SigLIP objective needs a model with a logit_bias (SigLIP starts it at -10)"
                )
        case ClipObjectiveConfig():
            if model.logit_bias is not None:
                model.logit_bias.requires_grad_(False)


def contrast(
    config: ContrastiveConfig,
    model: Clip,
    images: Float[Tensor, "pairs width"],
    texts: Float[Tensor, "pairs width"],
    peers: Peers,
) -> Float[Tensor, ""]:
    """The loss of unit vectors, row i of one belonging to row i of the other, against
    everybody's."""
    scale = logit_scale(config, model)
    match config:
        case ClipObjectiveConfig():
            smoothing = config.label_smoothing
            return tiled_info_nce(
                images, texts, scale, label_smoothing=smoothing, tile=config.tile, peers=peers
            )
        case SiglipObjectiveConfig():
            assert model.logit_bias is not None
            return tiled_sigmoid(
                images, texts, scale, model.logit_bias, tile=config.tile, peers=peers
            )


def logit_scale(config: ContrastiveConfig, model: Clip) -> Float[Tensor, "1"]:
    """The factor on similarities; where the configuration limits it, its gradient is that of the
    unlimited one."""
    scale = model.logit_scale.exp()
    if isinstance(config, ClipObjectiveConfig) and config.largest_scale_used is not None:
        return scale - (scale - scale.clamp(max=config.largest_scale_used)).detach()
    return scale


def terms(model: Clip, **losses: Tensor) -> dict[str, Tensor]:
    """What a run records: the losses, the scale, and the bias if there is one."""
    recorded = losses | {"scale": model.logit_scale.exp()}
    if model.logit_bias is not None:
        recorded["bias"] = model.logit_bias
    return {name: value.detach().squeeze() for name, value in recorded.items()}
