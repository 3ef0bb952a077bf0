"""Clips, seen by one frame or several: `chosen` says which.

Frames are counted by their time stamps, without decoding, because containers lie about their number
or don't know it; then the clip is decoded from the last key frame that isn't shown after the first
one that is wanted.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from diptych.batch import Sample
from diptych.data.folders import class_folders
from diptych.data.source import Source
from diptych.datasets.entry import Found, Wanted
from diptych.datasets.layouts.base import read_lines
from diptych.datasets.layouts.originals import png
from diptych.errors import DataError, first_line

_ENDINGS = (".mp4", ".avi", ".mkv", ".webm", ".mov")


def chosen(frames: int, count: int) -> list[int]:
    """Which of a clip's frames, in the order of display, stand for it: the one in the middle of
    each of `count` equal parts, (2 i + 1) frames // (2 count), as temporal segment networks have it
    (Wang et al. 2016, arXiv:1608.00859). A clip of fewer frames gives each of them once.

    One is the middle frame, frames // 2; VISSL, whose scripts EVA-CLIP follows, takes the one after
    it.

    >>> from diptych.datasets.layouts.video import chosen
    >>> chosen(100, 1), chosen(100, 4), chosen(3, 4)
    ([50], [12, 37, 62, 87], [0, 1, 2])
    """
    return sorted({(2 * part + 1) * frames // (2 * count) for part in range(count)})


def read_frames(path: Path, count: int = 1) -> tuple[bytes, ...]:
    """The frames that stand for the clip, at most `count`, as PNG files. Raises DataError: no such
    clip, nothing to decode, no PyAV."""
    av = _av()
    try:
        with av.open(str(path)) as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                raise DataError(f"{path} holds no video")
            packets = (each for each in container.demux(stream) if each.pts is not None)
            stamps = [_Stamps(each.pts, each.dts, each.is_keyframe) for each in packets]
            stamps.sort(key=lambda each: each.shown)
        if not stamps:
            raise DataError(f"{path} holds no frames with time stamps")
        wanted = [stamps[place].shown for place in chosen(len(stamps), count)]
        with av.open(str(path)) as container:
            container.seek(_start(stamps, wanted[0]), stream=container.streams.video[0])
            return tuple(png(frame.to_image()) for frame in _frames(container, wanted))
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{path} can't be decoded: {first_line(error)}") from None


class _Stamps(NamedTuple):
    """Of a frame, in the order of display."""

    shown: int
    decoded: int | None
    key: bool


def _start(stamps: Sequence[_Stamps], shown: int) -> int:
    """Where to seek to, so as to decode the frame shown then. Containers seek by the times of
    decoding, which run ahead of those of display where there are B-frames: a search for the frame's
    own time would end at a key frame behind it."""
    keys = [each for each in stamps if each.key and each.shown <= shown]
    start = keys[-1] if keys else stamps[0]
    return start.shown if start.decoded is None else start.decoded


def _frames(container: Any, stamps: Sequence[int]) -> Iterator[Any]:
    """For each time stamp the first frame at or after it, in one pass; the last frame for all that
    lie behind it, should the rest of the clip be corrupt."""
    left, frame = deque(stamps), None
    for frame in container.decode(video=0):
        while left and frame.pts is not None and frame.pts >= left[0]:
            left.popleft()
            yield frame
        if not left:
            return
    if frame is None:
        raise DataError("its frames can't be decoded")
    yield from [frame] * len(left)


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise DataError("clips need PyAV to be decoded: pip install 'diptych[video]'") from None
    return av


class Clips(Source):
    """Clips with a class each, seen by so many frames."""

    def __init__(self, folder: Path, clips: list[tuple[Path, int]], frames: int = 1):
        self._folder, self._clips, self._frames = folder, clips, frames

    def __len__(self) -> int:
        return len(self._clips)

    def where(self, index: int) -> tuple[str, str]:
        path = self._clips[index][0]
        return str(path), str(path.relative_to(self._folder))

    def __getitem__(self, index: int) -> Sample:
        path, label = self._clips[index]
        frames = read_frames(path, self._frames)
        key, middle = self.where(index)[1], frames[len(frames) // 2]
        return Sample(key=key, image=middle, frames=frames, label=label)

    def describe(self) -> str:
        return f"{len(self):,} clips in {self._folder}"


def clips(wanted: Wanted) -> Found | None:
    """Kinetics: `SET/SPLIT/CLASS/*.mp4`."""
    for folder in wanted.folders:
        for place in (folder / name for name in wanted.split_names()):
            if not place.is_dir():
                continue
            classes = class_folders(place)
            found = [
                (path, label)
                for label, each in enumerate(classes)
                for path in sorted(each.iterdir())
                if path.suffix.lower() in _ENDINGS
            ]
            if found:
                _av()
                labels = tuple(each.name.replace("_", " ") for each in classes)
                source = Clips(place, found, wanted.frames)
                return Found(
                    layout="clips",
                    place=place,
                    source=source,
                    labels=labels,
                    frames=wanted.frames,
                )
    return None


_LISTS = {
    "test": ("testlist01",),
    "test2": ("testlist02",),
    "test3": ("testlist03",),
    "all": ("testlist01", "testlist02", "testlist03"),
    "train": ("trainlist01",),
}


def ucf101(wanted: Wanted) -> Found | None:
    """`ucfTrainTestlist/{classInd,testlist01,…}.txt`, `UCF-101/CLASS/*.avi`. `all`: the three test
    lists together."""
    places = (wanted.root, *wanted.folders)
    folder = next((place for place in places if (place / "ucfTrainTestlist").is_dir()), None)
    if folder is None or wanted.split not in _LISTS:
        return None
    _av()
    lists = folder / "ucfTrainTestlist"
    labels = tuple(
        line.split(maxsplit=1)[1] for line in read_lines(lists / "classInd.txt") if line.strip()
    )
    places_of = {name: label for label, name in enumerate(labels)}
    lines = (line for name in _LISTS[wanted.split] for line in read_lines(lists / f"{name}.txt"))
    names = [line.split()[0] for line in lines if line.strip()]
    if strange := sorted({name.partition("/")[0] for name in names} - set(places_of)):
        raise DataError(
            f"{lists} lists clips of classes that classInd.txt doesn't have: {', '.join(strange)}"
        )
    pairs = [(folder / "UCF-101" / name, places_of[name.partition("/")[0]]) for name in names]
    return Found(
        layout="ucf101",
        place=folder,
        source=Clips(folder, pairs, wanted.frames),
        labels=labels,
        frames=wanted.frames,
    )
