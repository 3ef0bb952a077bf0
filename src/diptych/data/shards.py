"""Webdataset shards: tars whose members `KEY.jpg`, `KEY.txt`, `KEY.json`, `KEY.cls` make a sample;
read at random.

A `KEY.npy` is an array with a 1 for each class of a picture that has several.
"""

import contextlib
import io
import itertools
import json
import tarfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from diptych.arrays import read_npy
from diptych.batch import Sample
from diptych.bounded import parse_json
from diptych.data.bad import too_many
from diptych.data.files import LONGEST_TEXT, Elsewhere, OpenFiles
from diptych.data.ids import KEY, Ids
from diptych.data.pictures import is_picture
from diptych.data.shard_ids import id_in
from diptych.data.shard_index import ShardIndex
from diptych.data.shard_records import CUT, REFUSED, WHOLE
from diptych.data.source import BadSample, Captioner, Source
from diptych.durable import write_file
from diptych.errors import DataError
from diptych.inputs.picture import MAX_BYTES

_SHOWN = 5
_MEMBERS = ("json", "cls", "npy")


class Shards(Source):
    """All samples of the tars of an index, in their order. The picture is the first of `image_keys`
    that a sample has.

    Tars that can't be read are left out. `open_ids` gives the ids in a field of all samples; None:
    they are read one by one. Raises DataError where they are more than `max_bad_share`
    of all, fewer than 100 counting as 100, or all.
    """

    def __init__(
        self,
        index: ShardIndex,
        *,
        image_keys: tuple[str, ...],
        captioner: Captioner,
        max_bad_share: float = 0.0,
        open_ids: Callable[[str], Ids] | None = None,
    ):
        self.class_names = captioner.class_names
        self._open_ids = open_ids
        self._image_keys, self._captioner = image_keys, captioner
        self._index, self._files = index, OpenFiles()
        state = index.rows["state"]
        lost, cut = list[BadSample](), list[BadSample]()
        for shard in np.flatnonzero(state != WHOLE).tolist():
            found = index.shard(shard)
            if state[shard] == CUT:
                used = f"{found.error}; {len(found):,} samples before that are used"
                cut.append(BadSample(index.name(shard), "", used))
            else:
                lost.append(BadSample(index.name(shard), "", found.error))
        self.remarks = _left_out(lost, len(state), max_bad_share)
        self.bad_samples = (*lost, *cut)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The shards that are read."""
        return tuple(map(Path, self._index.paths()))

    def __len__(self) -> int:
        return len(self._index)

    def where(self, index: int) -> tuple[str, str]:
        shard, row = self._index.locate(index)
        return self._index.name(shard), self._index.shard(shard).key(row)

    def id_of(self, index: int, field: str) -> str:
        number, row = self._index.locate(index)
        shard = self._index.shard(number)
        if field == KEY:
            return shard.key(row)
        return id_in(shard.members(row), partial(self._read, self._index.file(number)), field)

    def _read(self, file: str | Elsewhere, offset: int, size: int) -> bytes:
        return self._files.near(file, [(offset, size)])(offset, size, LONGEST_TEXT)

    def ids(self, field: str) -> Ids:
        return self._open_ids(field) if self._open_ids else super().ids(field)

    def __getitem__(self, index: int) -> Sample:
        number, row = self._index.locate(index)
        shard = self._index.shard(number)
        members = shard.members(row)
        image = self._image(members)
        pieces = self._pieces(self._index.file(number), members, image)
        found, captions, label, labels, meta = dict[str, object](), (), None, (), None
        # A member that can't be read spoils no sample that has what it needs without it.
        wrong = list[DataError]()

        def read(member: str) -> bytes:
            if isinstance(piece := pieces[member], DataError):
                raise piece
            return piece

        if "json" in members:
            with _kept(wrong):
                meta = _json(read("json"))
        if "cls" in members:
            with _kept(wrong):
                label = self._captioner.label(read("cls"))
        if "npy" in members:
            with _kept(wrong):
                labels = _several(read("npy"))
        found |= meta or {}
        for key in self._captioner.keys:
            if key in members:
                with _kept(wrong):
                    found[key] = _utf8(read(key))
        with _kept(wrong):
            captions = self._captioner.captions(found, label)
        labelled = label is not None or labels
        usable = captions or self._captioner.alone or (not self._captioner.needed and labelled)
        if wrong and not usable:
            raise DataError(f"{wrong[0]}; its members are {_shown(members)}")
        return Sample(
            key=shard.key(row),
            image=read(image),
            captions=captions,
            label=label,
            labels=labels,
            meta=meta,
        )

    def _pieces(
        self, file: str | Elsewhere, members: Mapping[str, tuple[int, int]], image: str
    ) -> dict[str, bytes | DataError]:
        """What is wanted of a sample, or why it can't be had; in the file's order, so that whoever
        goes through a shard reads forward."""
        pieces, wanted = dict[str, bytes | DataError](), {image, *_MEMBERS, *self._captioner.keys}
        wanted = sorted(wanted & members.keys(), key=members.__getitem__)
        read = self._files.near(file, [members[member] for member in wanted])
        for member in wanted:
            most = MAX_BYTES if member == image else LONGEST_TEXT
            try:
                pieces[member] = read(*members[member], most)
            except DataError as error:
                pieces[member] = error
        return pieces

    def _image(self, members: Mapping[str, tuple[int, int]]) -> str:
        """The member that is the picture: the first of the keys, or the one other that ends as
        pictures do."""
        for key in self._image_keys:
            if key in members:
                return key
        pictures = [member for member in members if is_picture(f"x.{member}")]
        if len(pictures) == 1:
            return pictures[0]
        dotted = any("." in member for member in members)
        rule = "; a sample's name ends at the first dot (a.v1.jpg is v1.jpg of a)" if dotted else ""
        raise DataError(
            f"no picture: its members are {_shown(members)}, and none is "
            f"{', '.join(self._image_keys)}; name one in {self._captioner.flags}image-key{rule}"
        )

    def describe(self) -> str:
        corrupt = f", {len(self.bad_samples)} of them corrupt" if self.bad_samples else ""
        read = np.flatnonzero(self._index.rows["state"] < REFUSED)
        first, last = (self._index.name(int(read[place])) for place in (0, -1))
        shards = "shards" if first != last else "shard"
        more = f" ... {Path(last).name}" if first != last else ""
        return f"{len(self):,} samples in {len(read):,} {shards}{corrupt}: {first}{more}"


@contextlib.contextmanager
def _kept(wrong: list[DataError]) -> Generator[None, None, None]:
    """What can't be used is noted, and stops nothing."""
    try:
        yield
    except DataError as error:
        wrong.append(error)


