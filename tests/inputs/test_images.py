"""Every kind of picture has the result that the table in images.py promises; hostile ones raise
ImageError."""

import contextlib
import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from diptych.errors import ImageError
from diptych.inputs import MAX_PIXELS, decode
from diptych.inputs import images as images_module
from tests.inputs.pictures import encoded, photo


def levels(image: Image.Image) -> torch.Tensor:
    """[3, height, width] by `convert("RGB")`: the reference."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


@pytest.fixture(scope="module")
def picture():
    return photo(93, 61)


@pytest.mark.parametrize(
    "options", [{}, {"quality": 40, "progressive": True}, {"subsampling": 0}, {"subsampling": 1}]
)
def test_jpeg_equals_pillow_in_every_level(picture, options):
    data = encoded(picture, "JPEG", **options)
    pixels = decode(data)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, 61, 93)
    assert torch.equal(pixels, levels(Image.open(io.BytesIO(data))))


def test_plain_jpeg_is_decoded_without_pillow(picture, monkeypatch):
    monkeypatch.setattr(
        images_module, "_decode_slowly", lambda image: pytest.fail("the slow way was taken")
    )
    decode(encoded(picture, "JPEG"))
    decode(encoded(picture.convert("L"), "JPEG"))
    decode(encoded(picture, "JPEG", exif=exif(6)))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP", "TGA"])
def test_other_formats_equal_pillow(picture, kind):
    data = encoded(picture, kind)
    assert torch.equal(decode(data), levels(Image.open(io.BytesIO(data))))


def test_bytes_paths_and_opened_pictures_are_the_same(picture, tmp_path):
    path = tmp_path / "ä picture.jpg"
    path.write_bytes(encoded(picture, "JPEG"))
    expected = decode(path.read_bytes())
    assert torch.equal(decode(path), expected)
    assert torch.equal(decode(str(path)), expected)
    assert torch.equal(decode(Image.open(path)), expected)
    assert torch.equal(decode(expected), expected)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "CMYK", "YCbCr", "HSV"])
def test_modes_are_converted_as_pillow_does(picture, mode):
    image = picture.convert("L").convert("LA") if mode == "LA" else picture.convert(mode)
    assert torch.equal(decode(image), levels(image))


def test_grey_jpeg_has_three_equal_channels(picture):
    data = encoded(picture.convert("L"), "JPEG")
    pixels = decode(data)
    assert torch.equal(pixels[0], pixels[1])
    assert torch.equal(pixels, levels(Image.open(io.BytesIO(data))))


def test_cmyk_jpeg_is_not_inverted(picture):
    pixels = decode(encoded(picture.convert("CMYK"), "JPEG", quality=95))
    assert (pixels.float() - levels(picture).float()).abs().mean() < 6


def test_transparency_is_dropped(picture):
    image = picture.copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    assert torch.equal(decode(encoded(image, "PNG")), levels(picture))
    assert torch.equal(decode(image), levels(picture))


@pytest.mark.parametrize("transparency", [3, bytes(range(200))])
def test_palette_with_transparency_keeps_its_colours(picture, transparency):
    palette = picture.quantize(200)
    data = encoded(palette, "PNG", transparency=transparency)
    assert torch.equal(decode(data), levels(palette))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind):
    ramp = np.arange(0, 65536, dtype=np.uint16).reshape(256, 256)
    pixels = decode(encoded(Image.fromarray(ramp), kind))
    assert torch.equal(pixels[0], torch.from_numpy(np.round(ramp / 257).astype(np.uint8)))
    assert torch.equal(pixels[0], pixels[2])


def test_32_bit_grey_counts_as_sixteen_bit():
    image = Image.fromarray(np.array([[-5, 0, 257, 65535, 70000]], dtype=np.int32))
    assert decode(image)[0].tolist() == [[0, 0, 1, 255, 255]]


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[images_module.ORIENTATION] = orientation
    return tags


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(picture, kind, orientation):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(picture, kind, exif=exif(orientation), **options)
    pixels = decode(data)
    assert torch.equal(pixels, levels(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    assert pixels.shape == ((3, 61, 93) if orientation < 5 else (3, 93, 61))
    assert torch.equal(decode(Image.open(io.BytesIO(data))), pixels)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_impossible_orientations_mean_nothing(picture, orientation):
    assert torch.equal(decode(encoded(picture, "PNG", exif=exif(orientation))), levels(picture))


def test_a_broken_exif_block_is_ignored(picture):
    for block in (
        b"",
        b"garbage",
        b"MM\x00\x2a\x00\x00\xff\xff",
        b"II*\x00\x08\x00\x00\x00\xff\xff" + bytes(30),
    ):
        data = encoded(picture, "JPEG", exif=b"Exif\0\0" + block)
        assert decode(data).shape == (3, 61, 93)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_picture_of_several(kind):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert decode(data)[:, 5, 5].tolist() == [255, 0, 0]


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels, and has none."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + header + b"\0\0\0\0IDAT" + bytes(4)


def jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG whose header says another size."""
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("side", [13_378, 20_000, 60_000])
@pytest.mark.parametrize("make", [png_header, jpeg_of_size])
def test_too_many_pixels_are_refused_before_decoding(side, make):
    with pytest.raises(ImageError, match=rf"the picture has .*more than {MAX_PIXELS}"):
        decode(make(side, side))


