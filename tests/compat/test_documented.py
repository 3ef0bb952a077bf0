"""What docs/compat.md and docs/formats.md say of other people's code is so."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.config import PreprocessConfig
from diptych.inputs import Preprocess

DOCS = Path(__file__).parents[2] / "docs"
ROWS = re.findall(r"^\| `(.+?)` \| .*`(.+?)`.* \|$", (DOCS / "compat.md").read_text(), re.MULTILINE)
MODULES = re.findall(
    r"^\| `([\w.]+)` \| (`\w+`(?:, `\w+`)*) \|$", (DOCS / "compat.md").read_text(), re.MULTILINE
)
IMPORTS = [row for row in ROWS if "import" in row[0]]


def test_the_table_has_the_packages():
    packages = {re.search(r"(?:from|import) (\w+)", old)[1] for old, _ in IMPORTS}
    assert packages == {"open_clip", "open_clip_train", "eva_clip", "clip"}
    assert len(IMPORTS) == 5


@pytest.mark.parametrize(("old", "new"), IMPORTS)
def test_each_import_of_the_table_works(old, new):
    """The names that the old line imports, from where the new one says."""
    module, names = re.fullmatch(r"from ([\w.]+) import (.+)", new).groups()
    wanted = re.sub(r".*import ", "", old).split(", ") if names == "..." else [names]
    found = importlib.import_module(module)
    for name in wanted:
        assert hasattr(found, name), name


@pytest.mark.parametrize(("module", "names"), MODULES)
def test_each_name_of_open_clips_is_where_the_table_says(module, names):
    found = importlib.import_module(f"diptych.compat.{module}")
    for name in re.findall(r"\w+", names):
        assert hasattr(found, name), name


def test_transformers_cuts_one_pixel_beside():
    transformers = pytest.importorskip("transformers")
    columns = np.broadcast_to(np.arange(95, dtype=np.uint8)[None, :, None], (64, 95, 3))
    picture = Image.fromarray(columns.copy())
    ours = Preprocess(PreprocessConfig(), 64).pixels(picture)
    options = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    processor = transformers.CLIPImageProcessor(**options, do_rescale=False, do_normalize=False)
    theirs = torch.as_tensor(np.asarray(processor(picture, return_tensors="np").pixel_values[0]))
    assert (int(ours[0, 0, 0]), int(theirs[0, 0, 0])) == (16, 15)
