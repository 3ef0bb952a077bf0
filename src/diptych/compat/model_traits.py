"""What kind of model a configuration describes or a model is, and what its data must be like, as
open_clip's main branch says it.

https://github.com/mlfoundations/open_clip, src/open_clip/model_traits.py
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from diptych.errors import ConfigError


class ModelFamily(StrEnum):
    """The classes of open_clip's models. Of those of sound, Diptych knows only what their
    configurations look like."""

    CLIP = "clip"
    COCA = "coca"
    MAMMUT = "mammut"
    GENLIP = "genlip"
    GENLAP = "genlap"
    CLAP = "clap"


class InputMode(StrEnum):
    """How pictures, or sounds, come to a tower."""

    NONE = "none"
    """Not at all."""
    FIXED = "fixed"
    """In tensors of one size."""
    NAFLEX = "naflex"
    """As patches with their places, as many as each needs."""


@dataclass(frozen=True, kw_only=True)
class ModelTraits:
    """What a family can do, and how a model of it is fed.

    >>> from diptych.compat.model_traits import COCA_TRAITS, traits_from_config
    >>> said = {"multimodal_cfg": {}, "text_cfg": {}, "vision_cfg": {"layers": 12}}
    >>> traits_from_config(said) == COCA_TRAITS
    True
    """

    family: ModelFamily
    generative: bool = False
    """It writes captions, and is trained on them."""
    contrastive: bool = True
    """It compares pictures, or sounds, with texts."""
    requires_naflex_data: bool = False
    """It takes no tensors of one size."""
    naflex_text_in_token_budget: bool = False
    """Captions count where batches have a budget of tokens."""
    consumes_text_mask: bool = False
    """Its forward pass takes a mask of the ids that are a text's."""
    supports_cached_grad_accum: bool = True
    """A batch may be computed in parts: the vectors of all parts are compared."""
    image_input: InputMode = InputMode.FIXED
    audio_input: InputMode = InputMode.NONE
    variable_text: bool = False
    """Texts come padded to the longest of a batch, with an id that is padding alone."""

    @property
    def wants_text_valid_key(self) -> bool:
        """Whether a loader of pictures and texts gives `text_valid` beside `text`."""
        return self.consumes_text_mask and not self.naflex_text_in_token_budget


CLIP_TRAITS = ModelTraits(family=ModelFamily.CLIP)
COCA_TRAITS = ModelTraits(family=ModelFamily.COCA, generative=True, consumes_text_mask=True)
MAMMUT_TRAITS = replace(COCA_TRAITS, family=ModelFamily.MAMMUT)
GENLIP_TRAITS = ModelTraits(
    family=ModelFamily.GENLIP,
    generative=True,
    contrastive=False,
    requires_naflex_data=True,
    naflex_text_in_token_budget=True,
    consumes_text_mask=True,
    supports_cached_grad_accum=False,
    image_input=InputMode.NAFLEX,
    variable_text=True,
)
GENLIP_FIXED_TRAITS = replace(
    GENLIP_TRAITS,
    requires_naflex_data=False,
    naflex_text_in_token_budget=False,
    image_input=InputMode.FIXED,
)
"""Of squares."""
GENLAP_TRAITS = replace(
    GENLIP_TRAITS,
    family=ModelFamily.GENLAP,
    image_input=InputMode.NONE,
    audio_input=InputMode.NAFLEX,
)
CLAP_TRAITS = ModelTraits(
    family=ModelFamily.CLAP, image_input=InputMode.NONE, audio_input=InputMode.FIXED
)


@runtime_checkable
class Described(Protocol):
    """What says its traits, as all of open_clip's models do."""

    traits: ModelTraits


