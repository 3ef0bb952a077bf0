"""What stands beside the weights in torch's pickles: arguments, paths, configurations, numpy's
numbers, DeepSpeed's and Lightning's own objects.

They become empty stand-ins: their classes are never looked up, and nothing of them is run. torch's
restricted unpickler fills dictionaries and lists alone with items. So a class whose objects are
filled as these (Lightning's `AttributeDict`, a deque) stands for one of them; which classes these
are is read from the pickle's operations, before it is unpickled.
"""

import io
import itertools
import pickle
import pickletools
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from pathlib import Path
from typing import Any

from torch.serialization import get_unsafe_globals_in_checkpoint

from diptych.weights.zipped import DAMAGE, open_zip

_PLAIN = (
    *("bool", "bytearray", "complex", "dict", "float", "frozenset", "int"),
    *("list", "range", "set", "slice", "str", "tuple"),
)
_DATA = {
    "argparse",
    "collections",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "pathlib",
    "types",
    "typing",
    "uuid",
    *(f"builtins.{kind}" for kind in _PLAIN),
}
"""Modules of the standard library whose objects are data, and such classes. What else of it, or of
torch, a file asks for could run code: such a file is refused, though nothing of it would run."""
_MAGIC = 0x1950A86A20F9469CFC6C
"""The first object of a file in torch's older format."""
_BEFORE = 3
"""Pickles in it before that of what was saved: this number, a version, sizes of numbers."""
_MARK = object()


class Inert:
    """Stands for any object: it takes whatever it is given and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return super().__new__(cls)

    def __setstate__(self, state: Any):
        pass


class _Items(Inert):
    """Stands for a class whose objects get items by key."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict[Any, Any]()


class _Members(Inert):
    """Stands for a class whose objects get items one after the other."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return list[Any]()


StandIns = dict[str, type[Inert]]
"""Classes and functions by name, and what stands for them."""


def find(path: Path, zipped: bool) -> StandIns:
    """All that a file of torch's names and torch doesn't know as harmless; empty where the file is
    no such file."""
    try:
        pickled = _in_zip(path) if zipped else _in_legacy(path)
        unsafe = get_unsafe_globals_in_checkpoint(_as_zip(pickled))
        stand_ins = _filled_as(pickled)
    except (pickle.UnpicklingError, *DAMAGE):
        return {}
    return {name: stand_ins.get(name, Inert) for name in sorted(unsafe)}


def is_data(name: str) -> bool:
    """Whether an object of this class may be passed by.

    >>> from diptych.weights.stand_ins import is_data
    >>> is_data("argparse.Namespace"), is_data("their.trainer.Config"), is_data("os.system")
    (True, True, False)
    """
    package = name.partition(".")[0]
    known = package in sys.stdlib_module_names or package in ("torch", "builtins")
    return not known or bool({package, name} & _DATA)


def _in_zip(path: Path) -> bytes:
    with open_zip(path) as file:
        (name,) = (name for name in file.namelist() if name.split("/")[1:] == ["data.pkl"])
        return file.read(name)


def _in_legacy(path: Path) -> bytes:
    """The pickle of what was saved. Raises ValueError for a file that torch didn't write."""
    with open(path, "rb") as file:
        first = itertools.islice(pickletools.genops(file), 3)
        if _MAGIC not in [number for _, number, _ in first]:
            raise ValueError("torch.save begins with a number that it doesn't have")
        for _ in range(_BEFORE - 1):
            _end(file)
        start = file.tell()
        size = _end(file) - start
        file.seek(start)
        return file.read(size)


def _end(file: io.BufferedReader) -> int:
    """Passes by one pickle: where the next begins."""
    for _ in pickletools.genops(file):
        pass
    return file.tell()


def _as_zip(pickled: bytes) -> io.BytesIO:
    """As torch wants to be given it."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("a/data.pkl", pickled)
        file.writestr("a/version", "3")
    made.seek(0)
    return made


def _filled_as(pickled: bytes) -> StandIns:
    """For each class or function that a pickle names, what can be filled as its objects are.

    The unpickler's stack is followed without making anything: on it lies, for a class and for its
    objects, its name.
    """
    found, stack, memo = StandIns(), list[Any](), dict[Any, Any]()
    for operation, argument, _ in pickletools.genops(pickled):
        match operation.name:
            case "GLOBAL":
                stack.append(_name(str(argument)))
                found.setdefault(stack[-1], Inert)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "NEWOBJ" | "REDUCE":
                stack.pop()  # the arguments: an object of that class lies where the class lay
            case "BUILD" | "SETITEM" | "SETITEMS" | "APPEND" | "APPENDS":
                _take(stack, operation.stack_before[1:])
                _note(found, stack[-1], operation.name)
            case _:
                _take(stack, operation.stack_before)
                after = operation.stack_after
                stack += [_MARK if each is pickletools.markobject else None for each in after]
    return found


def _take(stack: list[Any], taken: list[pickletools.StackObject]) -> None:
    """What an operation takes from the stack: so many objects, or all from the last mark on."""
    if pickletools.markobject in taken:
        while stack.pop() is not _MARK:
            pass
    else:
        del stack[len(stack) - len(taken) :]


def _note(found: StandIns, filled: Any, operation: str) -> None:
    if filled in found and operation != "BUILD":
        found[filled] = _Items if operation.startswith("SETITEM") else _Members


def _name(argument: str) -> str:
    """As Python 3 calls what protocol 2 names as Python 2 did."""
    module, _, name = argument.partition(" ")
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"
