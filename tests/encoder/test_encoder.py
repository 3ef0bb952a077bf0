"""The Encoder against its parts used one by one."""

import io
import math

import pytest
import torch
from torch.nn.functional import normalize

from diptych import models, pretrained
from diptych.encoder import Encoder
from diptych.encoder.encoder import fingerprint
from diptych.errors import ConfigError, ImageError
from tests import tiny

TEXTS = [
    "a cat",
    "",
    "a much longer caption about a small red three left of a large blue one",
    "dogs",
    "x " * 100,
]


@pytest.fixture
def encoder() -> Encoder:
    return tiny.encoder()


def by_hand(encoder: Encoder, image) -> torch.Tensor:
    with torch.no_grad():
        return normalize(encoder.model.encode_image(encoder.preprocess(image)[None]), dim=-1)[0]


def test_pictures_in_any_form(encoder, tmp_path):
    image = tiny.picture("red")
    image.save(tmp_path / "red.png")
    pixels = (
        torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        .view(30, 40, 3)
        .permute(2, 0, 1)
    )
    stream = io.BytesIO()
    image.save(stream, "PNG")
    forms = [image, tmp_path / "red.png", str(tmp_path / "red.png"), stream.getvalue(), pixels]
    expected = by_hand(encoder, image)
    together = encoder.embed_images(forms)
    assert together.shape == (5, encoder.width)
    for form, row in zip(forms, together):
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(encoder.embed_images(form), expected[None], atol=1e-5, rtol=0)


def test_batches_and_iterators_change_nothing(encoder):
    images = [tiny.picture(colour, seed) for seed in range(3) for colour in tiny.COLOURS]
    expected = torch.stack([by_hand(encoder, image) for image in images])
    for batch_size in (1, 5, 32):
        found = encoder.embed_images(iter(images), batch_size=batch_size)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert encoder.embed_images([]).shape == (0, encoder.width)


def test_vectors_are_plain_unit_float32(encoder):
    for vectors in (encoder.embed_images(tiny.picture("red")), encoder.embed_texts(TEXTS)):
        assert vectors.dtype == torch.float32
        assert vectors.device.type == "cpu"
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(len(vectors)))
        weight = torch.ones(encoder.width, requires_grad=True)
        (vectors * weight).sum().backward()  # a probe can be trained on them


@pytest.mark.parametrize("batch_size", [1, 2, 256])
def test_texts_sorted_by_length_come_back_in_order(encoder, batch_size):
    with torch.no_grad():
        expected = torch.cat(
            [
                encoder.model.encode_text(encoder.tokenizer(text, pad_to=32), normalize=True)
                for text in TEXTS
            ]
        )
    torch.testing.assert_close(encoder.embed_texts(TEXTS, batch_size), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.embed_texts(TEXTS[0]), expected[:1], atol=1e-5, rtol=0)
    assert encoder.embed_texts([]).shape == (0, encoder.width)


def test_little_padding_is_computed(encoder, monkeypatch):
    shapes = []
    encode = encoder.model.encode_text
    monkeypatch.setattr(
        encoder.model, "encode_text", lambda ids: shapes.append(tuple(ids.shape)) or encode(ids)
    )
    encoder.embed_texts(["a", "one two three four", "b", "five six seven eight"], batch_size=2)
    assert shapes == [(2, 6), (2, 3)]


def test_a_bad_picture_is_named(encoder, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff no")
    for path in (tmp_path / "bad.jpg", tmp_path / "absent.jpg", tmp_path):
        with pytest.raises(ImageError, match=str(path)):
            encoder.embed_images([tiny.picture("red"), path])
    with pytest.raises(ImageError, match="picture 1: "):
        encoder.embed_images([tiny.picture("red"), b"nothing"])


def test_bad_pictures_can_be_left_out(encoder):
    reported = []
    images = [b"", tiny.picture("red"), b"nothing", tiny.picture("blue")]
    vectors = encoder.embed_images(
        images, unreadable=lambda place, error: reported.append((place, type(error)))
    )
    assert reported == [(0, ImageError), (2, ImageError)]
    torch.testing.assert_close(vectors[1], by_hand(encoder, images[3]), atol=1e-5, rtol=0)


def test_probabilities_by_hand(encoder):
    names, image = ["cat", "dog", "a {}"], tiny.picture("red")
    texts = encoder.embed_texts([f"a photo of a {name}." for name in names])
    logits = math.exp(encoder.model.logit_scale.item()) * texts @ encoder.embed_images(image)[0]
    found = encoder.classify(image, names, ["a photo of a {}."])
    assert list(found) == names
    assert list(found.values()) == pytest.approx(logits.softmax(0).tolist(), abs=1e-6)
    several = encoder.classify([image, image], names, ["a photo of a {}."])
    assert several == [pytest.approx(found, abs=1e-6)] * 2
    with pytest.raises(ConfigError, match="twice"):
        encoder.classify(image, ["cat", "cat"])


def test_a_model_in_training_is_measured_in_evaluation_mode_and_given_back():
    """Batch statistics of the training mode would make a picture's vector depend on its
    neighbours."""
    torch.manual_seed(0)
    model = models.build(pretrained.get("tiny"))
    model.train()
    model.image.eval()  # as a frozen tower may be
    modes = [module.training for module in model.modules()]
    encoder = Encoder(model)
    images = [tiny.picture(colour) for colour in tiny.COLOURS]
    alone, together = encoder.embed_images(images[0]), encoder.embed_images(images)
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=0)
    assert [module.training for module in model.modules()] == modes


def test_not_finite_vectors_are_refused():
    model = models.build(pretrained.get("tiny"))
    model.text.projection.weight.data.fill_(float("nan"))
    with pytest.raises(ConfigError, match="not finite in fp32"):
        Encoder(model, name="bad").embed_texts("a cat")


def test_the_fingerprint_is_of_weights_and_configuration():
    first, same, other = (Encoder(tiny.model(seed)) for seed in (0, 0, 1))
    assert first.identity == same.identity
    assert first.identity.fingerprint != other.identity.fingerprint
    half = Encoder(models.build(pretrained.get("tiny"), dtype=torch.bfloat16))
    assert half.dtype == half.identity.dtype == "bf16"


def test_progress_is_drawn_on_stderr(encoder, capsys):
    encoder.embed_images([tiny.picture("red")] * 3, batch_size=2, progress=True)
    encoder.embed_texts(["a", "b"], progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "3/3" in err
    assert "2/2" in err


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("tiny", "03780ff846eb3039"),
        ("vit-b-32", "be3f708727710b59"),
        ("eva02-clip-l-14", "0a8c4b0e11ded50e"),
        ("rn50-quickgelu", "8c368c8e14fbffc3"),
    ],
)
def test_fingerprints_are_those_of_older_versions(name, start):
    """An index made when configurations had training knobs is still of this model."""
    assert fingerprint(pretrained.get(name), {}).startswith(start)
