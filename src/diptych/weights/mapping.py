"""Two-way rename tables: foreign weight names <-> ours.

A table is a tuple of rules. In a pattern, `#` stands for a number and `*` for any rest; each stands
for the same text on both sides. A table is strict in both directions: a name that no rule knows
raises.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from diptych.errors import CheckpointError
from diptych.weights.state import Lazy, State


@dataclass(frozen=True)
class Change:
    """What happens to the tensors besides the name: several foreign ones may be one of ours."""

    to_ours: Callable[[list[Tensor]], Tensor]
    to_foreign: Callable[[Tensor], list[Tensor]]


def _joined(parts: list[Tensor]) -> Tensor:
    """One after the other along the first dimension. On `meta` by shapes alone: torch would import
    its compiler."""
    if not parts[0].is_meta:
        return torch.cat(parts)
    if any(part.shape[1:] != parts[0].shape[1:] for part in parts):
        raise RuntimeError("shapes that can't be joined")
    return parts[0].new_empty(sum(map(len, parts)), *parts[0].shape[1:])


SAME = Change(lambda parts: parts[0], lambda ours: [ours])
TRANSPOSED = Change(
    lambda parts: parts[0].transpose(0, 1).contiguous(), lambda ours: [ours.T.contiguous()]
)
SCALAR = Change(lambda parts: parts[0].reshape(1), lambda ours: [ours.reshape(())])
"""0-D there, shape [1] here."""
BATCHED = Change(lambda parts: parts[0][0], lambda ours: [ours[None]])
"""[1, tokens, width] there, [tokens, width] here."""
TOKEN = Change(lambda parts: parts[0].flatten(), lambda ours: [ours[None, None]])
"""[1, 1, width] there, [width] here."""
FUSED = Change(_joined, lambda ours: [part.clone() for part in ours.chunk(3)])
"""Query, key and value apart there, in one matrix here."""
QUERY_APART = Change(
    _joined, lambda ours: [part.clone() for part in ours.tensor_split([len(ours) // 3])]
)
"""The query, and key with value, apart there, in one matrix here."""
PAIRED = Change(_joined, lambda ours: [part.clone() for part in ours.chunk(2)])
"""A gate and what it gates apart there, in one matrix here."""


@dataclass(frozen=True)
class Rule:
    """One line of a table: our name, the foreign name or names, and the change of the tensors.

    >>> from diptych.weights.mapping import FUSED, Rule
    >>> Rule("blocks.#.qkv.weight", ("h.#.q.weight", "h.#.k.weight", "h.#.v.weight"), FUSED).sources
    ('h.#.q.weight', 'h.#.k.weight', 'h.#.v.weight')
    """

    ours: str
    foreign: str | tuple[str, ...]
    change: Change = SAME
    shares: bool = False
    """Whether other rules know its foreign names, too, which then go to all of them: a table of
    positions whose first row belongs to a token."""

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The foreign names, always as a tuple."""
        return (self.foreign,) if isinstance(self.foreign, str) else self.foreign


