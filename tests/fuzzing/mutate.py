"""Small damages to files: of bytes, and of JSON, tars, zips, PNGs and safetensors by their
structure, with checksums and lengths that fit."""

import copy
import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

_DEEP = "\x00deep\x00"
"""Stands for what json.dumps can't write."""
_RAW = ("[" * 50_000 + "]" * 50_000, '{"a":' * 50_000 + "1" + "}" * 50_000, "1e999", "9" * 5000)
_STRANGE = (
    *(None, True, -1, 0, 7, 10**9, 2**70, -(2**63), 0.5, float("nan"), float("inf"), ""),
    *("x", "\x1b[31m", "$\\bad{$", "../../x", "/dev/zero", "\ud800", "a\0b", "x" * 100_000),
    *([], {}, [None], [[]], {"a": {}}, "9" * 400, 10**400, [0] * 10_000, _DEEP),
)
_CHUNKS = (
    *(b"", b"\0", b"\xff\xfe", b"-1", b"\n", b'"', b"\t", b",", b"{", b"]", b"1e999", b"NaN"),
    *(b"\xed\xa0\x80", b"9" * 5000, b"[" * 50_000, b'"' * 999, b"\r", b"x" * 100_000),
)
_NUMBERS = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 1 << 20, 1 << 28)
_BLOCK = 512


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Another content of about the same kind, the same for the same state of `rng`."""
    if rng.random() < 0.6 and (damage := _structural(data)):
        try:
            return damage(data, rng)
        except (ValueError, IndexError, struct.error, RecursionError):
            pass
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        data = rng.choice((_flip, _cut, _splice, _replace, _repeat))(data, rng)
    return data


def _structural(data: bytes) -> Callable[[bytes, random.Random], bytes] | None:
    """How a file of this kind is damaged so that it is still taken for one."""
    if data[257:262] == b"ustar":
        return _tar
    if data.startswith(b"PK\3\4"):
        return _zip
    if data.startswith(b"\x89PNG"):
        return _png
    if data.startswith(b"PAR1"):
        return _parquet
    if data[8:9] == b"{" and len(data) > int.from_bytes(data[:8], "little"):
        return _safetensors
    if data[:1] in (b"{", b"["):
        return _json
    return None


def _json(data: bytes, rng: random.Random) -> bytes:
    try:
        return _structure(json.loads(data), rng)
    except ValueError:
        pass
    lines = data.splitlines()  # an object a line
    at = rng.randrange(len(lines))
    lines[at] = _structure(json.loads(lines[at]), rng)
    return b"\n".join(lines) + b"\n"


def _tar(data: bytes, rng: random.Random) -> bytes:
    """A field of a header, with the header's checksum."""
    headers = [at for at in range(0, len(data), _BLOCK) if data[at + 257 : at + 262] == b"ustar"]
    at = rng.choice(headers)
    header = bytearray(data[at : at + _BLOCK])
    start, size = rng.choice(((0, 100), (124, 12), (124, 12), (156, 1), (345, 155), (257, 8)))
    value = rng.choice(
        (
            *(b"", b"-1", b"+7", b"7" * size, b"\xff" * size, b"\x80" + b"\0" * size, b"0x10"),
            *(b"../../x.jpg", b"a.jpg", b"x", b"L", b"g", b"S", b"K", rng.randbytes(size)),
            b"%o" % rng.choice(_NUMBERS),
        )
    )
    header[start : start + size] = value[:size].ljust(size, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:at] + bytes(header) + data[at + _BLOCK :]


def _zip(data: bytes, rng: random.Random) -> bytes:
    """A number of an entry, in its own header, in the list of entries, or at the list's end."""
    mark, fields = rng.choice(
        (
            (b"PK\3\4", ((6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2))),
            (b"PK\1\2", ((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (42, 4))),
            (b"PK\5\6", ((8, 2), (10, 2), (12, 4), (16, 4), (20, 2))),
        )
    )
    places = [at for at in range(len(data)) if data.startswith(mark, at)]
    offset, size = rng.choice(fields)
    at = rng.choice(places) + offset
    number = rng.choice((*_NUMBERS, rng.getrandbits(32))) % (1 << (8 * size))
    return data[:at] + number.to_bytes(size, "little") + data[at + size :]


def _png(data: bytes, rng: random.Random) -> bytes:
    """A chunk changed, doubled, dropped or of another kind, with its own checksum."""
    chunks, at = list[tuple[bytes, bytes]](), 8
    while at + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    kinds = (b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"zTXt", b"iCCP", b"eXIf", b"acTL", b"fcTL")
    place = rng.randrange(len(chunks))
    kind, body = chunks[place]
    match rng.randrange(5):
        case 0:
            chunks[place] = (kind, _replace(body, rng))
        case 1:
            chunks.insert(place, (kind, body))
        case 2:
            del chunks[place]
        case 3:
            chunks.insert(place, (rng.choice(kinds), rng.randbytes(rng.randrange(40))))
        case _:
            bomb = b"a\0\0" + zlib.compress(bytes(1 << 20))
            chunks.insert(1, (rng.choice((b"zTXt", b"iCCP")), bomb))
    parts = [data[:8]]
    for kind, body in chunks:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        parts.append(struct.pack(">I", len(body)) + kind + body + checksum)
    return b"".join(parts)


def _parquet(data: bytes, rng: random.Random) -> bytes:
    """Bytes of the footer, which says what lies where."""
    size = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - size : -8]
    for _ in range(rng.choice((1, 1, 3))):
        footer = rng.choice((_flip, _replace, _cut, _repeat))(footer, rng)
    return data[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    """The header, and its length to fit."""
    size = int.from_bytes(data[:8], "little")
    header = _structure(json.loads(data[8 : 8 + size]), rng)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


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
        return _dumped(rng.choice(_STRANGE), rng)
    for _ in range(rng.choice((1, 1, 2))):
        holder, key = rng.choice(places)
        if rng.random() < 0.2 and isinstance(holder, dict):
            holder.pop(key, None)
        elif rng.random() < 0.1 and isinstance(holder, dict):
            holder[f"{key}x"] = rng.choice(_STRANGE)
        elif rng.random() < 0.1 and isinstance(holder, list):
            holder.append(copy.deepcopy(rng.choice(holder or [None])))
        elif rng.random() < 0.1:
            _set(holder, key, copy.deepcopy(rng.choice(places)[0]))  # a value from elsewhere
        else:
            _set(holder, key, rng.choice(_STRANGE))
    return _dumped(content, rng)


def _set(holder: Any, key: Any, value: Any) -> None:
    if isinstance(holder, dict) or key < len(holder):
        holder[key] = value


def _dumped(content: Any, rng: random.Random) -> bytes:
    text = json.dumps(content).replace(json.dumps(_DEEP), rng.choice(_RAW))
    if rng.random() < 0.05:  # a name twice
        text = text.replace('{"', '{"type": 7, "', 1)
    return text.encode()


def _collect(content: Any, places: list[tuple[Any, Any]]) -> None:
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            places.append((content, key))
            _collect(content[key], places)
