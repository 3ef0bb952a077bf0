"""Each model of open_clip, by its name: parts, names and shapes of its weights, without numbers."""

import open_clip
import pytest
import torch

from diptych import compat

KNOWN = ["ViT-M-16-alt", "swin_base_patch4_window7_224", "ViT-B-16-SigLIP", "coca_base"]
FETCHED = ("roberta", "nllb", "mt5")
"""Towers of transformers, whose configuration open_clip fetches."""
NAMES = [name for name in open_clip.list_models() if not any(kind in name for kind in FETCHED)]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in KNOWN else pytest.mark.slow) for name in NAMES],
)
def test_has_open_clips_weights_by_name_and_shape(name):
    with torch.device("meta"):
        peer = open_clip.create_model(name, device="meta")
    ours = compat.create_model(name, device="meta", load_weights=False)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in peer.state_dict().items()
    }
    assert all(parameter.is_meta for parameter in ours.parameters())


def test_every_name_is_listed():
    assert set(open_clip.list_models()) <= set(compat.list_models())
