"""UniRepLKNet's goldens carry their own rules for weights and inputs, as sentences: they are read
here."""

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych.families.unireplknet import UniRepLKNetConfig
from diptych.families.unireplknet.layouts import names as unireplknet_trunk
from diptych.weights.mapping import Rule, Table
from diptych.weights.state import State
from tests import goldens

_TABLE = Table(rules=(*unireplknet_trunk.rules(""), Rule("image.projection.*", "head.*")))
"""The classifier of the published nets stands in for a projection."""
FILES = [
    path for path in goldens.files("unireplknet/*.json") if not path.name.endswith(".keys.json")
]
KEYS = goldens.files("unireplknet/*.keys.json")


def to_ours(published: Mapping[str, Tensor]) -> State:
    """The tower's state of published weights."""
    return _TABLE.to_ours(published).part("image.")


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published names and tensors of a tower's state."""
    return _TABLE.to_foreign({f"image.{name}": tensor for name, tensor in state.items()})


def config(golden: Mapping[str, Any]) -> UniRepLKNetConfig:
    """In our terms."""
    published = golden["config"]
    return UniRepLKNetConfig(
        image_size=64,
        depths=tuple(published["depths"]),
        widths=tuple(published["dims"]),
        kernel_sizes=tuple(map(tuple, published["kernel_sizes"])),
        layer_scale=published["layer_scale_init_value"],
        projection_bias=True,
    )


def weights(golden: Mapping[str, Any]) -> dict[str, Tensor]:
    """The training form's published names and tensors."""
    rules = [(_condition(when), value) for when, value in golden["fill_recipe"]["rules"]]
    return {name: _filled(name, shape, rules) for name, shape in golden["train_keys"].items()}


def inputs(golden: Mapping[str, Any]) -> dict[str, Tensor]:
    """Names and pixels."""
    found = {}
    for name, recipe in golden["input_recipe"].items():
        seed, *shape = map(
            int, re.findall(r"\d+", re.search(r"RandomState\((.*?)\)\)", recipe).group(1))
        )
        found[name] = goldens.images(seed, shape)
    return found


def _filled(name: str, shape: Sequence[int], rules) -> Tensor:
    value = next(value for applies, value in rules if applies(name, len(shape)))
    if "int64" in value:
        return torch.zeros(tuple(shape), dtype=torch.long)
    z = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF).standard_normal(tuple(shape))
    known = {"z": z, "abs": np.abs, "sqrt": np.sqrt, "prod": np.prod, "shape": shape}
    return torch.from_numpy(np.asarray(eval(value, {"__builtins__": {}}, known), dtype=np.float32))


def _condition(sentence: str):
    end = re.search(r"ends with (\S+)", sentence)
    exactly, least = re.search(r"(\d)-D", sentence), re.search(r"ndim>=(\d)", sentence)
    if sentence.startswith("everything else"):
        return lambda name, ndim: True
    assert end, sentence
    return lambda name, ndim: (
        name.endswith(end.group(1))
        and (not exactly or ndim == int(exactly.group(1)))
        and (not least or ndim >= int(least.group(1)))
    )
