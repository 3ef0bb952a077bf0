"""Configurations that name what they build: what is an error where it is defined, and what is found
again where it was written."""

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from diptych.checkpoints import load_model
from diptych.components import Component, implementation, import_object
from diptych.config import ClipConfig, ImageTowerConfig, ObjectiveConfig
from diptych.config.serialize import from_dict, from_json, to_dict, to_json
from diptych.errors import CheckpointError, ConfigError, UnknownNameError
from diptych.families.clip import TextConfig, VitConfig
from diptych.models import build
from diptych.weights import save_model

TEXT = TextConfig(context_length=8, vocab_size=60, width=32, layers=1, heads=1, mlp_width=64)
SOURCE = """
from dataclasses import dataclass

from diptych.families.clip import VitConfig


@dataclass(frozen=True, kw_only=True)
class LoudConfig(VitConfig):
    implementation = "{module}:Loud"

    image_size: int = 16
    patch_size: int = 8
    width: int = 32
    layers: int = 1
    heads: int = 2
    mlp_width: int = 64
    volume: float = 2.0
"""
TOWER = """
from diptych.families.clip.vit import VisionTransformer


class Loud(VisionTransformer):
    def forward(self, x, tokens="raw"):
        return super().forward(self.config.volume * x, tokens)
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Somebody's module with a tower of their own."""
    (tmp_path / "loud_tower.py").write_text(SOURCE.format(module="loud_tower") + TOWER)
    monkeypatch.syspath_prepend(tmp_path)
    yield import_object("loud_tower:LoudConfig")
    sys.modules.pop("loud_tower", None)


def test_a_subclass_names_its_own_implementation():
    with pytest.raises(ConfigError) as error:

        @dataclass(frozen=True, kw_only=True)
        class Wider(VitConfig):
            width: int = 4096

    assert str(error.value) == (
        "test_a_subclass_names_its_own_implementation.<locals>.Wider names no implementation of "
        "its own, so it would build what VitConfig builds; add a line such as "
        f'implementation = "{__name__}:NameOfTheClass"'
    )
    with pytest.raises(ConfigError, match="so it would build nothing; add a line"):

        class Empty(ImageTowerConfig):
            pass

    class Base(ImageTowerConfig, abstract=True):
        pass

    with pytest.raises(ConfigError, match="Below names no implementation of its own"):

        class Below(Base):
            pass


def test_a_tower_of_somebodys_is_saved_by_its_path_and_loads_again(theirs, tmp_path):
    config = ClipConfig(image=theirs(volume=3.0), text=TEXT, embed_dim=4)
    assert to_dict(config)["image"]["type"] == "loud_tower:LoudConfig"
    assert from_json(ClipConfig, to_json(config)) == config
    save_model(tmp_path / "saved", build(config))
    del sys.modules["loud_tower"]  # as in another process
    loaded = load_model(tmp_path / "saved").model
    assert type(loaded.image).__name__ == "Loud"
    assert loaded.config.image.volume == 3.0


def test_a_saved_model_whose_module_is_missing_says_so(theirs, tmp_path, monkeypatch):
    save_model(tmp_path / "saved", build(ClipConfig(image=theirs(), text=TEXT, embed_dim=4)))
    del sys.modules["loud_tower"]
    (tmp_path / "loud_tower.py").unlink()
    with pytest.raises(CheckpointError) as error:
        load_model(tmp_path / "saved")
    assert str(error.value) == (
        f"{tmp_path}/saved/model.json doesn't describe a model: ClipConfig.image: "
        "loud_tower:LoudConfig can't be imported: there is no module loud_tower; install it, or "
        "put the folder of loud_tower on PYTHONPATH"
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("math:floor", "math:floor is no ImageTowerConfig: it must be a class that inherits"),
        ("diptych.config:Run", "diptych.config:Run is no ImageTowerConfig"),
        ("diptych.config:ImageTowerKonfig", "did you mean 'ImageTowerConfig'"),
        ("nowhere.at_all:X", "nowhere.at_all:X can't be imported: there is no module nowhere"),
        (":X", "':X' names no object; write package.module:Name or file.py:Name"),
        ("absent.py:X", "a saved type names a module, package.module:Class"),
    ],
)
def test_a_path_that_leads_nowhere(name, says):
    with pytest.raises(ConfigError, match=says.replace("(", r"\(")):
        from_dict(ImageTowerConfig, {"type": name})


@pytest.mark.parametrize("name", ["VitKonfig", "ClipObjectiveConfig", "Component"])
def test_a_name_that_is_none(name):
    with pytest.raises(UnknownNameError, match=f"no image tower is called '{name}'"):
        ImageTowerConfig.named(name)


def test_an_alias_and_a_class_name_mean_the_same():
    assert ObjectiveConfig.named("siglip") is ObjectiveConfig.named("SiglipObjectiveConfig")


def test_an_implementation_that_is_no_tower():
    @dataclass(frozen=True, kw_only=True)
    class CounterConfig(ImageTowerConfig):
        implementation = "collections:Counter"

    assert implementation(CounterConfig()).__name__ == "Counter"
    with pytest.raises(ConfigError, match="collections:Counter is no Tower: it must be a class"):
        build(ClipConfig(image=CounterConfig(), text=TEXT))


def test_a_module_that_fails_says_how(tmp_path):
    (tmp_path / "failing.py").write_text("1 / 0")
    with pytest.raises(ConfigError, match=r"can't be imported: ZeroDivisionError: division by"):
        import_object(f"{tmp_path}/failing.py:X")
    (tmp_path / "needing.py").write_text("import something_else")
    with pytest.raises(ConfigError, match=r"needs the module something_else, which is missing"):
        import_object(f"{tmp_path}/needing.py:X")
    # What is missing may have a name with which that of the module begins.
    (tmp_path / "nearly_needing.py").write_text("import nearly")
    with pytest.raises(ConfigError, match=r"needs the module nearly, which is missing"):
        import_object(f"{tmp_path}/nearly_needing.py:X")


def test_a_class_without_a_catalogue_is_known_by_its_path_alone():
    assert Component.kinds() == {}


def test_what_a_script_defines_is_found_by_the_scripts_name(tmp_path):
    """Not as `__main__:LoudConfig`, which means something else in every script."""
    script = tmp_path / "loud_script.py"
    script.write_text(
        SOURCE.format(module="loud_script")
        + """
if __name__ == "__main__":
    from diptych.config.serialize import to_json

    print(to_json(LoudConfig(volume=4.0)))
"""
    )
    for words in ([str(script)], ["-m", "loud_script"]):
        paths = os.pathsep.join(map(str, (tmp_path, *filter(None, sys.path))))
        done = subprocess.run(
            [sys.executable, *words],
            env=os.environ | {"PYTHONPATH": paths},
            check=True,
            capture_output=True,
            text=True,
        )
        assert '"type": "loud_script:LoudConfig"' in done.stdout
