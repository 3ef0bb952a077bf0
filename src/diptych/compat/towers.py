"""Towers of ours with open_clip's face: `model.visual` and `model.text`."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.compat.names import DECODER, TEXT, VISUAL, part_of, taken
from diptych.config import ImageTowerConfig, TextTowerConfig
from diptych.errors import ConfigError
from diptych.models import Decoder, Tower
from diptych.weights.mapping import Table

_COUNTER = ".num_batches_tracked"
"""Of batch norms: torch, too, doesn't miss it."""


class OpenClipTower(nn.Module):
    """A call gives the pooled vectors alone; with `output_tokens` set to True, (pooled, tokens),
    the tokens behind the final norm.

    Parameters have open_clip's names, below another module, too: saving and loading go through
    torch's own hooks.
    """

    def __init__(self, tower: Any, table: Table, beside: bool = False):
        super().__init__()
        self.tower = tower
        self.table = table
        self.beside = beside
        """Whether open_clip has the tower's parts beside the other tower: `ln_final`, not
        `text.ln_final`."""
        self.output_tokens = False
        self.register_state_dict_post_hook(_rename_saved)
        self.register_load_state_dict_pre_hook(_rename_loaded)

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

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters by open_clip's names."""
        before = f"{prefix}." if prefix else ""
        for name, parameter in super().named_parameters("", recurse, remove_duplicate):
            yield before + self.table.foreign_names(name)[0], parameter


class OpenClipVisual(OpenClipTower):
    """`model.visual`. Pixels are cast to the precision of the weights."""

    def __init__(self, tower: Tower[Any], table: Table, output_dim: int):
        super().__init__(tower, part_of(table, "image.", VISUAL))
        config: ImageTowerConfig = tower.config
        self.output_dim = output_dim
        """Width of the pooled vectors."""
        self.image_size = (config.image_size, config.image_size)
        """In pixels."""
        self.input_resolution = config.image_size
        """The same, as OpenAI's models say it."""

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Tensor | tuple[Tensor, Tensor]:
        """Pooled vectors of pixels, or (pooled, tokens): the tokens are the patches'."""
        return super().forward(x.to(self.dtype))


class OpenClipText(OpenClipTower):
    """`model.text`."""

    def __init__(self, tower: Tower[Any], table: Table, prefix: str):
        super().__init__(tower, part_of(table, "text.", prefix), beside=not prefix)
        config: TextTowerConfig = tower.config
        self.context_length = config.context_length
        """Ids of a text at the most."""
        self.vocab_size = config.vocabulary
        """Different ids; None: only the library that the tower comes from can tell."""

    def forward(self, x: Int[Tensor, "batch length"]) -> Tensor | tuple[Tensor, Tensor]:
        """Pooled vectors of ids, or (pooled, tokens)."""
        return super().forward(x)


class OpenClipDecoder(OpenClipTower):
    """`model.text_decoder`."""

    def __init__(self, decoder: Decoder[Any], table: Table):
        super().__init__(decoder, part_of(table, "decoder.", DECODER))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, image_embs: Tensor, text_embs: Tensor
    ) -> Tensor:
        """Logits of the next tokens, of tokens of pictures and of texts."""
        return self.tower(text_embs, self.tower.read(image_embs))


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
