"""Small damages to files: of bytes, and of JSON by its structure."""

import copy
import json
import random
from typing import Any

_STRANGE = (
    *(None, True, -1, 0, 7, 10**9, 2**70, 0.5, float("nan"), float("inf"), ""),
    *("x", "\x1b[31m", "$\\bad{$", "../../x", [], {}, [None], [[]], {"a": {}}, "9" * 400),
)
_CHUNKS = (b"", b"\0", b"\xff\xfe", b"-1", b"\n", b'"', b"\t", b",", b"{", b"]", b"1e999", b"NaN")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Another content of about the same kind, the same for the same state of `rng`."""
    if rng.random() < 0.5:
        try:
            return _structure(json.loads(data), rng)
        except (ValueError, RecursionError):
            pass
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        data = rng.choice((_flip, _cut, _splice, _replace, _repeat))(data, rng)
    return data


def _place(data: bytes, rng: random.Random) -> int:
    # Half of the damages lie near the beginning, where headers are.
    return rng.randrange(min(len(data), 400 if rng.random() < 0.5 else len(data)) or 1)


def _flip(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return (
        data[:at]
        + bytes(byte ^ (1 << rng.randrange(8)) for byte in data[at : at + 1])
        + data[at + 1 :]
    )


def _cut(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] if rng.random() < 0.5 else data[:at] + data[at + rng.randrange(1, 64) :]


def _splice(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.choice(_CHUNKS) + data[at:]


def _replace(data: bytes, rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.choice((1, 2, 4, 8))
    return data[:at] + rng.randbytes(size) + data[at + size :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.randrange(1, 200)
    return data[:at] + data[at : at + size] * rng.randrange(2, 4) + data[at:]


def _structure(content: Any, rng: random.Random) -> bytes:
    content = copy.deepcopy(content)
    places: list[tuple[Any, Any]] = []
    _collect(content, places)
    if not places or rng.random() < 0.05:
        return json.dumps(rng.choice(_STRANGE)).encode()
    for _ in range(rng.choice((1, 1, 2))):
        holder, key = rng.choice(places)
        if rng.random() < 0.2 and isinstance(holder, dict):
            holder.pop(key, None)
        elif rng.random() < 0.1 and isinstance(holder, dict):
            holder[f"{key}x"] = rng.choice(_STRANGE)
        elif isinstance(holder, dict) or key < len(holder):
            holder[key] = rng.choice(_STRANGE)
    return json.dumps(content).encode()


def _collect(content: Any, places: list[tuple[Any, Any]]) -> None:
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            places.append((content, key))
            _collect(content[key], places)
