"""Makes transformers' Auto classes know exported EVA-CLIP folders, without importing transformers.

transformers has no plug-ins: a class is registered by calling it. So `import diptych` watches for
the two modules whose classes are called, and registers when one of them has been imported; at once
if that has happened already."""

import contextlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def _register_config(module: ModuleType) -> None:
    from diptych.compat.transformers_config import EvaClipConfig

    module.AutoConfig.register(EvaClipConfig.model_type, EvaClipConfig, exist_ok=True)


def _register_model(module: ModuleType) -> None:
    from diptych.compat.transformers import EvaClipConfig, EvaClipModel

    module.AutoModel.register(EvaClipConfig, EvaClipModel, exist_ok=True)


WATCHED: dict[str, Callable[[ModuleType], None]] = {
    "transformers.models.auto.configuration_auto": _register_config,
    "transformers.models.auto.modeling_auto": _register_model,
}


def install() -> None:
    """Register with what is imported, and watch for what isn't."""
    for name, register in WATCHED.items():
        if name in sys.modules:
            _try(register, sys.modules[name])
        else:
            sys.meta_path.insert(0, _Watcher(name, register))


def _try(register: Callable[[ModuleType], None], module: ModuleType) -> None:
    # transformers must stay usable whatever becomes of this; what went wrong shows when AutoModel
    # is asked.
    with contextlib.suppress(Exception):
        register(module)


class _Watcher(importlib.abc.MetaPathFinder):
    """Lets the others find the module, and goes away; the module's loader then registers when it is
    done."""

    def __init__(self, name: str, register: Callable[[ModuleType], None]):
        self.name, self.register = name, register

    def find_spec(
        self, fullname: str, path: Any, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None for all names but the one that is watched."""
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = partial(
                _exec_and_register, spec.loader.exec_module, self.register
            )
        return spec


def _exec_and_register(
    exec_module: Callable[[ModuleType], None],
    register: Callable[[ModuleType], None],
    module: ModuleType,
) -> None:
    exec_module(module)
    _try(register, module)
