"""What a foreign file has beside the model, in words."""

from collections.abc import Iterable, Mapping
from typing import Any


def summary(names: Iterable[str]) -> list[str]:
    """Names for people: more than two that begin alike are one.

    >>> from diptych.weights.leftovers import summary
    >>> summary(["mask_token", "projector.0.weight", "projector.0.bias", "projector.1.weight"])
    ['mask_token', 'projector.* (3 tensors)']
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.split(".")[0], []).append(name)
    lines: list[str] = []
    for first, same in groups.items():
        lines += [f"{first}.* ({len(same)} tensors)"] if len(same) > 2 else same
    return lines


def left_behind(provenance: Mapping[str, Any]) -> str:
    """A sentence on what a foreign file has beside the model, by what was noted when it was read;
    empty: nothing.

    >>> from diptych.weights.leftovers import left_behind
    >>> left_behind({"source": "ckpt.pth.tar", "unused": ["logit_scale_dense"]})
    'ckpt.pth.tar: logit_scale_dense belongs to training and stays behind'
    """
    found = summary(provenance.get("unused", ()))
    verbs = (
        "belong to training and stay behind"
        if len(found) > 1
        else "belongs to training and stays behind"
    )
    return f"{provenance['source']}: {', '.join(found)} {verbs}" if found else ""
