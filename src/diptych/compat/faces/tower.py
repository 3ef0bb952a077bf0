"""A tower of ours under open_clip's names."""

import warnings
from collections.abc import Iterator, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn

from diptych.compat.faces.named_parts import find
from diptych.compat.faces.names import TEXT, Renamed, part_of, table_of, taken
from diptych.compat.parts.locks import NamedGroups, lock_groups, named_groups
from diptych.compat.parts.stack import check_impl
from diptych.config import ClipConfig
from diptych.errors import AssumptionWarning, ConfigError
from diptych.weights.mapping import Table

_COUNTER = ".num_batches_tracked"
"""Of batch norms: torch, too, doesn't miss it."""


class OpenClipTower(Renamed):
    """A call gives the pooled vectors alone; with `output_tokens` set to True, (pooled, tokens),
    the tokens behind the final norm.

    Parameters have open_clip's names, below another module, too: saving and loading go through
    torch's own hooks. Parts are found by open_clip's names (`visual.trunk.blocks[3]`), and hooks on
    them fire whenever the tower runs; a tower that reads one token computes that alone in its last
    block, which is [batch, width] there.
    """

    def __init__(
        self, tower: Any, config: ClipConfig, ours: str, foreign: str, beside: bool = False
    ):
        super().__init__()
        self.tower = tower
        self._place = (config, ours, foreign)
        self.beside = beside
        """Whether open_clip has the tower's parts beside the other tower: `ln_final`, not
        `text.ln_final`."""
        self.output_tokens = False
        self._still: list[str] = []
        self.register_state_dict_post_hook(_rename_saved)
        self.register_load_state_dict_pre_hook(_rename_loaded)

    def __getattr__(self, name: str) -> Any:
        """A module of torch's, or what open_clip calls so."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or "tower" not in self.__dict__.get("_modules", ()):
                raise
            return find(self.tower, self.table, name)

    def rules(self) -> Table:
        """Our names <-> open_clip's, within the tower."""
        config, ours, foreign = self._place
        return part_of(table_of(config), ours, foreign)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.tower.parameters()).dtype

    def pool(self, x: Tensor) -> Tensor:
        """The pooled vectors alone."""
        return self.tower(x, tokens="none").pooled

    def pool_with_tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The pooled vectors, and the tokens behind the final norm. Raises ConfigError for a tower
        without such tokens."""
        try:
            found = self.tower(x, tokens="normed")
        except ConfigError as error:
            raise ConfigError(f"{error}; leave output_tokens False") from error
        return found.pooled, found.tokens[:, self.tower.class_tokens :]

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """As the class says. Raises ConfigError where tokens are asked of a tower without any."""
        return self.pool_with_tokens(x) if self.output_tokens else self.pool(x)

    def set_grad_checkpointing(self, enable: bool = True, impl: str = "inline") -> None:
        """Compute blocks again in the backward pass; of a tower without blocks a warning says that
        it can't. `impl`: see `stack.check_impl`."""
        check_impl(impl)
        try:
            self.tower.set_checkpointing(enable)
        except ConfigError as error:
            warnings.warn(str(error), AssumptionWarning, stacklevel=2)

    def train(self, mode: bool = True) -> "OpenClipTower":
        """As torch has it, but that frozen statistics of batch norms stay."""
        super().train(mode)
        for name in self._still:
            self.tower.get_submodule(name).eval()
        return self

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters by open_clip's names."""
        before = f"{prefix}." if prefix else ""
        for name, parameter in super().named_parameters("", recurse, remove_duplicate):
            yield before + self.table.foreign_names(name)[0], parameter

    def _parameters_of(self, begins: str) -> list[tuple[str, nn.Parameter]]:
        """Our names and parameters of what begins so there."""
        found: list[tuple[str, nn.Parameter]] = []
        for name, parameter in self.tower.named_parameters():
            if self.table.foreign_names(f"tower.{name}")[0].startswith(begins):
                found.append((name, parameter))
        return found

    def _lock_groups(self, unlocked: int) -> None:
        lock_groups(self._groups(), unlocked)

    def layer_groups(self, pooler_in_head: bool = True) -> NamedGroups:
        """Parameters of what makes the first block's input, of each block and of the projection, by
        name; `pooler_in_head` has no meaning here."""
        groups = self._groups()
        return named_groups(groups, len(groups) > len(self.tower.units) + 1)

    def no_weight_decay(self) -> set[str]:
        """Names of tables and tokens without weight decay; vectors have none anyway."""
        sizes = {name: parameter.ndim for name, parameter in self.tower.named_parameters()}
        return {
            self.table.foreign_names(f"tower.{name}")[0]
            for name in self.tower.no_decay
            if sizes[name] > 1
        }

    def _groups(self) -> list[list[nn.Parameter]]:
        groups: list[list[nn.Parameter]] = []
        for names in self.tower.layer_groups():
            groups.append([self.tower.get_parameter(name) for name in names])
        return groups


def _rename_saved(
    module: OpenClipTower, state: MutableMapping[str, Any], prefix: str, metadata: dict[str, Any]
) -> None:
    for name, tensor in module.table.to_foreign(taken(state, prefix)).items():
        state[prefix + name] = tensor


def _rename_loaded(
    module: OpenClipTower,
    state: MutableMapping[str, Any],
    prefix: str,
    metadata: dict[str, Any],
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """What is given replaces the weights as they are, under open_clip's names: so a part of what is
    one parameter here may be given alone."""
    merged = module.table.to_foreign(module.tower.state_dict(prefix="tower."))
    given, said = taken(state, prefix), prefix.removesuffix(TEXT) if module.beside else prefix
    missing += [said + name for name in merged if name not in given and not name.endswith(_COUNTER)]
    unexpected += [said + name for name in given if name not in merged]
    for name, tensor in given.items():
        if name in merged and tensor.shape != merged[name].shape:
            errors.append(
                f"size mismatch for {said}{name}: {tuple(tensor.shape)} in the state dict, "
                f"{tuple(merged[name].shape)} in the model"
            )
        elif name in merged:
            merged[name] = tensor
    for name, tensor in module.table.to_ours(merged).items():
        state[prefix + name] = tensor
