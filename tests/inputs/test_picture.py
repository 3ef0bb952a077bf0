"""The forms in which people hand a picture over: each gives the levels of the file, or one
sentence."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.errors import ImageError
from diptych.inputs import decode
from diptych.inputs.picture import is_picture, opened


@pytest.fixture
def file(tmp_path) -> Path:
    levels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


def array(file: Path) -> np.ndarray:
    return np.array(Image.open(file))


def upload(file: Path) -> object:
    found = tempfile.SpooledTemporaryFile()  # noqa: SIM115
    found.write(file.read_bytes())
    found.seek(0)
    return found


FORMS = {
    "path": lambda file: file,
    "text": str,
    "bytes": Path.read_bytes,
    "bytearray": lambda file: bytearray(file.read_bytes()),
    "memoryview": lambda file: memoryview(file.read_bytes()),
    "BytesIO": lambda file: io.BytesIO(file.read_bytes()),
    "open file": lambda file: open(file, "rb"),  # noqa: SIM115
    "upload": upload,
    "Pillow": Image.open,
    "array": array,
    "array of another layout": lambda file: np.asfortranarray(array(file)),
    "array that is a view": lambda file: array(file)[:, :, ::-1][:, :, ::-1],
    "array with alpha": lambda file: np.dstack([array(file), array(file)[:, :, 0]]),
    "tensor": lambda file: torch.from_numpy(array(file)).permute(2, 0, 1),
}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_picture(file, form):
    picture = FORMS[form](file)
    assert is_picture(picture)
    assert torch.equal(decode(picture), torch.from_numpy(array(file)).permute(2, 0, 1))


def test_grey_arrays():
    grey = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)
    for levels in (grey, grey[:, :, None]):
        assert torch.equal(decode(levels), torch.from_numpy(grey).expand(3, -1, -1))


def test_the_home_folder(file, monkeypatch):
    monkeypatch.setenv("HOME", str(file.parent))
    assert decode("~/cat.png").shape == (3, 30, 40)
    file.rename(file.parent / "~cat.png")
    monkeypatch.chdir(file.parent)
    assert decode("~cat.png").shape == (3, 30, 40)  # nobody is called cat


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        ("https://example.com/cat.jpg", "https://example.com/cat.jpg is an address.*fetch it"),
        ("s3://bucket/cat.jpg", "is an address"),
        ("data:image/png;base64,iVBORw0K", "is an address"),
        (np.zeros((30, 40, 3)), r"not float64 \[30, 40, 3\]; values of 0 to 1 are to be"),
        (np.zeros((3, 30, 40), dtype=np.uint8), r"uint8 \[height, width, 3\], not uint8 \[3, 30"),
        (np.zeros((0, 40, 3), dtype=np.uint8), r"not uint8 \[0, 40, 3\]"),
        (np.zeros((30, 40), dtype=bool), "not bool"),
        (
            torch.zeros(3, 30, 40),
            r"UInt8\[3, height, width\], not torch.float32.*by 255",
        ),
        (torch.zeros(30, 40, 3, dtype=torch.uint8), r"UInt8\[3, height, width\], not torch.uint8"),
        (io.StringIO("text"), "open it in binary mode"),
        ("", "the picture's path is empty"),
        (None, "not NoneType"),
        (7, "not int"),
        ({"image": "cat.jpg"}, "not dict"),
    ],
)
def test_what_is_no_picture_is_said_in_one_sentence(picture, said):
    with pytest.raises(ImageError, match=said):
        opened(picture)


def test_a_file_that_was_read_before_is_empty(file):
    read = io.BytesIO(file.read_bytes())
    decode(read)
    with pytest.raises(ImageError, match=r"the picture is empty \(0 bytes\)"):
        decode(read)


def test_several_are_several():
    levels = np.zeros((2, 30, 40, 3), dtype=np.uint8)
    for several in (levels, list(levels), torch.zeros(2, 3, 9, 9), ["a.jpg"], np.array(["a", "b"])):
        assert not is_picture(several)
