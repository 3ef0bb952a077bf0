"""timm's names of a transformer's parts, which open_clip has of towers that timm builds.

https://github.com/huggingface/pytorch-image-models, timm/models/vision_transformer.py,
timm/layers/attention_pool.py
"""

from typing import Any

from diptych.config.serialize import read_as
from diptych.weights.mapping import QUERY_APART, TOKEN, Rule, rows

PREFIX = "visual.trunk."
"""Of open_clip's, before them."""
LATENT = f"{PREFIX}attn_pool.latent"
"""The query of the attention pool, by which a tower with one is told."""
PATCH = f"{PREFIX}patch_embed.proj.weight"
"""What makes patches of squares; of pictures of their own aspect it is called otherwise."""
ARGUMENTS = "timm_model_kwargs"
"""Of a `vision_cfg`: what open_clip's main branch passes on to timm."""
POOL = rows(
    "image.pool.",
    f"{PREFIX}attn_pool.",
    ("query", "latent", TOKEN),
    ("qkv.*", ("q.*", "kv.*"), QUERY_APART),
    ("out.*", "proj.*"),
    ("norm.*", "norm.*"),
    ("mlp.up.*", "mlp.fc1.*"),
    ("mlp.down.*", "mlp.fc2.*"),
)
"""`nn.QueryPool`."""
BLOCKS = rows(
    "image.blocks.#.",
    f"{PREFIX}blocks.#.",
    ("norm_1.*", "norm1.*"),
    ("attention.qkv.*", "attn.qkv.*"),
    ("attention.out.*", "attn.proj.*"),
    ("norm_2.*", "norm2.*"),
    ("mlp.up.*", "mlp.fc1.*"),
    ("mlp.down.*", "mlp.fc2.*"),
)
"""`nn.Block`."""


def square_name(cfg: dict[str, Any]) -> str:
    """timm's name of the tower of a `vision_cfg`; nothing where there is none, and where timm is to
    build it for pictures of their own aspect. Raises CheckpointError for arguments that are
    none."""
    arguments = read_as(dict[str, Any], cfg.get(ARGUMENTS) or {}, ARGUMENTS)
    return "" if arguments.get("use_naflex") else cfg.get("timm_model_name") or ""


def bare(trunk: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """The same of a file that holds timm's model alone."""
    found: list[Rule] = []
    for rule in trunk:
        sources = tuple(name.removeprefix(PREFIX) for name in rule.sources)
        found.append(Rule(rule.ours, sources, rule.change))
    return tuple(found)
