"""The Encoder against its parts used one by one."""

import copy
import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from diptych import models, pretrained
from diptych.encoder import Encoder
from diptych.encoder.identity import fingerprint
from diptych.errors import ConfigError, ImageError, TruncationWarning
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore::diptych.errors.TruncationWarning")

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
    shapes, computed = [], []
    encode = encoder.model.encode_text

    def look(ids, lengths):
        shapes.append(tuple(ids.shape))
        return encode(ids, lengths=lengths)

    monkeypatch.setattr(encoder.model, "encode_text", look)
    encoder.embed_texts(["a", "one two three four", "b", "five six seven eight"], batch_size=2)
    assert shapes == [(2, 6), (2, 3)]
    # A batch holds a few thousand tokens at the most, whatever `batch_size` allows, and is not
    # computed as long as its longest text.
    long, short = "one two three four " * 10, "one two three four five six seven eight nine"
    texts = [long, *[short] * 139]
    hook = encoder.model.text.blocks[0].register_forward_hook(
        lambda block, given, made: computed.append(len(given[0]))
    )
    shapes.clear()
    vectors = encoder.embed_texts(texts, batch_size=1000)
    hook.remove()
    assert shapes == [(128, 32), (12, 11)]
    # Groups of 4 rows: the longest text stands among 3 others that are computed as long.
    assert computed == [4 * 32 + 124 * 16, 12 * 11]
    torch.testing.assert_close(vectors[0], encoder.embed_texts(long)[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(vectors[7], encoder.embed_texts(short)[0], atol=1e-6, rtol=0)


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


def test_classes_with_prompts_of_their_own_and_scores_that_are_asked_for(encoder):
    prompts, image = {"cat": ["a cat", "a kitten"], "dog": ["a dog"]}, tiny.picture("red")
    found = encoder.classify(image, prompts, scores="cosine")
    cat = encoder.embed_texts(prompts["cat"]).mean(0)
    assert list(found) == ["cat", "dog"]
    assert found["cat"] == pytest.approx(
        float(encoder.embed_images(image)[0] @ cat / cat.norm()), abs=1e-6
    )
    with pytest.raises(ConfigError, match="wasn't trained with a sigmoid loss"):
        encoder.classify(image, prompts, scores="sigmoid")
    with pytest.raises(ConfigError, match="'dog' has no prompts"):
        encoder.classify(image, prompts | {"dog": []})
    biased = Encoder(models.build(replace(pretrained.get("tiny"), logit_bias=-1.0)))
    cosines, scale = torch.tensor([[0.1, 0.3]]), biased.model.logit_scale.exp().item()
    expected = torch.sigmoid(scale * cosines - 1)
    torch.testing.assert_close(biased.scores(cosines, "sigmoid"), expected)
    assert biased.scores(cosines, "softmax").sum().item() == pytest.approx(1)


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


LONG = "a very long caption of many words " * 20


def test_texts_beyond_the_context_are_counted_in_a_warning(encoder):
    with pytest.warns(TruncationWarning, match="2 of 3 texts are longer than the context of"):
        vectors = encoder.embed_texts([LONG, "a cat", LONG + "again"])
    torch.testing.assert_close(vectors[0], vectors[2])  # which is why it has to be said
    with pytest.warns(TruncationWarning, match=r"1 of 2 texts is longer .* 'a very long caption"):
        encoder.classify(grey(), [LONG, "a cat"])
    torch.testing.assert_close(encoder.embed_texts(["a cat"])[0], vectors[1])  # and nothing is said


def grey() -> torch.Tensor:
    return torch.full((3, 60, 80), 128, dtype=torch.uint8)


def test_pictures_in_the_forms_of_other_libraries(encoder):
    levels = np.random.default_rng(0).integers(0, 256, (2, 50, 60, 3), dtype=np.uint8)
    expected = encoder.embed_images(torch.from_numpy(levels).permute(0, 3, 1, 2))
    files = []
    for each in levels:
        files.append(io.BytesIO())
        Image.fromarray(each).save(files[-1], "png")
    for images in (levels, list(levels), tuple(levels), (each for each in levels)):
        assert torch.equal(encoder.embed_images(images), expected)
    for file in files:
        file.seek(0)
    assert torch.equal(encoder.embed_images(files), expected)
    torch.testing.assert_close(encoder.embed_images(levels[0]), expected[:1])
    assert encoder.embed_images([]).shape == encoder.embed_texts([]).shape == (0, encoder.width)
    assert encoder.embed_images(iter(())).shape == (0, encoder.width)


def test_names_in_the_forms_of_other_libraries(encoder):
    expected = encoder.classify(grey(), ["cat", "dog"], ["a {}"])
    for names in (("cat", "dog"), np.array(["cat", "dog"]), {"cat": 0, "dog": 1}.keys()):
        found = encoder.classify(grey(), list(names), ("a {}",))
        assert found == expected
    assert encoder.classify(grey(), np.array(["cat", "dog"]), "a {}") == expected
    with pytest.raises(ConfigError, match="names is one text, 'cat'; give a list of names"):
        encoder.classify(grey(), "cat")
    with pytest.raises(ConfigError, match="names is a set, and rows have an order: give a list"):
        encoder.classify(grey(), {"cat", "dog"})
    with pytest.raises(ConfigError, match="texts is a dict"):
        encoder.embed_texts({"a cat": 1})


def test_features_can_be_trained_on(encoder):
    pixels = torch.stack([encoder.preprocess.pixels(grey())] * 2)
    for features in (
        encoder.image_features(pixels),
        encoder.embed_images([grey()]),
        encoder.embed_texts(["a cat"]),
    ):
        layer = torch.nn.Linear(features.shape[1], 2)
        layer(features).sum().backward()
        assert layer.weight.grad is not None


def test_a_model_in_double_precision(encoder):
    before = encoder.embed_images([grey()]), encoder.embed_texts(["a cat"])
    encoder = Encoder(copy.deepcopy(encoder.model).double())
    assert encoder.dtype == "float64"
    assert encoder.identity.dtype == "float64"
    torch.testing.assert_close(encoder.embed_images([grey()]), before[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder.embed_texts(["a cat"]), before[1], rtol=1e-4, atol=1e-5)
