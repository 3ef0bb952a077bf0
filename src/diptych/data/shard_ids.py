"""The ids of the samples in shards: read once, by all processes that start together, into one file
beside the index, which is mapped into memory."""

import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from diptych.bounded import parse_json
from diptych.data.files import LONGEST_TEXT, stamp_of
from diptych.data.ids import ID, KEY, NONE, Ids, Values, text_of, values_of
from diptych.data.shard_index import ShardIndex
from diptych.data.shard_maker import Maker, name_of
from diptych.data.shard_records import UNREADABLE, PerShard, Record
from diptych.data.tar import TarIndex, opened
from diptych.errors import DataError

_SHOWN = 8

Read = Callable[[int, int], bytes]
"""`size` bytes of a shard from `offset`."""


def open_shard_ids(index: ShardIndex, cache: Path, workers: int, flags: str, field: str) -> Ids:
    """What each sample of the shards has in the field `field`: those in the file beside the index;
    of shards that are new or changed they are read, by `workers` processes of everyone who asks.

    Raises DataError where they can't be kept, and where a file isn't of these shards.
    """
    paths, kind = [*map(index.path, range(len(index.rows)))], f"{stamp_of(field):016x}.ids"
    maker = Maker(
        kind=PerShard,
        record=partial(_record, index, field),
        paths=paths,
        keys=index.rows["key"],
        versions=np.stack([index.rows["bytes"], index.rows["modified"]], axis=1),
        target=cache / "index" / f"{name_of(paths, index.rows['key'].tobytes())}.{kind}",
        others=f"*.{kind}",
        store=index.store,
    )
    found = maker.get(workers, "ids", flags)
    if not np.array_equal(found.rows["end"], index.rows["end"]):
        raise DataError(
            f"{found.source} holds ids of other samples than there are: delete the file"
        )
    sums = found.rows[["end", "crc", "state"]].tobytes()
    identity = hashlib.blake2b(sums, digest_size=16).hexdigest()
    return Ids(identity, partial(_values, maker, found, workers, flags))


def _values(maker: Maker[PerShard], found: PerShard, workers: int, flags: str) -> Values:
    """All of them. What the disk has changed is read anew."""
    try:
        for shard in range(len(found.rows)):
            found.packed(shard)
    except ValueError:
        maker.target.unlink(missing_ok=True)
        found = maker.get(workers, "ids", flags)
    return np.frombuffer(found.body, ID)


def _record(index: ShardIndex, field: str, shard: int) -> Record:
    """The ids of a shard's samples, end to end."""
    state, count = int(index.rows["state"][shard]), index.samples(shard)
    try:
        data = _read(index, field, shard) if count else b""
    except (DataError, OSError):  # another time, maybe
        state, data = UNREADABLE, NONE * count
    return Record(state, count, data, zlib.crc32(data))


def _read(index: ShardIndex, field: str, shard: int) -> bytes:
    found, file = index.shard(shard), index.file(shard)
    if field == KEY:
        return values_of(map(found.key, range(len(found)))).tobytes()
    with opened(Path(file) if isinstance(file, str) else file) as (read, _):
        return values_of(_texts(found, read, field)).tobytes()


def _texts(found: TarIndex, read: Read, field: str) -> Iterator[str]:
    for row in range(len(found)):
        try:
            yield id_in(found.members(row), read, field)
        except DataError:
            yield ""


def id_in(members: Mapping[str, tuple[int, int]], read: Read, field: str) -> str:
    """The id of a sample with these members: what the member that is called so says, or the field
    of its `json`. Raises DataError where it has none."""
    name = field.lower() if field.lower() in members else "json"
    if name not in members:
        raise DataError(f"its members are {_some(members)}")
    offset, size = members[name]
    data = read(offset, size) if size <= LONGEST_TEXT else b""
    if len(data) < size or size > LONGEST_TEXT:
        raise DataError(f"its {name} can't be read")
    if name != "json":
        return text_of(data)
    try:
        value = parse_json(data)
    except ValueError as error:
        raise DataError(f"its json can't be read: {error}") from None
    if not isinstance(value, dict):
        raise DataError("its json is no object")
    if not (text := text_of(value.get(field))):
        raise DataError(f"its json has {_some(value)}")
    return text


def _some(names: Mapping[str, object]) -> str:
    return ", ".join([*names][:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
