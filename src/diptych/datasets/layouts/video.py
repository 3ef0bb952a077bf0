"""Clips. The picture of a clip is its middle frame: number n // 2 of its n frames, in the order of
display.

Frames are counted by their time stamps, without decoding, because containers lie about their number
or don't know it; then the clip is decoded from the key frame before. VISSL, whose scripts EVA-CLIP
follows, takes the frame after it.
"""

from pathlib import Path
from typing import Any

from diptych.batch import Sample
from diptych.data.folders import class_folders
from diptych.data.source import Source
from diptych.datasets.entry import Found, Wanted
from diptych.datasets.layouts.base import read_lines
from diptych.datasets.layouts.originals import png
from diptych.errors import DataError

_ENDINGS = (".mp4", ".avi", ".mkv", ".webm", ".mov")


def middle_frame(path: Path) -> bytes:
    """The clip's middle frame as a PNG file. Raises DataError: no such clip, nothing to decode, no
    PyAV."""
    av = _av()
    try:
        with av.open(str(path)) as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                raise DataError(f"{path} holds no video")
            stamps = sorted(
                packet.pts for packet in container.demux(stream) if packet.pts is not None
            )
        if not stamps:
            raise DataError(f"{path} holds no frames with time stamps")
        with av.open(str(path)) as container:
            return png(_frame(container, stamps[len(stamps) // 2]).to_image())
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{path} can't be decoded: {error}") from None


def _frame(container: Any, stamp: int) -> Any:
    """The first frame at or after a time stamp; the last one, should the rest of the clip be
    corrupt."""
    stream = container.streams.video[0]
    container.seek(stamp, stream=stream)
    frame = None
    for frame in container.decode(stream):
        if frame.pts is not None and frame.pts >= stamp:
            return frame
    if frame is None:
        raise DataError("its middle frame can't be decoded")
    return frame


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise DataError("clips need PyAV to be decoded: pip install 'diptych[video]'") from None
    return av


class Clips(Source):
    """Clips with a class each."""

    def __init__(self, folder: Path, clips: list[tuple[Path, int]]):
        self._folder, self._clips = folder, clips

    def __len__(self) -> int:
        return len(self._clips)

    def where(self, index: int) -> tuple[str, str]:
        path = self._clips[index][0]
        return str(path), str(path.relative_to(self._folder))

    def __getitem__(self, index: int) -> Sample:
        path, label = self._clips[index]
        return Sample(key=self.where(index)[1], image=middle_frame(path), label=label)

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
                return Found(layout="clips", place=place, source=Clips(place, found), labels=labels)
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
    return Found(layout="ucf101", place=folder, source=Clips(folder, pairs), labels=labels)