def _left_out(lost: Sequence[BadSample], shards: int, share: float) -> tuple[str, ...]:
    """What to say of shards that are left out. Raises DataError where they are too many."""
    if not lost:
        return ()
    first = lost[0].reason
    if len(lost) == shards or too_many(len(lost), shards, share):
        of_all = f" ({len(lost):,} of {shards:,} shards can't be read)" if len(lost) > 1 else ""
        raise DataError(f"{first}{of_all}")
    return (f"{len(lost):,} of {shards:,} shards can't be read and are left out; {first}",)


def _shown(members: Iterable[str]) -> str:
    names = list(members)
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"the caption is not UTF-8: {error.reason} at byte {error.start}") from None


def _several(data: bytes) -> tuple[int, ...]:
    """The classes marked in a .npy file."""
    try:
        marks = read_npy(data)
        if marks.dtype.kind not in "biuf":
            raise ValueError(f"it holds {marks.dtype}")
    except ValueError as error:
        raise DataError(f"its .npy can't be read: {error}") from None
    return tuple(int(index) for index in np.flatnonzero(marks))


def _json(data: bytes) -> dict[str, object]:
    try:
        value = parse_json(data)
    except ValueError as error:
        raise DataError(f"its .json can't be read: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"its .json holds a {type(value).__name__}, not an object")
    return cast(dict[str, object], value)


def _ending(image: bytes) -> str:
    """The file ending that fits the picture's first bytes."""
    if image.startswith(b"\x89PNG"):
        return "png"
    return "webp" if image[:4] == b"RIFF" and image[8:12] == b"WEBP" else "jpg"


def _files_of(sample: Sample) -> dict[str, bytes]:
    """A sample as the members of a shard: ending -> content."""
    image = sample.image if isinstance(sample.image, bytes) else Path(sample.image).read_bytes()
    files, meta = {_ending(image): image}, dict(sample.meta or {})
    if len(sample.captions) == 1:
        files["txt"] = sample.captions[0].encode()
    elif sample.captions:
        meta["caption"] = sample.captions
    if sample.label is not None:
        files["cls"] = str(sample.label).encode()
    if sample.labels:
        marks = io.BytesIO()
        np.save(
            marks,
            np.isin(np.arange(max(sample.labels) + 1), sample.labels).astype(np.uint8),
            allow_pickle=False,
        )
        files["npy"] = marks.getvalue()
    if meta:
        files["json"] = json.dumps(meta, ensure_ascii=False).encode()
    return files


def write_shards(
    folder: str | Path, samples: Iterable[Sample], *, per_shard: int = 1000, prefix: str = ""
) -> list[Path]:
    """Write samples as webdataset shards `PREFIX000000.tar` with keys `00000000` upwards; returns
    the shards' paths.

    The same samples give the same bytes. One caption becomes `.txt`, several the field `caption` of
    the `.json`, which also holds `meta`; a label becomes `.cls`, several `.npy`; the picture
    `.jpg`, `.png` or `.webp` as its bytes say.

    >>> import tempfile
    >>> from diptych.batch import Sample
    >>> from diptych.data import write_shards
    >>> cat = Sample(key="", image=b"\\x89PNG...", captions=("a cat",), label=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in write_shards(folder, [cat] * 3, per_shard=2, prefix="cats-")]
    ['cats-000000.tar', 'cats-000001.tar']
    """
    folder = Path(folder)
    paths: list[Path] = []
    numbered = enumerate(samples)
    while chunk := list(itertools.islice(numbered, per_shard)):

        def write(target: Path, chunk: list[tuple[int, Sample]] = chunk) -> None:
            with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
                for number, sample in chunk:
                    for ending, data in _files_of(sample).items():
                        member = tarfile.TarInfo(f"{number:08d}.{ending}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))

        paths.append(folder / f"{prefix}{len(paths):06d}.tar")
        write_file(paths[-1], write)
    return paths