def traits_from_config(model_cfg: Mapping[str, Any]) -> ModelTraits:
    """Of what a `model_cfg`, or a whole `open_clip_config.json`, describes, by the sections that it
    has."""
    said: Mapping[str, Any] = model_cfg.get("model_cfg", model_cfg)
    if "genlip_cfg" in said:
        vision: Mapping[str, Any] = said.get("vision_cfg") or {}
        return GENLIP_TRAITS if vision.get("genlip_naflex", True) else GENLIP_FIXED_TRAITS
    if "genlap_cfg" in said:
        return GENLAP_TRAITS
    text: Mapping[str, Any] = said.get("text_cfg") or said.get("multimodal_cfg") or {}
    variable = bool(text.get("variable_text"))
    if "audio_cfg" in said:
        patches = str((said["audio_cfg"] or {}).get("model_type")).lower() == "naflexvit"
        return replace(
            CLAP_TRAITS,
            audio_input=InputMode.NAFLEX if patches else InputMode.FIXED,
            requires_naflex_data=patches,
            variable_text=variable,
        )
    base = CLIP_TRAITS
    if "multimodal_cfg" in said:
        base = COCA_TRAITS if "text_cfg" in said else MAMMUT_TRAITS
    pictures = _image_input(said.get("vision_cfg"))
    return replace(base, image_input=pictures, variable_text=variable)


def _image_input(vision: Mapping[str, Any] | None) -> InputMode:
    if not vision:
        return InputMode.NONE
    named = str(vision.get("timm_model_name") or "").startswith("naflexvit")
    own = "genlip_cfg" in vision and vision.get("genlip_naflex", True)
    converted = (vision.get("timm_model_kwargs") or {}).get("use_naflex", False)
    return InputMode.NAFLEX if named or converted or own else InputMode.FIXED


def traits_from_model(model: Any) -> ModelTraits:
    """Of a model: those that it was made with, or, where a subclass makes its towers without
    open_clip's constructor, its class's with what the towers say. Raises TypeError for what isn't
    one of open_clip's."""
    said = vars(model).get("traits")
    if isinstance(said, ModelTraits):
        return said
    own = getattr(type(model), "traits", None)
    if not isinstance(own, ModelTraits):
        raise TypeError(f"{type(model).__name__} declares no ModelTraits: it's no open_clip model")
    patches = has_naflex_vit(model)
    variable = getattr(getattr(model, "text", None), "variable_text", own.variable_text)
    pictures = InputMode.NAFLEX if patches else own.image_input
    return replace(own, image_input=pictures, variable_text=bool(variable))


def has_naflex_vit(model: Any) -> bool:
    """Whether the image tower is timm's for pictures of their own aspect: by its name, as open_clip
    does, so a stranger's copy of timm's class counts, too."""
    trunk = getattr(getattr(model, "visual", None), "trunk", None)
    return type(trunk).__name__ == "NaFlexVit"


def get_model_traits(model: Any) -> ModelTraits:
    """Of a model within DDP or torch.compile, or of one that isn't wrapped. Raises TypeError for
    what isn't one of open_clip's.

    >>> from diptych import compat
    >>> from diptych.compat.model_traits import get_model_traits
    >>> get_model_traits(compat.create_model("tiny", load_weights=False)).family.value
    'clip'
    """
    return traits_from_model(unwrap_model(model))


def unwrap_model(model: Any) -> Any:
    """The model within DDP and torch.compile, in whichever order.

    >>> from torch import nn
    >>> from diptych.compat.model_traits import unwrap_model
    >>> unwrap_model(nn.DataParallel(nn.Linear(2, 3)))
    Linear(in_features=2, out_features=3, bias=True)
    """
    while True:
        # A torch module holds what it wraps among its modules.
        held = vars(model) | (vars(model).get("_modules") or {})
        inner = held.get("module", held.get("_orig_mod"))
        if inner is None:
            return model
        model = inner


def validate_distillation(traits: ModelTraits) -> None:
    """Raises ConfigError for a family that isn't trained by a teacher's vectors."""
    if traits.generative:
        raise ConfigError(
            f"distillation is not supported for generative models ({traits.family.value})."
        )
    if traits.family is ModelFamily.CLAP:
        raise ConfigError("CLAP distillation is not supported in this integration.")
