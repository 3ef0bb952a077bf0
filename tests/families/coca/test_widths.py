"""Parts of a CoCa that don't fit each other are refused before they are called."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from diptych import models
from diptych.checkpoints import load_model
from diptych.config import ClipConfig
from diptych.errors import ConfigError
from diptych.families.clip.layouts.open_clip import export_table
from diptych.families.clip.layouts.open_clip_config import to_json
from diptych.families.coca import CocaDecoderConfig, CocaImageConfig, CocaTextConfig

CONFIG = ClipConfig(
    image=CocaImageConfig(
        image_size=32, width=64, layers=1, heads=1, mlp_width=256, queries=5, pool_heads=4
    ),
    text=CocaTextConfig(width=32, layers=1, heads=4, mlp_width=128),
    decoder=CocaDecoderConfig(width=32, layers=1, heads=4, mlp_width=128),
    embed_dim=32,
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": {"pool_heads": 5}}, "embed_dim 32 is not a multiple of pool_heads 5"),
        ({"decoder": {"width": 64}}, "reads tokens of width 64, .* pictures have 32 .* texts 32"),
        ({"text": {"width": 64}}, "reads tokens of width 32, .* pictures have 32 .* texts 64"),
    ],
)
def test_configurations(changes, said):
    models.build(CONFIG, device="meta")
    parts = {name: replace(getattr(CONFIG, name), **fields) for name, fields in changes.items()}
    with pytest.raises(ConfigError, match=said):
        models.build(replace(CONFIG, **parts), device="meta")


def test_a_folder_in_open_clips_layout(tmp_path):
    torch.manual_seed(0)
    weights = export_table(CONFIG).to_foreign(models.build(CONFIG).state_dict())
    save_file(weights, tmp_path / "open_clip_model.safetensors")
    described = to_json(CONFIG)
    file = tmp_path / "open_clip_config.json"
    file.write_text(json.dumps(described))
    assert load_model(tmp_path)
    described["model_cfg"]["vision_cfg"]["attn_pooler_heads"] = 5
    file.write_text(json.dumps(described))
    with pytest.raises(ConfigError, match="embed_dim 32 is not a multiple of pool_heads 5"):
        load_model(tmp_path)