def test_a_large_picture_below_the_limit_needs_no_exception(monkeypatch):
    # Pillow warns from 89 megapixels on, and warnings are errors here.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    image = photo(90, 60)
    assert torch.equal(decode(encoded(image, "PNG")), levels(image))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(encoded(image, "JPEG")).shape == (3, 60, 90)


def test_scans_that_cost_more_than_the_picture_are_refused(monkeypatch):
    data = encoded(photo(80, 60), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    scans = data[:-2] + last * 90 + data[-2:]
    assert decode(scans).shape == (3, 60, 80)  # odd, but done in no time
    monkeypatch.setattr(images_module, "_SCANS", 90 * 80 * 60 / MAX_PIXELS)
    with pytest.raises(ImageError, match="progressive JPEG of 100 scans over 80 x 60 pixels"):
        decode(scans)
    assert decode(data).shape == (3, 60, 80)


@pytest.mark.parametrize("place", ["/dev/zero", "pipe.png"])
def test_devices_and_pipes_are_never_waited_for(place, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="can't be read: it is no regular file"):
        decode(tmp_path / place)


def test_files_without_a_picture_are_named(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("hello")
    for path, cause in [
        (tmp_path / "empty.jpg", r"is empty \(0 bytes\)"),
        (tmp_path / "text.png", "is not a picture of a known format"),
        (tmp_path / "absent.jpg", "doesn't exist"),
        (tmp_path, "is a folder, not a picture"),
        (Path("nul\0byte"), "can't be read"),
    ]:
        with pytest.raises(ImageError, match=cause) as caught:
            decode(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\0" * 5000]
)
def test_bytes_without_a_picture(data):
    with pytest.raises(ImageError, match=r"^the picture "):
        decode(data)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


def test_postscript_is_not_executed():
    with pytest.raises(ImageError, match="PostScript"):
        decode(Image.open(io.BytesIO(POSTSCRIPT)))


@pytest.mark.parametrize("kind", ["ICO", "PCX", "SGI", "DDS", "PostScript", "PDF", "SVG", "MP4"])
def test_other_formats_are_refused_whatever_pillow_reads(kind):
    files = {
        "PostScript": POSTSCRIPT,
        "PDF": b"%PDF-1.7\n1 0 obj",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "MP4": b"\0\0\0\x18ftypmp42" + bytes(40),
    }
    data = files.get(kind) or encoded(photo(20, 16), kind)
    with pytest.raises(ImageError, match=r"is not a picture of a known format \(JPEG, "):
        decode(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_files_are_refused(kind, share):
    data = encoded(photo(200, 150), kind)
    with pytest.raises(ImageError, match=r"the picture (can't be decoded|is not a picture)"):
        decode(data[: int(len(data) * share)])


def test_a_jpeg_that_libjpeg_only_warns_about_is_what_pillow_shows():
    data = bytearray(encoded(photo(200, 150), "JPEG"))
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(range(1, 41))
    assert torch.equal(decode(bytes(data)), levels(Image.open(io.BytesIO(bytes(data)))))
    # Bytes between the data and the end mark: harmless, but a complaint all the same.
    good = encoded(photo(200, 150), "JPEG")
    assert torch.equal(decode(good[:-2] + b"junk" + good[-2:]), decode(good))


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "TGA", "PPM", "JPEG2000"]
)
def test_random_corruption_never_raises_anything_else(kind):
    rng = np.random.default_rng(0)
    data = np.frombuffer(encoded(photo(24, 17), kind), dtype=np.uint8)
    survived = 0
    for _ in range(150):
        corrupt = data.copy()
        places = rng.integers(
            0, len(data) if rng.random() < 0.5 else min(len(data), 64), rng.integers(1, 6)
        )
        corrupt[places] = rng.integers(0, 256, len(places))
        with contextlib.suppress(ImageError):  # and nothing else
            survived += decode(corrupt.tobytes()).shape[0] == 3
    assert survived, "some corruption is harmless"


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3, 4, 4),
        torch.zeros(4, 4, dtype=torch.uint8),
        torch.zeros(3, 0, 4, dtype=torch.uint8),
    ],
)
def test_other_tensors_are_refused(tensor):
    with pytest.raises(ImageError, match=r"UInt8\[3, height, width\]"):
        decode(tensor)


