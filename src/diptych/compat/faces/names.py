"""open_clip's names for the parameters of models of ours: in `state_dict`, `load_state_dict` and
`named_parameters`.

A tower that open_clip doesn't have keeps Diptych's names, behind `visual.` or `text.`. Where
open_clip has several tensors for one parameter of ours (query, key and value), `state_dict` has
them all, and `named_parameters` the one parameter by the first of their names.
"""

import functools
from collections.abc import Mapping, MutableMapping
from typing import Any

from torch import Tensor, nn

from diptych.checkpoints.prefixes import whole
from diptych.config import ClipConfig
from diptych.errors import CheckpointError
from diptych.families.clip.layouts.open_clip import export_table
from diptych.weights.mapping import Rule, Table


class Renamed(nn.Module):
    """A module whose parameters have other names elsewhere."""

    def rules(self) -> Table:
        """Our names <-> the others'."""
        raise NotImplementedError

    @functools.cached_property
    def table(self) -> Table:
        """`rules`, made once."""
        return self.rules()

    def __getstate__(self) -> dict[str, Any]:
        """Without the table, which can't be pickled."""
        return {name: value for name, value in vars(self).items() if name != "table"}


VISUAL, TEXT, DECODER = "visual.", "text.", "text_decoder."


def table_of(config: ClipConfig, custom_text: bool | None = None) -> Table:
    """Our names <-> open_clip's for a model of this configuration, whatever its towers.
    `custom_text`: whether the text tower's begin with `text.`; None: as open_clip builds it.

    >>> from diptych import pretrained
    >>> from diptych.compat.faces.names import table_of
    >>> table_of(pretrained.get("vit-b-32")).foreign_names("image.projection.weight")
    ('visual.proj',)
    """
    try:
        known = export_table(config).rules
    except CheckpointError:
        known = ()
    if custom_text is not None:
        known = tuple(_placed(rule, custom_text) for rule in known)
    towers = (Rule("image.*", f"{VISUAL}*"), Rule("text.*", f"{text_prefix(known)}*"))
    return Table(rules=(*known, *towers, Rule("decoder.*", f"{DECODER}*"), Rule("*", "*")))


def _placed(rule: Rule, custom_text: bool) -> Rule:
    """A rule of the text tower with or without `text.` before the foreign names."""
    if not rule.ours.startswith(TEXT):
        return rule
    bare = (name.removeprefix(TEXT) for name in rule.sources)
    return Rule(rule.ours, tuple(TEXT * custom_text + name for name in bare), rule.change)


def text_prefix(rules: tuple[Rule, ...]) -> str:
    """What the text tower's foreign names begin with: nothing in open_clip's `CLIP`, `text.` in its
    `CustomTextCLIP`."""
    names: list[str] = []
    for rule in rules:
        names += rule.sources if rule.ours.startswith(TEXT) else ()
    return TEXT if all(name.startswith(TEXT) for name in names) else ""


def part_of(table: Table, ours: str, foreign: str) -> Table:
    """The rules of the tower whose names begin with `ours` here: `tower.` in place of it, and
    nothing in place of `foreign`."""
    found: list[Rule] = []
    for rule in table.rules:
        if rule.ours.startswith(ours):
            sources = tuple(name.removeprefix(foreign) for name in rule.sources)
            found.append(Rule(f"tower.{rule.ours.removeprefix(ours)}", sources, rule.change))
    return Table(rules=tuple(found))


def in_open_clips_names(
    state: Mapping[str, Tensor], known: Mapping[str, Tensor], table: Table
) -> Mapping[str, Tensor]:
    """`state` itself where it has `known` names alone, or where no layout knows its names; else
    what it holds in another layout of whole models that Diptych reads, or in its own."""
    if any(name.startswith("image.") for name in state):
        return table.to_foreign(state)
    layout = None if known.keys() >= state.keys() else whole(state)
    if layout is None:
        return state
    try:
        return table.to_foreign(layout.table(state).to_ours(state))
    except CheckpointError:
        return state  # torch says what is missing and what is unexpected


def taken(state: MutableMapping[str, Any], prefix: str) -> dict[str, Any]:
    """What stands behind `prefix` in `state`, taken out of it."""
    names = [name for name in state if name.startswith(prefix)]
    return {name.removeprefix(prefix): state.pop(name) for name in names}
