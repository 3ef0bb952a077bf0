"""What is said of a name that no model and no weights have."""

import difflib

from diptych.errors import UnknownModelError
from diptych.pretrained import catalogue
from diptych.pretrained.near import near_names

_SHOWN = 8
"""Tags in a sentence."""


def unknown(name: str) -> UnknownModelError:
    """The error for it: its sentence names what is near, or how a name is written.

    Other models are no near misses of weights: who asks for LAION's ViT-H-14 doesn't mean
    OpenAI's ViT-L-14."""
    model, _, tag = name.removeprefix("hf-hub:").rpartition("/")
    if model and (tags := catalogue.tags_of(model)):
        hint = "" if difflib.get_close_matches(tag, tags) else f"known are {_some(tags)}"
        return UnknownModelError(f"tag of {model}", tag, tags, hint=hint)
    near = near_names(catalogue.plain(name), catalogue.models_by_name())
    listed = len(catalogue.matching(f"*{name}*"))
    also = f"`diptych models '*{name}*'` lists {listed}" if near and listed > len(near) else ""
    hint = "" if near else "`diptych models` lists those that are known"
    if name.count("/") == 1:
        written = f"a repository of the hub is written hf-hub:{name.removeprefix('hf-hub:')}"
        also, hint = (written, hint) if near else ("", written)
    return UnknownModelError("model", name, (), near=near, also=also, hint=hint)


def _some(names: list[str]) -> str:
    return ", ".join(names if len(names) <= _SHOWN else [*names[:_SHOWN], "…"])
