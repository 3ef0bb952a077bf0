"""A file without a configuration, of which any one tensor is missing or has another shape: it is
read, or refused in a sentence; no family's reading of shapes fails in another way."""

import contextlib
import re

import pytest
import torch
from torch import Tensor

from diptych.checkpoints import load_model
from diptych.checkpoints.content import read
from diptych.config import ClipConfig
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip import TextConfig
from diptych.families.clip.layouts import open_clip
from diptych.families.pe import PeImageConfig
from diptych.families.pe.layouts.meta import TABLE
from diptych.families.unireplknet import UniRepLKNetConfig
from diptych.families.unireplknet.layouts.trunk import EXPORT
from diptych.models import build_tower
from tests.small_models import RESNET, VIT

TEXT = TextConfig(context_length=12, vocab_size=60, width=64, layers=1, heads=1, mlp_width=256)
PE = PeImageConfig(
    image_size=8,
    patch_size=4,
    width=192,
    layers=1,
    heads=3,
    mlp_width=64,
    rotary_grid=2,
    pool_mlp_width=64,
)
CONVNET = UniRepLKNetConfig(
    depths=(1, 1, 1, 1), widths=(8, 8, 8, 8), kernel_sizes=((3,), (7,), (13,), (5,))
)
CHANGES = {
    "gone": lambda tensor: None,
    "a number": lambda tensor: torch.ones(()),
    "nothing": lambda tensor: torch.zeros(0),
    "one dimension more": lambda tensor: tensor[None],
}


def weights(family: str, random_model) -> dict[str, Tensor]:
    """Of a small model, as its authors name them."""
    if family == "unireplknet":
        tower = build_tower(CONVNET, None)
        tower.init()
        return EXPORT.to_foreign({f"image.{n}": t for n, t in tower.state_dict().items()})
    image = {"vit": VIT, "resnet": RESNET, "pe": PE}[family]
    config = ClipConfig(image=image, text=TEXT, embed_dim=48)
    state = random_model(config).state_dict()
    if family == "pe":
        del state["image.projection.bias"]
    return (TABLE if family == "pe" else open_clip.export_table(config)).to_foreign(state)


@pytest.mark.parametrize("family", ["vit", "resnet", "pe", "unireplknet"])
def test_no_shape_is_taken_for_granted(tmp_path, random_model, family):
    found, file = weights(family, random_model), tmp_path / "w.pt"
    # One of each kind of those that tell something: shapes of norms and biases don't.
    alike = {re.sub(r"\d+", "#", name): name for name, t in found.items() if t.ndim > 1}
    for name in alike.values():
        for change in CHANGES.values():
            other = change(found[name])
            rest = {each: tensor for each, tensor in found.items() if each != name}
            torch.save(rest if other is None else rest | {name: other}, file)
            with contextlib.suppress(CheckpointError, ConfigError):
                read(file)


def test_what_is_missing_is_named(tmp_path, random_model):
    found = weights("vit", random_model)
    del found["positional_embedding"]
    torch.save(found, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"w.pt, read as open-clip: positions is missing"):
        load_model(tmp_path / "w.pt")
    found["positional_embedding"] = torch.ones(())
    torch.save(found, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"a tensor has a shape that none has in such a mod"):
        load_model(tmp_path / "w.pt")
