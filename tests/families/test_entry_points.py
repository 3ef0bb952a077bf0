"""A family that an installed package offers by an entry point."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = {
    "__init__.py": """
from acme_clip.config import AcmeConfig
from diptych.families import Family

FAMILY = Family(
    name="acme",
    towers=(AcmeConfig,),
    pretrained="acme_clip.models:entries",
    recipes=("acme_clip.recipes",),
)
""",
    "config.py": '''
from dataclasses import dataclass

from diptych.config import ImageTowerConfig


@dataclass(frozen=True, kw_only=True)
class AcmeConfig(ImageTowerConfig):
    """One number for each colour."""

    implementation = "acme_clip.tower:AcmeTower"

    image_size: int = 16
    width: int = 8
''',
    "tower.py": """
from torch import nn

from diptych.models import Tower, TowerOutput


class AcmeTower(Tower):
    def __init__(self, config, embed_dim):
        super().__init__()
        self.config, self.width, self.blocks = config, config.width, []
        self.mean = nn.Linear(3, config.width)
        self.projection = nn.Linear(config.width, embed_dim)

    def init(self):
        self.mean.reset_parameters()
        self.projection.reset_parameters()

    def forward(self, x, tokens="raw"):
        feature = self.mean(x.mean(dim=(2, 3)))
        chosen = self._select(feature[:, None], tokens)
        return TowerOutput(chosen, feature, self.projection(feature))

    def flops(self):
        return 2 * self.width * (3 + self.projection.out_features)
""",
    "models.py": """
from acme_clip.config import AcmeConfig
from diptych.config import ClipConfig
from diptych.families import Claim, Entry
from diptych.families.clip import TextConfig

TEXT = TextConfig(context_length=8, width=16, layers=1, heads=2, mlp_width=32)


def entries():
    config = ClipConfig(image=AcmeConfig(), text=TEXT, embed_dim=4)
    claim = Claim(metric="colours", value=99.0, source="Acme")
    return [Entry(name="acme-s", config=config, aliases=("AcmeSmall",), claims=(claim,))]
""",
    "recipes.py": '''
from diptych.config import ModelConfig, Run


def acme_s_colours() -> Run:
    """Acme's run: colours."""
    return Run(model=ModelConfig(name="acme-s"), steps=3)
''',
}


def install(folder: Path, point: str = "acme = acme_clip:FAMILY", **changed: str) -> None:
    """The package as pip would have left it."""
    package, info = folder / "acme_clip", folder / "acme_clip-1.0.dist-info"
    package.mkdir()
    for name, text in (PACKAGE | {f"{stem}.py": text for stem, text in changed.items()}).items():
        (package / name).write_text(text)
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-clip\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[diptych.families]\n{point}\n")


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Another process, in which the package is installed."""
    paths = os.pathsep.join(map(str, (folder, *filter(None, sys.path))))
    return subprocess.run(
        [sys.executable, *words],
        env=os.environ | {"PYTHONPATH": paths},
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )


def test_names_recipes_and_types_are_found_without_torch(tmp_path):
    install(tmp_path)
    code = """
import sys
from diptych import pretrained, recipes
from diptych.config import ClipConfig, ImageTowerConfig
from diptych.config.serialize import from_json, to_json
config = pretrained.get("acmesmall")
assert "acme-s" in pretrained.names() and pretrained.names()[0] == "tiny"
assert pretrained.entry("Acme/S").claims[0].value == 99.0
assert recipes.get("acme-s-colours").model.name == "acme-s"
assert recipes.get("acme_s_colours") == recipes.get("acme-s-colours")
assert recipes.names()[-1] == "acme-s-colours"
assert recipes.describe("acme-s-colours") == "Acme's run: colours."
assert '"type": "acme_clip.config:AcmeConfig"' in to_json(config)
assert from_json(ClipConfig, to_json(config)) == config
assert from_json(ClipConfig, to_json(config).replace("acme_clip.config:", "")) == config
assert ImageTowerConfig.named("AcmeConfig") is type(config.image)
assert "torch" not in sys.modules
"""
    done = python(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr


def test_its_tower_is_built_saved_and_loaded(tmp_path):
    install(tmp_path)
    code = """
import torch
from diptych import pretrained
from diptych.checkpoints import load_model
from diptych.models import build
from diptych.weights import save_model
model = build(pretrained.get("acme-s")).eval()
save_model("saved", model)
pixels, ids = torch.rand(2, 3, 16, 16), torch.tensor([[1, 2, 49407]])
again = load_model("saved").model
assert all(torch.equal(a, b) for a, b in zip(model(pixels, ids), again(pixels, ids)))
"""
    done = python(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr


def test_the_command_line_lists_it(tmp_path):
    install(tmp_path)
    done = python(tmp_path, "-m", "diptych", "models", "acme*")
    assert done.returncode == 0, done.stderr
    assert "acme-s" in done.stdout
    assert "colours" in done.stdout


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"config": "import something_that_is_not_there"},
            "the family acme of the package acme-clip can't be imported (ModuleNotFoundError: No "
            "module named 'something_that_is_not_there'); update or uninstall the package",
        ),
        (
            {"point": "acme = acme_clip:NOTHING"},
            "the family acme of the package acme-clip can't be imported (AttributeError: module "
            "'acme_clip' has no attribute 'NOTHING'); update or uninstall the package",
        ),
        (
            {"point": "acme = acme_clip.models:TEXT"},
            "acme_clip.models:TEXT of the package acme-clip is no diptych.families.Family; update "
            "or uninstall the package",
        ),
        (
            {"models": PACKAGE["models.py"].replace('"acme-s"', '"vit-b-32"')},
            "the family acme has a model vit-b-32, and so has another; update or uninstall one of "
            "the packages",
        ),
        (
            {"models": "entry = None"},
            "no object in acme_clip.models is called 'entries'; did you mean 'entry'?",
        ),
    ],
)
def test_a_broken_one_is_one_sentence(tmp_path, changes, says):
    install(tmp_path, **changes)
    done = python(tmp_path, "-m", "diptych", "models")
    assert done.returncode != 0
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_its_names_take_none_of_ours(tmp_path):
    """A class or an alias that is called as one of ours leaves ours where it was."""
    theirs = PACKAGE["config.py"].replace("AcmeConfig", "VitConfig")
    theirs += "\n\nAcmeConfig = VitConfig\n"
    models = PACKAGE["models.py"].replace('"AcmeSmall"', '"ViT-B/32"')
    install(tmp_path, config=theirs, models=models)
    code = """
from diptych import pretrained
from diptych.config import ImageTowerConfig
from diptych.config.serialize import from_dict, to_dict
from diptych.families.clip import VitConfig
assert ImageTowerConfig.named("VitConfig") is VitConfig
assert pretrained.entry("ViT-B/32").name == "vit-b-32"
theirs = pretrained.get("acme-s").image
assert type(theirs) is not VitConfig and from_dict(ImageTowerConfig, to_dict(theirs)) == theirs
"""
    done = python(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
