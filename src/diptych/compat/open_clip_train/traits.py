"""What a model's traits mean for a run of open_clip_train."""

from argparse import Namespace

from diptych.compat.model_traits import InputMode, ModelTraits, validate_distillation
from diptych.errors import ConfigError

OF_PATCHES = {"naflex": True, "use_timm": True}
"""What an `aug_cfg` says where pictures are patches."""


def apply_model_traits(args: Namespace, traits: ModelTraits) -> Namespace:
    """The same arguments with `use_naflex`, `variable_text` and `text_attention_mask` as a model
    of these traits is fed.

    Raises ConfigError for `distill`, `accum_freq`, `use_naflex` and `text_attention_mask` where
    such a model can't do it.

    >>> from diptych.compat.model_traits import COCA_TRAITS
    >>> from diptych.compat.open_clip_train.params import apply_model_traits, parse_args
    >>> apply_model_traits(parse_args([]), COCA_TRAITS).text_attention_mask
    True
    """
    said, family = vars(args), traits.family.value
    if said.get("distill"):
        validate_distillation(traits)
    if args.accum_freq > 1 and not traits.supports_cached_grad_accum:
        raise ConfigError(
            f"--accum-freq {args.accum_freq}: a {family} model compares no vectors, so a batch "
            "isn't computed in parts; leave it out"
        )
    asked = bool(said.get("use_naflex"))
    if asked and InputMode.NAFLEX not in (traits.image_input, traits.audio_input):
        raise ConfigError("--use-naflex needs a NaFlex-capable tower; leave it out")
    args.use_naflex = asked or traits.requires_naflex_data
    if args.use_naflex:
        args.aug_cfg = {**(said.get("aug_cfg") or {}), **OF_PATCHES}
    args.variable_text = bool(said.get("variable_text")) or traits.variable_text
    wanted = said.get("text_attention_mask")
    if wanted and not traits.wants_text_valid_key:
        raise ConfigError(f"text-attention-mask: a {family} model takes no mask from a batch")
    args.text_attention_mask = traits.wants_text_valid_key if wanted is None else bool(wanted)
    return args
