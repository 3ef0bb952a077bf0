"""The README's commands run as they stand there, in their order, in a folder that has what they
name. What starts them has its imports done; that `python -m diptych` does it alone is
`tests/cli/test_main.py`'s."""

import re
from pathlib import Path

import pytest
from PIL import Image

from diptych.checkpoints import convert
from diptych.config import ClipConfig, DataConfig
from diptych.data import open_source, write_shards
from diptych.families.clip import TextConfig, VitConfig
from diptych.models import build
from diptych.weights.native import save_model
from tests.documents import Step, commands, execute

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    step
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for step in commands(block)
]


OPENAI = {"mlp_width": 256, "activation": "quick_gelu"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the README names: shards/, flowers/, photos/, pictures, and a published checkpoint, made
    small."""
    root = tmp_path_factory.mktemp("readme")
    source = open_source(DataConfig(path="synthetic:64"))
    write_shards(root / "shards", [source[i] for i in range(64)], per_shard=32)
    for name in ("rose", "tulip"):
        (root / "flowers" / name).mkdir(parents=True)
    (root / "photos").mkdir()
    for place in (
        "flowers/rose/1.jpg",
        "flowers/tulip/1.jpg",
        "photos/one.jpg",
        "photos/two.jpg",
        "cat.jpg",
        "dog.jpg",
    ):
        Image.new("RGB", (80, 60), (len(place) * 9, 80, 40)).save(root / place)
    config = ClipConfig(
        image=VitConfig(image_size=32, patch_size=16, width=64, layers=1, heads=1, **OPENAI),
        text=TextConfig(width=64, layers=1, heads=1, **OPENAI),
        embed_dim=32,
    )
    save_model(root / "small", build(config))
    convert(root / "small", "openai", root / "ViT-B-32.pt")
    return root


def test_the_readme_is_short_and_its_make_targets_exist():
    assert len(README.splitlines()) < 150
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {step.rest.split()[0] for step in COMMANDS if step.program == "make"} <= targets


def test_every_command_of_the_readme_runs(folder):
    steps = [step for step in COMMANDS if step.program == "diptych"]
    assert len(steps) >= 9
    for step in steps:
        execute(step, folder)
    assert "<html" in (folder / "report.html").read_text()
    assert (folder / "runs/mine/checkpoints/step-00000030").is_dir()
    again = Step("diptych", 'search photos.index "a red seven" --top 1 --paths-only', [])
    assert execute(again, folder).strip().endswith(".jpg")


def test_the_python_of_the_readme_runs(folder):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    if not (folder / "runs/mine").exists():
        execute(next(step for step in COMMANDS if step.rest.startswith("train ")), folder)
    execute(Step("script", "\n".join(blocks).replace("demo/run", "runs/mine"), []), folder)
