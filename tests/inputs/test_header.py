"""What a file says of its picture, without being decoded."""

import io
import os
from datetime import datetime
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from diptych.errors import ImageError
from diptych.inputs.header import Header, read_header, read_size


def photo(make: object = "Canon", model: object = "Canon EOS 5D", taken: str = "", turn: int = 1):
    """A JPEG as a camera writes it."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = make, model, turn
    if taken:
        exif.get_ifd(0x8769)[0x9003] = taken
    stream = io.BytesIO()
    Image.new("RGB", (64, 48)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize("turn", [1, 6])
def test_of_a_photograph(turn, tmp_path):
    data = photo(taken="2024:05:31 12:30:00", turn=turn)
    (tmp_path / "a.jpg").write_bytes(data)
    expected = Header(
        width=64 if turn == 1 else 48,
        height=48 if turn == 1 else 64,
        taken=datetime(2024, 5, 31, 12, 30),
        camera="Canon EOS 5D",
    )
    assert read_header(data) == read_header(tmp_path / "a.jpg") == expected


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("Apple", "iPhone 15", "Apple iPhone 15"),
        ("Pana\x1b[1msonic\0", "  DMC ", "Pana[1msonic DMC"),
        ("x" * 500, "", "x" * 100),
    ],
)
def test_cameras(make, model, camera):
    assert read_header(photo(make, model)).camera == camera


@pytest.mark.parametrize("taken", ["0000:00:00 00:00:00", "yesterday", "2024:13:01 00:00:00"])
def test_dates_that_are_none(taken):
    assert read_header(photo(taken=taken)).taken is None


def test_a_corrupt_exif_block_is_as_good_as_none():
    data = photo(taken="2024:05:31 12:30:00")
    at = data.index(b"Exif\0\0") + 10
    broken = data[:at] + b"\xff" * 40 + data[at + 40 :]
    assert read_header(broken) == Header(width=64, height=48)


def test_what_has_no_header(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for picture in (b"", b"no picture", photo()[:20], Path(tmp_path / "pipe.jpg")):
        with pytest.raises(ImageError):
            read_header(picture)
    with pytest.raises(OSError, match="No such file"):
        read_header(tmp_path / "none.jpg")


def test_a_size_is_known_without_the_pixels():
    Image.new("RGB", (64, 48)).save(stream := io.BytesIO(), "PNG")
    assert read_size(stream.getvalue()[:60]) == (64, 48)
    assert read_size(photo(turn=6)) == (64, 48)
    with pytest.raises(ImageError, match="header can't be read"):
        read_size(b"no picture")


@pytest.mark.parametrize("behind", [False, True])
def test_of_a_png_whose_pixels_are_not_decoded(behind, monkeypatch):
    exif = Image.Exif()
    exif[0x0110], exif[0x0112] = "EOS 5D", 6
    stream = io.BytesIO()
    Image.new("RGB", (64, 48)).save(stream, "PNG", exif=exif)
    data = stream.getvalue()
    if behind:  # it may stand there, too
        at = data.index(b"eXIf") - 4
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        data = data[:at] + data[end:-12] + data[at:end] + data[-12:]
    assert data.index(b"IDAT") < data.index(b"eXIf") or not behind
    monkeypatch.setattr(PngImageFile, "load", None)
    assert read_header(data) == Header(width=48, height=64, camera="EOS 5D")
    assert read_header(data[: data.index(b"IDAT") + 9]).width == (64 if behind else 48)
