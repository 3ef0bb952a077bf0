"""The examples in docstrings run, and every public function and class has a docstring."""

import doctest
import importlib
import inspect
import linecache
import pkgutil

import pytest

import diptych

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(diptych.__path__, "diptych.")
    if info.name != "diptych.__main__"
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name):
    module = importlib.import_module(name)
    linecache.clearcache()  # doctest looks at each file in it again, thousands by then
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_what_is_public_is_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__, name
    for label, item in vars(module).items():
        if label.startswith("_") or inspect.getmodule(item) is not module:
            continue
        if inspect.isclass(item) or inspect.isfunction(item):
            assert item.__doc__, f"{name}.{label} has no docstring"
