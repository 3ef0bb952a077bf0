"""Image towers from one form or layout to another, proven before it is called done."""

from pathlib import Path

import torch
from torch.nn.functional import normalize

from diptych.checkpoints.assemble import assemble_tower
from diptych.checkpoints.atomic import atomic, save_torch
from diptych.checkpoints.deploy import deploy as merge
from diptych.checkpoints.formats import unireplknet
from diptych.checkpoints.state import State
from diptych.checkpoints.towers import read_tower
from diptych.config import UniRepLKNetConfig
from diptych.errors import CheckpointError

_NEAR = 1e-4
"""Of vectors of length 1: rounding in float32 makes a hundredth of it."""


def convert_tower(source: str | Path, out: str | Path, *, deploy: bool = False) -> Path:
    """Writes the UniRepLKNet at `source`, a trunk alone or within a model, to the file `out` as its
    authors' code loads it: a state dict of the trunk. A classifier, a projection and a text tower
    stay behind. `deploy` merges it.

    The file is read back: every tensor must be bit-equal, and merged vectors those of the source.
    Raises CheckpointError if `out` exists or the tower is of another kind."""
    out = Path(out)
    state, config, _ = read_tower(source, "image")
    if not isinstance(config, UniRepLKNetConfig):
        raise CheckpointError(
            f"{source} can't be written as unireplknet: its image tower is of another kind"
        )
    state = State(
        {name: lazy for name, lazy in state.lazies.items() if not name.startswith("projection.")}
    )
    if deploy:
        state, config = proven_deploy(state, config)
    with atomic(out, replaceable=lambda _: False) as room:
        save_torch(
            room / out.name,
            unireplknet.EXPORT.to_foreign({f"image.{name}": state[name] for name in state}),
        )
        again, _, _ = read_tower(room / out.name, "image")
        if again.keys() != state.keys() or not all(
            torch.equal(state[name], again[name]) for name in state
        ):
            raise CheckpointError(
                "unireplknet doesn't give back the same weights: please report this"
            )
    return out


def proven_deploy(state: State, config: UniRepLKNetConfig) -> tuple[State, UniRepLKNetConfig]:
    """The tower in deploy form. Raises CheckpointError unless it gives the vectors that the
    training form gives."""
    merged, deployed = merge(state, config)
    size = config.image_size
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    embed_dim = len(state.shapes["projection.weight"]) if "projection.weight" in state else None
    with torch.inference_mode():
        before, after = (
            normalize(assemble_tower(State.of(weights), form, embed_dim)(pixels).pooled, dim=-1)
            for weights, form in ((state, config), (merged, deployed))
        )
    gap = (before - after).abs().max().item()
    if not gap < _NEAR:
        raise CheckpointError(
            f"merged, its vectors differ by {gap:.1e}, more than rounding makes; leave deploy out"
        )
    return merged, deployed