@dataclass(frozen=True)
class Table:
    """All rules of one layout.

    >>> import torch
    >>> from diptych.weights.mapping import Rule, Table
    >>> table = Table(rules=(Rule("text.blocks.#.norm_1.*", "transformer.resblocks.#.ln_1.*"),))
    >>> list(table.to_ours({"transformer.resblocks.3.ln_1.bias": torch.zeros(2)}))
    ['text.blocks.3.norm_1.bias']
    """

    rules: tuple[Rule, ...]
    ignored: tuple[str, ...] = ()
    """Foreign names that carry nothing (a stored range, a copy of the context length), also where a
    rule would know them."""
    noted: tuple[str, ...] = ()
    """Foreign names that a model has no use for; who starts from the file should know (a mask
    token)."""
    absent: Mapping[str, Tensor] = field(default_factory=dict)
    """Ours that a file of this layout may lack, and what they are then."""

    @cached_property
    def _from_foreign(self) -> list[tuple[re.Pattern[str], Rule, int]]:
        found: list[tuple[re.Pattern[str], Rule, int]] = []
        for rule in self.rules:
            found += [(_regex(name), rule, i) for i, name in enumerate(rule.sources)]
        return found

    @cached_property
    def _from_ours(self) -> list[tuple[re.Pattern[str], Rule]]:
        return [(_regex(rule.ours), rule) for rule in self.rules]

    @cached_property
    def _ignored(self) -> list[re.Pattern[str]]:
        return [_regex(name) for name in self.ignored]

    @cached_property
    def _skipped(self) -> list[re.Pattern[str]]:
        return [_regex(name) for name in (*self.ignored, *self.noted)]

    @cached_property
    def _left(self) -> list[re.Pattern[str]]:
        return [_regex(name) for name in self.noted]

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Those of the foreign `names` that no rule knows and that aren't to be left out."""
        patterns = [pattern for pattern, _, _ in self._from_foreign] + self._skipped
        return [name for name in names if not _matches(patterns, name)]

    def beside(self, names: Iterable[str]) -> list[str]:
        """Those of the foreign `names` that are of modules beside the model: none of its own begin
        with the same component.

        >>> from diptych.weights.mapping import Rule, Table
        >>> table = Table(rules=(Rule("image.patch.weight", "visual.conv1.weight"),))
        >>> table.beside(["visual.conv1.weight", "visual.adapter.weight", "classifier.weight"])
        ['classifier.weight']
        """
        known = [source for rule in self.rules for source in rule.sources]
        own = {name.partition(".")[0] for name in (*known, *self.ignored, *self.noted)}
        first = ((name, name.partition(".")) for name in self.unknown(names))
        return [name for name, (module, dot, _) in first if dot and module not in own]

    def unused(self, names: Iterable[str]) -> list[str]:
        """Those of the foreign `names` that are to be noted."""
        return [name for name in names if _matches(self._left, name)]

    def to_ours(self, foreign: Mapping[str, Tensor]) -> State:
        """Our names and tensors, made when they are asked for, in the order of the file.

        Raises CheckpointError for names that the table doesn't know, and for parts that lack or
        don't fit together.
        """
        found: dict[str, tuple[Rule, dict[int, Lazy]]] = {}
        for name, lazy in State.of(foreign).lazies.items():
            if _matches(self._ignored, name):
                continue
            for groups, rule, i in self._rules_for(name):
                found.setdefault(_fill(rule.ours, groups), (rule, {}))[1][i] = lazy
        if unknown := self.unknown(foreign):
            raise CheckpointError(f"{_listed(unknown)} have no place in a Diptych model")
        partial = [name for name, (rule, parts) in found.items() if len(parts) < len(rule.sources)]
        if partial:
            raise CheckpointError(f"{_listed(partial)} can't be made: a part of them is missing")
        made: dict[str, Lazy] = {}
        for name, (rule, parts) in found.items():
            made[name] = _changed(name, rule.change.to_ours, [parts[i] for i in sorted(parts)])
        return State.of(self.absent).updated(State(made))

    def _rules_for(self, foreign: str) -> Iterator[tuple[re.Match[str], Rule, int]]:
        """Those that share the foreign name, and the first of the others, with the place that it
        has among a rule's sources."""
        for pattern, rule, i in self._from_foreign:
            if match := pattern.fullmatch(foreign):
                yield match, rule, i
                if not rule.shares:
                    return

    def foreign_names(self, ours: str) -> tuple[str, ...]:
        """What a name of ours is in this layout, where it may be several; empty: it has no place.

        >>> from diptych.weights.mapping import Rule, Table
        >>> table = Table(rules=(Rule("text.blocks.#.norm_1.*", "transformer.resblocks.#.ln_1.*"),))
        >>> table.foreign_names("text.blocks.3.norm_1.bias")
        ('transformer.resblocks.3.ln_1.bias',)
        """
        found = self._rule_of(ours)
        return tuple(_fill(source, found[0]) for source in found[1].sources) if found else ()

    def to_foreign(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Foreign names and tensors. Raises CheckpointError for names of ours that the layout can't
        hold."""
        result, unknown = dict[str, Tensor](), list[str]()
        for name, tensor in ours.items():
            found = self._rule_of(name)
            if found is None:
                unknown.append(name)
                continue
            groups, rule = found
            for source, part in zip(rule.sources, rule.change.to_foreign(tensor), strict=True):
                place = _fill(source, groups)
                if not rule.shares or place not in result:
                    result[place] = part
        if unknown:
            raise CheckpointError(f"{_listed(unknown)} can't be expressed in this layout")
        return result

    def _rule_of(self, ours: str) -> tuple[re.Match[str], Rule] | None:
        """The first rule for a name of ours."""
        return next(((m, rule) for p, rule in self._from_ours if (m := p.fullmatch(ours))), None)


Row = tuple[str, str | tuple[str, ...]] | tuple[str, str | tuple[str, ...], Change]
"""Our name, the foreign name or names, and perhaps a change: a rule without the names' start."""


def rows(ours: str, foreign: str, *pairs: Row) -> tuple[Rule, ...]:
    """Rules whose names start alike: each pair is (our rest, foreign rest or rests[, change]).

    >>> from diptych.weights.mapping import rows
    >>> rows("text.", "encoder.", ("norm_post.*", "ln_final.*"))[0].foreign
    'encoder.ln_final.*'
    """
    found: list[Rule] = []
    for row in pairs:
        mine, theirs = row[:2]
        change = row[2] if len(row) > 2 else SAME
        names = (theirs,) if isinstance(theirs, str) else theirs
        sources = tuple(foreign + name for name in names)
        same = sources[0] if isinstance(theirs, str) else sources
        found.append(Rule(ours + mine, same, change))
    return tuple(found)


def check_fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError unless names, shapes and kinds of numbers are the same, naming the
    first that aren't."""
    if missing := [name for name in expected if name not in state]:
        verb = "is" if len(missing) == 1 else "are"
        raise CheckpointError(f"{_listed(missing)} {verb} missing")
    if surplus := [name for name in state if name not in expected]:
        raise CheckpointError(f"{_listed(surplus)} are not in the model")
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise CheckpointError(
                f"{name} is {list(state[name].shape)} where the model has {list(tensor.shape)}"
            )
        if state[name].is_floating_point() != tensor.is_floating_point():
            raise CheckpointError(
                f"{name} is of {state[name].dtype} where the model has {tensor.dtype}"
            )


def count_numbers(names: Iterable[str], prefix: str) -> int:
    """How many different components follow `prefix`: the number of blocks.

    >>> from diptych.weights.mapping import count_numbers
    >>> count_numbers(["blocks.0.norm.weight", "blocks.0.norm.bias", "blocks.1.up.bias"], "blocks.")
    2
    """
    return len({name[len(prefix) :].split(".")[0] for name in names if name.startswith(prefix)})


def _changed(name: str, change: Callable[[list[Tensor]], Tensor], parts: list[Lazy]) -> Lazy:
    try:
        like = change([part.like for part in parts])
    except (RuntimeError, IndexError) as error:
        shapes = ", ".join(str(list(part.like.shape)) for part in parts)
        raise CheckpointError(f"{name} can't be made of {shapes}") from error
    if len(parts) > 1:  # they are copied together
        return Lazy(like, lambda: change([part.once() for part in parts]))
    (part,) = parts
    return Lazy(like, lambda: change([part.make()]), lambda: change([part.once()]))


def _matches(patterns: Iterable[re.Pattern[str]], name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in patterns)


def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(
        "".join(
            {"#": r"(\d+)", "*": r"(.+)"}.get(part, re.escape(part))
            for part in re.split(r"([#*])", pattern)
        )
    )


def _fill(pattern: str, groups: re.Match[str]) -> str:
    texts = iter(groups.groups())
    return "".join(
        next(texts) if part in ("#", "*") else part for part in re.split(r"([#*])", pattern)
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
