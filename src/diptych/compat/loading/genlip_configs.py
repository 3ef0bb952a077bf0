"""open_clip's configurations of GenLIP, whose models only write captions."""

import functools
from copy import deepcopy
from pathlib import Path
from typing import Any

from diptych.compat.loading.description import description
from diptych.families.genlip.layouts.open_clip import OF_PATCHES, SECTION, write_tower
from diptych.families.genlip.pretrained import EMBED_DIM, SIZES, square
from diptych.weights.read import read_json

_COMMON = {
    "rope_theta": 10000.0,
    "ls_init_value": 0.1,
    "gated_attention": True,
    "use_swiglu_ffn": True,
    "mrope_interleaved": True,
    "hidden_act": "silu",
    "layer_norm_eps": 1e-6,
    "max_position_embeddings": 16384,
}
_WORDS = {
    "vocab_size": 100280,
    "pad_id": 100278,
    "bos_id": 100279,
    "eos_id": 100277,
    "tokenizer_type": "tiktoken",
    "tiktoken_name": "cl100k_base",
}
# fmt: off
_OWN = {  # width, depth, heads, perceptrons, words' width, sections, dropped; picture, caption
    "naflexgenlip_test":    ((64,   2,  4,  128,  32,   [2, 3, 3],    0.0), 224, 64),
    "naflexgenlip_b16":     ((768,  12, 12, 2048, 768,  [8, 12, 12],  0.1), 256, 256),
    "naflexgenlip_b16_224": ((768,  12, 12, 2048, 768,  [8, 12, 12],  0.1), 224, 256),
    "naflexgenlip_so16":    ((1152, 27, 16, 3072, 1024, [12, 12, 12], 0.1), 256, 256),
    "naflexgenlip_so150m2": ((832,  21, 13, 1408, 832,  [8, 12, 12],  0.1), 256, 256),
}
# fmt: on
_TRUNK = (
    *("width", "depth", "num_heads", "intermediate_size", "text_embed_dim", "mrope_section"),
    "drop_path_rate",
)
_QWEN = {
    "vocab_size": 151936,
    "context_length": 256,
    "pad_id": 151643,
    "bos_id": None,
    "eos_id": 151645,
    "hf_tokenizer_name": "Qwen/Qwen3-0.6B",
    "tokenizer_mode": "genlip",
    "tokenizer_kwargs": {"clean": "identity", "pad_token": "<|endoftext|>"},
}
"""The authors' words."""


@functools.cache
def _configs() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, (sizes, side, length) in _OWN.items():
        trunk = dict(zip(_TRUNK, sizes, strict=True)) | _COMMON
        found[name] = {
            "embed_dim": trunk["width"],
            SECTION: trunk,
            "vision_cfg": {"image_size": side, "patch_size": 16, "in_chans": 3},
            "text_cfg": _WORDS | {"context_length": length},
        }
    for size in SIZES:
        vision, section = write_tower(square(size))
        section |= {"text_embed_dim": EMBED_DIM, "drop_path_rate": 0.2 if size == "g" else 0.1}
        for begin, native in (("naflexgenlip", {}), ("genlip", {OF_PATCHES: False})):
            found[f"{begin}_ref_{size}16"] = {
                "embed_dim": EMBED_DIM,
                "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3},
                SECTION: section,
                "vision_cfg": vision | native,
                "text_cfg": _QWEN,
            }
    return found


def names() -> tuple[str, ...]:
    """Of open_clip's configurations.

    >>> from diptych.compat.loading.genlip_configs import names
    >>> names()[0]
    'naflexgenlip_test'
    """
    return tuple(_configs())


def known(name: str) -> dict[str, Any] | None:
    """A configuration of open_clip's; None for another name."""
    return deepcopy(_configs().get(name))


def described(model_name: str | Path, cache_dir: str | Path | None = None) -> dict[str, Any] | None:
    """The `model_cfg` of a model that only writes captions: of a name, a JSON file, or a folder or
    repository with an open_clip_config.json; None for any other model. A `preprocess_cfg` that
    stands beside it, stands in it. `cache_dir`: where what the hub gives is kept."""
    name = str(model_name)
    if (own := known(name)) is not None:
        return own
    file = description(name, cache_dir) or Path(name)
    if file.suffix != ".json" or not file.is_file():
        return None
    content = read_json(file)
    model = dict(content.get("model_cfg", content))
    if SECTION not in model:
        return None
    beside = content.get("preprocess_cfg") or {}
    return model | {"preprocess_cfg": (model.get("preprocess_cfg") or {}) | beside}
