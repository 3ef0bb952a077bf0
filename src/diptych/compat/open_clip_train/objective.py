"""Which loss a command line of open_clip_train means."""

from diptych.checkpoints.describe import read_config
from diptych.compat.loading import places
from diptych.compat.losses.choice import is_coca
from diptych.compat.open_clip_train.model import weights_of
from diptych.compat.open_clip_train.options import Options
from diptych.config import (
    ClipObjectiveConfig,
    CocaObjectiveConfig,
    DistillObjectiveConfig,
    ObjectiveConfig,
    SiglipObjectiveConfig,
)
from diptych.errors import ConfigError


def objective_of(options: Options) -> ObjectiveConfig:
    """The objective of a run. Raises ConfigError for what open_clip can't train, either."""
    captions = _writes_captions(options)
    if options.text_attention_mask and not captions:
        raise ConfigError(
            f"--text-attention-mask: --model {options.model} takes no mask from a batch; leave it "
            "out"
        )
    if captions and options.caption_z_loss_weight:
        raise ConfigError(
            f"--caption-z-loss-weight {options.caption_z_loss_weight}: --objective coca has no "
            "z-loss; leave it out"
        )
    if options.distill_model or options.distill_pretrained:
        return _distilled(options, captions)
    if captions and options.coca_caption_loss_weight:
        if options.siglip:
            raise ConfigError(
                f"--siglip beside --model {options.model}: open_clip can't train this, either"
            )
        return CocaObjectiveConfig(
            pairs_weight=options.coca_contrastive_loss_weight,
            captions_weight=options.coca_caption_loss_weight,
        )
    if captions and options.coca_contrastive_loss_weight != 1:
        raise ConfigError(
            f"--coca-contrastive-loss-weight {options.coca_contrastive_loss_weight}: without "
            "captions (--coca-caption-loss-weight 0) the contrast weighs 1"
        )
    return SiglipObjectiveConfig() if options.siglip else ClipObjectiveConfig()


def _writes_captions(options: Options) -> bool:
    """Whether open_clip trains a decoder: it goes by the model's name; and so does this, where no
    description is at hand."""
    if is_coca(options.model) or options.pretrained or places.is_place(options.model):
        return is_coca(options.model)
    config = read_config(options.model)
    return config is not None and config.decoder is not None


def _distilled(options: Options, captions: bool) -> DistillObjectiveConfig:
    teacher, weights = options.distill_model, options.distill_pretrained
    if not (teacher and weights):
        raise ConfigError("--distill-model and --distill-pretrained are said together, or neither")
    for beside, flag in ((options.siglip, "--siglip"), (captions, f"--model {options.model}")):
        if beside:
            raise ConfigError(f"{flag} beside --distill-model: open_clip can't train this, either")
    return DistillObjectiveConfig(
        teachers=(weights_of(teacher, weights),), pairs_weight=1.0, form="cross_entropy"
    )
