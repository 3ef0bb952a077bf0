"""Image towers from one form or layout to another, proven before it is called done."""

from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import normalize

from diptych.checkpoints.content import Config, read, say_assumed
from diptych.config import ImageTowerConfig
from diptych.errors import CheckpointError
from diptych.weights.assemble import assemble_tower
from diptych.weights.atomic import atomic
from diptych.weights.layout import Export
from diptych.weights.state import State
from diptych.weights.tower import tower_weights

_NEAR = 1e-4
"""Of vectors of length 1: rounding in float32 makes a hundredth of it."""


def convert_tower(
    source: str | Path,
    to: Export,
    out: str | Path,
    *,
    config: Config | str | Path | None = None,
    deploy: bool = False,
    accept_guess: bool = False,
) -> Path:
    """Writes the image tower at `source`, alone or within a model, to `out` in a layout of image
    towers alone. A classifier, a projection and a text tower stay behind. `config` overrules what
    stands beside foreign weights, `deploy` merges the tower, `accept_guess` is as in `convert`.

    What was written is read back: every tensor must be bit-equal, and merged vectors those of the
    source. Raises CheckpointError if `out` exists or the tower is of another kind.
    """
    out = Path(out)
    content = read(source, "image", config=config)
    say_assumed(source, content, accepted=accept_guess)
    state, tower = content.state, content.config
    if not isinstance(tower, ImageTowerConfig) or not to.holds(tower):
        raise CheckpointError(
            f"{source} can't be written as {to.name}: its image tower is of another kind"
        )
    projections = tower_weights(tower).projections
    kept = {n: lazy for n, lazy in state.lazies.items() if not n.startswith(projections)}
    state = State(kept)
    if deploy:
        state, tower = proven_deploy(state, tower)
    with atomic(out, replaceable=lambda _: False) as room:
        to.write(room / out.name, tower, state)
        again = read(room / out.name, "image").state
        same = again.keys() == state.keys()
        if not same or not all(torch.equal(state[name], again[name]) for name in state):
            raise CheckpointError(
                f"{to.name} doesn't give back the same weights: please report this"
            )
    return out


def proven_deploy(state: State, config: Any) -> tuple[State, Any]:
    """The tower in deploy form. Raises CheckpointError unless it gives the vectors that the
    training form gives."""
    known = tower_weights(config)
    merged, deployed = known.deploy(state, config)
    size, embed_dim = config.image_size, known.embed_dim(state.shapes)
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    vectors: list[torch.Tensor] = []
    with torch.inference_mode():
        for weights, form in ((state, config), (merged, deployed)):
            tower = assemble_tower(State.of(weights), form, embed_dim)
            vectors.append(normalize(tower(pixels, tokens="none").pooled, dim=-1))
    gap = (vectors[0] - vectors[1]).abs().max().item()
    if not gap < _NEAR:
        raise CheckpointError(
            f"merged, its vectors differ by {gap:.1e}, more than rounding makes; leave deploy out"
        )
    return merged, deployed