def test_an_opened_picture_without_pixels_is_refused():
    with pytest.raises(ImageError, match="has no pixels"):
        decode(Image.new("RGB", (0, 5)))


def test_jpeg_may_be_decoded_smaller():
    data = encoded(photo(640, 480), "JPEG")
    assert decode(data, at_least=300).shape == (3, 480, 640)
    assert decode(data, at_least=240).shape == (3, 240, 320)
    assert decode(data, at_least=100).shape == (3, 120, 160)
    assert decode(data, at_least=1).shape == (3, 60, 80)
    whole = torch.nn.functional.avg_pool2d(decode(data)[None].float(), 2)[0]
    assert (decode(data, at_least=240).float() - whole).abs().mean() < 1


def test_threads_may_share_it(picture):
    files = [encoded(picture, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF")] * 8
    expected = [decode(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(decode, files))
    assert all(map(torch.equal, results, expected))


@pytest.mark.parametrize("kind", ["L", "RGB", "RGBA", "CMYK", "1", "I;16", "palette"])
def test_a_giant_is_converted_in_bands_to_the_same_levels(picture, kind, monkeypatch):
    if kind == "I;16":
        image = Image.fromarray(np.arange(0, 65536, 4, dtype=np.uint16).reshape(128, 128))
    else:
        image = picture.quantize(200) if kind == "palette" else picture.convert(kind)
    whole = decode(image)
    monkeypatch.setattr(images_module, "_BAND", 7 * image.width + 1)
    assert torch.equal(decode(image), whole)


HOSTILE = """
import io, resource, sys
import numpy as np
from PIL import Image
from diptych.config import PreprocessConfig
from diptych.inputs import Preprocess
kind, resize = sys.argv[1:]
if kind == "column":
    image = Image.new("L", (1, 44_500_000), 7)
elif kind == "row":
    image = Image.new("L", (44_500_000, 1), 7)
elif kind == "bits":
    image = Image.new("1", (13_370, 13_370), 1)
else:
    image = Image.fromarray(np.full((13_370, 13_370), 257, np.uint16))
file = io.BytesIO()
image.save(file, "PNG")
del image
preprocess = Preprocess(PreprocessConfig(resize=resize), 224)
preprocess.pixels(Image.new("RGB", (300, 200)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pixels = preprocess.pixels(file.getvalue())
print(len(pixels.unique()), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6)
"""


@pytest.mark.slow
@pytest.mark.parametrize("resize", ["shortest", "squash"])
@pytest.mark.parametrize("kind", ["column", "row", "bits", "sixteen bits"])
def test_a_small_file_of_many_pixels_takes_less_than_two_gigabytes(kind, resize):
    command = [sys.executable, "-c", HOSTILE, kind, resize]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    levels_seen, gigabytes = done.stdout.split()
    assert levels_seen == "1"
    assert float(gigabytes) < 2
