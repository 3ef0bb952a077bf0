"""State dicts of a model with open_clip's face, in open_clip's names."""

from collections.abc import Mapping, MutableMapping
from typing import Any

from diptych.compat.faces.names import DECODER, TEXT, VISUAL, Renamed, in_open_clips_names, taken
from diptych.compat.faces.towers import OpenClipText

_NOT_OF_TEXT = (VISUAL, DECODER, "logit_scale", "logit_bias", "image_tokens.", "text_tokens.")
"""What names of other parts than the text tower begin with."""
_TEXT = (
    *("text_projection", "positional_embedding", "token_embedding", "transformer"),
    "ln_final",
)
"""What names of the text tower in open_clip's `CLIP` begin with."""


def rename_saved(
    model: Renamed, state: MutableMapping[str, Any], prefix: str, metadata: dict[str, Any]
) -> None:
    """A hook behind `state_dict`: the towers have renamed their own, and in open_clip's `CLIP` the
    text tower's parts stand a level up."""
    if _is_below(model):
        for name, tensor in taken(state, f"{prefix}{TEXT}").items():
            state[prefix + name] = tensor


def rename_loaded(
    model: Renamed,
    state: MutableMapping[str, Any],
    prefix: str,
    metadata: dict[str, Any],
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """A hook before `load_state_dict`: the other way round, from whatever layout."""
    given, known = taken(state, prefix), model.state_dict()
    for name, tensor in in_open_clips_names(given, known, model.table).items():
        of_text = _is_below(model) and not name.startswith(_NOT_OF_TEXT)
        state[f"{prefix}{TEXT if of_text else ''}{name}"] = tensor


def _is_below(model: Renamed) -> bool:
    """Whether the text tower is one of Diptych's that open_clip has beside the other one."""
    text = model.__dict__["_modules"].get("text")
    return isinstance(text, OpenClipText) and text.beside


def convert_to_custom_text_state_dict(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The names of open_clip's `CustomTextCLIP` for a state dict of its `CLIP`; others as they are.

    >>> from diptych.compat.model import convert_to_custom_text_state_dict
    >>> list(convert_to_custom_text_state_dict({"text_projection": 0, "visual.proj": 1}))
    ['text.text_projection', 'visual.proj']
    """
    if "text_projection" not in state_dict:
        return dict(state_dict)
    return {
        f"text.{name}" if name.startswith(_TEXT) else name: value
        for name, value in state_dict.items()
    }
