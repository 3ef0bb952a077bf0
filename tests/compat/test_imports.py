"""Each public name that a module of open_clip's takes from its own package can be imported from the
module of the same name here: scripts import names from wherever they found them."""

import importlib
import pkgutil
import types

import open_clip
import open_clip_train
import pytest

from tests.compat.absent import ABSENT

MODULES = [
    (f"{package.__name__}.{module.name}", f"{ours}.{module.name}")
    for package, ours in (
        (open_clip, "diptych.compat"),
        (open_clip_train, "diptych.compat.open_clip_train"),
    )
    for module in pkgutil.iter_modules(package.__path__)
    if not module.ispkg
]


def own_names(module: types.ModuleType) -> set[str]:
    """Classes and functions of the package itself, and constants."""
    package = module.__name__.split(".")[0]
    found = set()
    for name, value in vars(module).items():
        if name.startswith("_") or isinstance(value, types.ModuleType):
            continue
        home = (getattr(value, "__module__", None) or "").split(".")[0]
        if home in (package, "open_clip") or not callable(value):
            found.add(name)
    return found


@pytest.mark.parametrize(("theirs", "ours"), MODULES)
def test_a_name_is_where_open_clip_has_it(theirs, ours):
    absent = ABSENT.get(theirs.removeprefix("open_clip."), ())
    if absent == "all":
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(ours)
        return
    there, here = importlib.import_module(theirs), importlib.import_module(ours)
    assert {name for name in own_names(there) if not hasattr(here, name)} == set(absent)
