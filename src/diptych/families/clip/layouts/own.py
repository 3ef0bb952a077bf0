"""Diptych's own names without its model.json, as `torch.save(model.state_dict())` leaves them."""

from collections.abc import Collection
from typing import Any

from diptych.config import ClipConfig
from diptych.families.clip.published import published
from diptych.families.infer import infer
from diptych.weights.layout import Layout, WeightSource
from diptych.weights.mapping import Rule, Table
from diptych.weights.state import State

_PARTS = ("image.*", "text.*", "image_tokens.*", "text_tokens.*", "logit_scale", "logit_bias")
TABLE = Table(rules=tuple(Rule(name, name) for name in _PARTS))


def table(names: Collection[str]) -> Table:
    """Every name is itself."""
    return TABLE


def read_config(source: WeightSource, state: State) -> tuple[ClipConfig, dict[str, Any]]:
    """From the shapes, and the published models of these."""
    return published(infer(state, "gelu"))


OWN = Layout(
    name="native-weights",
    image=("image.class_token", "image.patch.weight", "image.stem.0.conv.weight"),
    text=("text.tokens.weight",),
    scale=("logit_scale",),
    table=table,
    config=read_config,
    weight_files=(),
    priority=-2,
)
