"""Parts of a tower of ours by open_clip's names: `visual.trunk.blocks[3]`, `visual.layer4`."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from diptych.weights.mapping import Table


class Parts:
    """What begins with one name there, and isn't one module here.

    `parts.blocks`, `parts[3]` give a module of ours where its parameters are just those of that
    name: hooks on it fire whenever the tower runs. They give a tensor where the name is one's, and
    else the parts below it.
    """

    def __init__(self, tower: nn.Module, table: Table, path: str):
        self._tower = tower
        self._table = table
        self._path = path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python itself looks for
            raise AttributeError(name)
        return find(self._tower, self._table, f"{self._path}.{name}")

    def __getitem__(self, index: int) -> Any:
        names = self._children()
        return find(self._tower, self._table, f"{self._path}.{names[index]}")

    def __len__(self) -> int:
        return len(self._children())

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters, by open_clip's names behind this one."""
        names = _names(self._tower, self._table)
        for ours, parameter in self._tower.named_parameters():
            first = names[ours][0] if names[ours] else ""
            if first.startswith(f"{self._path}."):
                yield first.removeprefix(f"{self._path}."), parameter

    def parameters(self) -> Iterator[nn.Parameter]:
        """The same without names."""
        return (parameter for _, parameter in self.named_parameters())

    def requires_grad_(self, requires_grad: bool = True) -> "Parts":
        """Whether the parameters are trained."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def _children(self) -> list[str]:
        found: dict[str, None] = {}
        for foreign in _names(self._tower, self._table).values():
            for name in foreign:
                if name.startswith(f"{self._path}."):
                    found[name.removeprefix(f"{self._path}.").split(".")[0]] = None
        return list(found)


def find(tower: nn.Module, table: Table, path: str) -> Any:
    """What open_clip calls `path` in this tower: see `Parts`. Raises AttributeError for a name that
    it doesn't have."""
    names = _names(tower, table)
    for ours, foreign in names.items():
        if path in foreign:
            return _tensor(tower, table, ours, path)
    inside = _inside(names, path)
    if not inside:
        raise AttributeError(f"{type(tower).__name__} has nothing that open_clip calls {path!r}")
    # Of modules with the same parameters, one within the other, each level of the path means one.
    same = [prefix for prefix in _above(path) if _inside(names, prefix) == inside]
    modules = _exactly(tower, names, inside, path)
    if not modules:
        return Parts(tower, table, path)
    return modules[min(len(same), len(modules) - 1)]


def _names(tower: nn.Module, table: Table) -> dict[str, tuple[str, ...]]:
    """Our names of the tensors, and what each is there."""
    return {name: table.foreign_names(f"tower.{name}") for name in tower.state_dict()}


def _inside(names: dict[str, tuple[str, ...]], path: str) -> set[str]:
    found: set[str] = set()
    for ours, foreign in names.items():
        if any(name.startswith(f"{path}.") for name in foreign):
            found.add(ours)
    return found


def _above(path: str) -> list[str]:
    words = path.split(".")
    return [".".join(words[:count]) for count in range(1, len(words))]


def _exactly(
    tower: nn.Module, names: dict[str, tuple[str, ...]], inside: set[str], path: str
) -> list[nn.Module]:
    """The modules within the tower that have those tensors alone, the outermost first; none where
    another part of one of them stands elsewhere."""
    whole = all(name.startswith(f"{path}.") for ours in inside for name in names[ours])
    found: list[nn.Module] = []
    for name, module in tower.named_modules() if whole else ():
        prefix = f"{name}."
        own = {ours for ours in names if ours.startswith(prefix)}
        if name and own == inside:
            found.append(module)
    return found


def _tensor(tower: nn.Module, table: Table, ours: str, path: str) -> Tensor:
    """The parameter itself where it is laid out alike, else what it is there."""
    own = tower.state_dict(keep_vars=True)[ours]
    theirs = table.to_foreign({f"tower.{ours}": own})[path]
    return own if theirs is own else theirs
