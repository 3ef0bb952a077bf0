"""CoCa's pools as open_clip's main branch has them over a tower of timm's: beside `visual`, which
is the trunk alone.

| name                    | what it is                                                            |
| ----------------------- | --------------------------------------------------------------------- |
| `visual`                | the trunk; its vector isn't used                                      |
| `pool_norm`             | a norm of its tokens                                                  |
| `attn_pool`             | what the decoder's queries read of them                               |
| `attn_pool_contrastive` | what the query for the contrast reads: of those answers ("cascade"),  |
|                         | or of the tokens ("parallel")                                         |

https://github.com/mlfoundations/open_clip, src/open_clip/coca_model.py
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from diptych.compat.faces.native import fill_again
from diptych.compat.parts.attention import AttentionalPooler
from diptych.compat.parts.layers import LayerNorm
from diptych.config import ClipConfig
from diptych.families.coca.naflex import CocaNaflexTower
from diptych.models import Tower, build_tower
from diptych.models.shapes import shapes_only
from diptych.weights.mapping import Table

TRUNK = "image.trunk."
"""What names of the trunk begin with here."""
PARTS = ("pool_norm", "attn_pool", "attn_pool_contrastive")


def trunk_of(tower: Tower[Any]) -> Tower[Any]:
    """What becomes `visual`."""
    assert isinstance(tower, CocaNaflexTower)
    return tower.trunk


def parts_of(tower: Tower[Any], table: Table) -> dict[str, nn.Module]:
    """What stands beside it, with the tower's numbers. `table`: its names here and there."""
    assert isinstance(tower, CocaNaflexTower)
    config, width, dim = tower.config, tower.trunk.width, tower.width
    read = dim if config.pools == "cascade" else width
    with shapes_only():
        made = nn.ModuleDict(
            {
                "pool_norm": LayerNorm(width),
                "attn_pool": AttentionalPooler(dim, width, config.pool_heads, config.queries),
                "attn_pool_contrastive": AttentionalPooler(dim, read, config.pool_heads, 1),
            }
        )
    made.load_state_dict(table.to_foreign(_own(tower).state_dict(prefix="tower.")), assign=True)
    return {name: made[name].train(tower.training) for name in PARTS}


def tower_again(
    config: ClipConfig, trunk: Tower[Any], parts: Mapping[str, nn.Module], table: Table
) -> Tower[Any]:
    """The tower of this trunk and these parts. Raises ConfigError where some were replaced."""
    made = build_tower(config.image, config.embed_dim, "meta")
    assert isinstance(made, CocaNaflexTower)
    tensors: dict[str, Tensor] = {}
    for name, part in parts.items():
        tensors |= part.state_dict(prefix=f"{name}.", keep_vars=True)
    fill_again(_own(made), table, tensors)
    made.put_trunk(trunk)
    return made.train(trunk.training)


def _own(tower: CocaNaflexTower) -> nn.Module:
    """What isn't the trunk."""
    found = nn.Module()
    found.norm_post, found.pools = tower.norm_post, tower.pools
    return found
