"""Pictures are made as transformers' own image processors make them, whatever a folder says of its
processor, or the folder is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.checkpoints import convert, load_model
from diptych.config import PreprocessConfig
from diptych.errors import CheckpointError
from diptych.families.clip.layouts.transformers_inputs import read_preprocess
from diptych.families.siglip.pretrained import PREPROCESS
from diptych.inputs import Preprocess
from diptych.weights import save_model

transformers = pytest.importorskip("transformers")

SQUARE = {"height": 32, "width": 32}
CLIP = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32}}
CLIP |= {"crop_size": SQUARE}
SIGLIP = {"image_processor_type": "SiglipImageProcessor", "size": SQUARE}
MARGIN = CLIP | {"size": {"shortest_edge": 36}}


def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (9, 16, 3), dtype=np.uint8)
    wide = Image.fromarray(noise).resize((160, 90), Image.Resampling.BICUBIC)
    return [wide, wide.transpose(Image.Transpose.ROTATE_90), wide.resize((33, 32))]


@pytest.mark.parametrize(
    ("said", "default"),
    [
        (CLIP, None),
        (CLIP | {"size": 32, "crop_size": 32}, None),
        (CLIP | {"resample": 2, "do_convert_rgb": True}, None),
        (CLIP | {"do_normalize": False}, None),
        (MARGIN, None),
        (CLIP | {"size": SQUARE}, None),
        (CLIP | {"size": SQUARE, "do_center_crop": False}, None),
        (SIGLIP, PREPROCESS),
        (SIGLIP | {"do_normalize": False, "resample": 2}, PREPROCESS),
    ],
)
def test_a_processor_is_read(tmp_path, said, default):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    theirs = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    ours = Preprocess(read_preprocess(tmp_path, 32, default), 32)
    for picture in pictures():
        wanted = torch.as_tensor(np.array(theirs(picture, return_tensors="np")["pixel_values"][0]))
        # Two grey levels, in deviations. (Their crop of an odd margin lies a pixel beside ours.)
        near = (ours(picture) - wanted).abs() < 2.01 / 255 / min(ours.config.std)
        assert near.float().mean() > 0.999


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"do_resize": False}, "do_resize = False has no place"),
        ({"do_rescale": False}, "do_rescale = False"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor = 0.0078"),
        ({"do_pad": True}, "do_pad = True"),
        ({"crop_pct": 0.875}, "crop_pct = 0.875"),
        ({"include_top": True}, "include_top = True"),  # EfficientNet's
        ({"do_center_crop": False}, "resized to shortest_edge 32 and not cropped; Diptych resi"),
        ({"crop_size": 28}, "cropped to height 28, width 28"),
        ({"size": 24}, "resized to shortest_edge 24 and cropped to height 32"),
        ({"size": {"height": 48, "width": 48}}, "resized to height 48, width 48"),
        ({"size": {"height": 32, "width": 48}, "do_center_crop": False}, "width 48 and not"),
        ({"size": {"longest_edge": 32}}, "resized to longest_edge 32"),
        ({"size": {"shortest_edge": 32, "longest_edge": 40}}, "longest_edge 40"),
        ({"size": {"shortest_edge": 1e300}, "crop_size": 32}, "no preprocessing"),
        ({"size": "32"}, "no preprocessing of CLIP's"),
        ({"rescale_factor": "1"}, "no preprocessing of CLIP's"),
    ],
)
def test_what_is_made_otherwise_is_refused(tmp_path, said, why):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CLIP | said))
    with pytest.raises(CheckpointError, match=why):
        read_preprocess(tmp_path, 32)


@pytest.mark.parametrize("size", [14, 32, 100, 224, 225, 336, 384])
def test_every_margin_comes_back(tmp_path, size):
    for shortest in range(size, 2 * size):
        said = CLIP | {"size": {"shortest_edge": shortest}, "crop_size": size}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
        read = read_preprocess(tmp_path, size)
        assert int(size / read.crop_share) == shortest


def test_a_margin_is_written(tmp_path, random_model, vit):
    how = PreprocessConfig(crop_share=0.875)  # 36 pixels, of which 32 are 0.889
    save_model(tmp_path / "in", random_model(replace(vit, preprocess=how)))
    out = convert(tmp_path / "in", "transformers", tmp_path / "out")
    theirs = transformers.AutoImageProcessor.from_pretrained(out)
    assert (theirs.size["shortest_edge"], theirs.crop_size["height"]) == (36, 32)
    ours = Preprocess(load_model(out).config.preprocess, 32)
    for picture in pictures():
        assert torch.equal(ours(picture), Preprocess(how, 32)(picture))
