"""The tiled losses against the equations."""

import contextlib
import itertools
import sys

import pytest
import torch
import torch.nn.functional as F

from diptych.objectives.info_nce import info_nce, tiled_info_nce
from diptych.objectives.sigmoid_loss import sigmoid_loss, tiled_sigmoid_loss
from tests.forked import Script


def features(pairs, width=16, dtype=torch.float64, alike=0.5):
    """Unit rows, of which pairs are alike."""
    images = torch.randn(pairs, width, dtype=dtype)
    texts = alike * images + torch.randn(pairs, width, dtype=dtype)
    return F.normalize(images, dim=1), F.normalize(texts, dim=1)


def value_and_gradients(function, *inputs):
    leaves = [each.detach().clone().requires_grad_() for each in inputs]
    value = function(*leaves)
    value.backward()
    return [value.detach(), *(leaf.grad for leaf in leaves)]


def assert_same(one, other, relative):
    for a, b in zip(one, other, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert (a - b).norm() <= relative * b.norm()


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("pairs", [1, 2, 37])
@pytest.mark.parametrize("tile", [1, 8, 100])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("scale", [1.0, 20.0, 100.0, 3000.0])
def test_tiled_info_nce_is_info_nce(pairs, tile, smoothing, scale):
    inputs = (*features(pairs), torch.tensor([scale], dtype=torch.float64))
    tiled = value_and_gradients(
        lambda *x: tiled_info_nce(*x, label_smoothing=smoothing, tile=tile), *inputs
    )
    whole = value_and_gradients(lambda *x: info_nce(*x, label_smoothing=smoothing), *inputs)
    for a, b in zip(tiled, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("tile", [1, 8, 100])
@pytest.mark.parametrize(("scale", "bias"), [(10.0, -10.0), (1.0, 0.0), (1000.0, 5.0)])
def test_tiled_sigmoid_is_sigmoid(tile, scale, bias):
    inputs = (
        *features(37),
        torch.tensor([scale], dtype=torch.float64),
        torch.tensor([bias], dtype=torch.float64),
    )
    tiled = value_and_gradients(lambda *x: tiled_sigmoid_loss(*x, tile=tile), *inputs)
    assert_same(tiled, value_and_gradients(sigmoid_loss, *inputs), 1e-12)


def test_in_float32_they_agree_to_a_millionth():
    images, texts = features(300, dtype=torch.float32)
    scale, bias = torch.tensor([20.0]), torch.tensor([-10.0])
    whole = value_and_gradients(info_nce, images.double(), texts.double(), scale.double())
    tiled = value_and_gradients(lambda *x: tiled_info_nce(*x, tile=64), images, texts, scale)
    assert_same(tiled, [each.float() for each in whole], 1e-6)
    whole = value_and_gradients(
        sigmoid_loss, images.double(), texts.double(), scale.double(), bias.double()
    )
    tiled = value_and_gradients(
        lambda *x: tiled_sigmoid_loss(*x, tile=64), images, texts, scale, bias
    )
    assert_same(tiled, [each.float() for each in whole], 1e-6)


def test_their_gradients_are_their_slopes():
    inputs = [*features(7, 5), torch.tensor(12.0, dtype=torch.float64)]
    leaves = [each.requires_grad_() for each in inputs]
    assert torch.autograd.gradcheck(
        lambda *x: tiled_info_nce(*x, label_smoothing=0.2, tile=3), leaves
    )
    leaves.append(torch.tensor([-2.0], dtype=torch.float64, requires_grad=True))
    assert torch.autograd.gradcheck(lambda *x: tiled_sigmoid_loss(*x, tile=3), leaves)


def crossed(pairs):
    """Logits from -scale to scale, of which no row, column or tile has the same range."""
    images = F.normalize(torch.randn(pairs, 3), dim=1)
    return images, torch.cat([-images[: pairs // 2], images[pairs // 2 :]])


@pytest.mark.parametrize("scale", [80.0, 100.0, 1e4])
@pytest.mark.parametrize("tile", [1, 5, 64])
def test_logits_may_be_far_apart(scale, tile):
    images, texts = crossed(40)
    value, *gradients = value_and_gradients(
        lambda *x: tiled_info_nce(*x, tile=tile), images, texts, torch.tensor([scale])
    )
    expected, *slopes = value_and_gradients(
        info_nce, images.double(), texts.double(), torch.tensor([scale], dtype=torch.float64)
    )
    assert value.double() == pytest.approx(expected.item(), rel=1e-5)
    # float32 holds a logit to 6e-8 of it, and with it its softmax.
    for mine, true in zip(gradients, slopes, strict=True):
        assert (mine - true).norm() <= 3e-7 * scale * true.norm()


def test_separated_pairs_have_no_loss_and_no_rounding_of_their_logits():
    vectors = F.normalize(torch.randn(300, 256), dim=1)
    value, d_images, d_texts, d_scale = value_and_gradients(
        lambda *x: tiled_info_nce(*x, tile=64), vectors, vectors, torch.tensor([90.0])
    )
    assert value < 1e-12
    assert max(each.abs().max() for each in (d_images, d_texts, d_scale)) < 1e-12


def test_the_sigmoid_loss_is_exact_where_it_is_nearly_straight():
    vector = torch.ones(3, 1, dtype=torch.float64)
    for logit in (19.0, 21.0, 39.0, 41.0):
        inputs = (
            vector,
            vector,
            torch.tensor([logit], dtype=torch.float64),
            torch.zeros(1, dtype=torch.float64),
        )
        assert_same(
            value_and_gradients(tiled_sigmoid_loss, *inputs),
            value_and_gradients(sigmoid_loss, *inputs),
            1e-14,
        )


def test_not_a_number_stays_one():
    images, texts = features(10)
    images[3, 2] = torch.nan
    assert tiled_info_nce(images, texts, torch.tensor(10.0), tile=4).isnan()
    assert tiled_sigmoid_loss(images, texts, torch.tensor(10.0), torch.tensor(0.0), tile=4).isnan()


@pytest.mark.parametrize(
    "wanted", [w for w in itertools.product([False, True], repeat=4) if any(w)]
)
def test_any_subset_of_inputs_may_want_a_gradient(wanted):
    inputs = [
        *features(9),
        torch.tensor([9.0], dtype=torch.float64),
        torch.tensor([-3.0], dtype=torch.float64),
    ]
    full = value_and_gradients(lambda *x: tiled_sigmoid_loss(*x, tile=4), *inputs)[1:]
    leaves = [each.clone().requires_grad_(want) for each, want in zip(inputs, wanted, strict=True)]
    tiled_sigmoid_loss(*leaves, tile=4).backward()
    full_nce = value_and_gradients(lambda *x: tiled_info_nce(*x, tile=4), *inputs[:3])[1:]
    leaves_nce = [
        each.clone().requires_grad_(want) for each, want in zip(inputs[:3], wanted, strict=False)
    ]
    if any(wanted[:3]):
        tiled_info_nce(*leaves_nce, tile=4).backward()
    for leaf, want, gradient in zip(
        leaves + leaves_nce, wanted + wanted[:3], full + full_nce, strict=True
    ):
        if want:
            torch.testing.assert_close(leaf.grad, gradient)
        else:
            assert leaf.grad is None


def test_without_gradient_the_value_is_the_same():
    inputs = [*features(9), torch.tensor(9.0), torch.tensor([-3.0])]
    leaves = [each.requires_grad_() for each in inputs]
    with torch.no_grad():
        for function, arguments in ((tiled_info_nce, leaves[:3]), (tiled_sigmoid_loss, leaves)):
            value = function(*arguments, tile=4)
            assert not value.requires_grad
            assert value == function(*(each.detach() for each in arguments), tile=4)


@pytest.mark.parametrize(
    "context", [contextlib.nullcontext, lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_logits_are_float32_whatever_the_autocast_and_the_features(context):
    images, texts = (each.bfloat16() for each in features(50))
    scale, bias = torch.tensor([50.0]), torch.tensor([-10.0])
    for tiled, whole, rest in (
        (tiled_info_nce, info_nce, (scale,)),
        (tiled_sigmoid_loss, sigmoid_loss, (scale, bias)),
    ):
        true = value_and_gradients(
            whole, images.double(), texts.double(), *(each.double() for each in rest)
        )
        leaves = [each.clone().requires_grad_() for each in (images, texts, *rest)]
        with context():
            value = tiled(*leaves, tile=16)
            value.backward()
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(true[0].item(), rel=1e-6)
        for leaf, gradient in zip(leaves, true[1:], strict=True):
            assert leaf.grad is not None
            assert leaf.grad.dtype == leaf.dtype
            rounding = 3e-3 if leaf.dtype == torch.bfloat16 else 1e-5
            assert (leaf.grad - gradient).norm() <= rounding * gradient.norm()


MEMORY = """
import resource, torch
from diptych.objectives.{module} import {name}
torch.set_num_threads(1)
images, texts = (
    torch.nn.functional.normalize(torch.randn(8192, 16), dim=1).requires_grad_() for _ in range(2)
)
scale = torch.tensor([10.0], requires_grad=True)
def run(pairs):
    {name}(images[:pairs], texts[:pairs], scale{rest}, tile=64).backward()
run(64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(8192)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(
    ("module", "name", "rest"),
    [
        ("info_nce", "tiled_info_nce", ""),
        ("sigmoid_loss", "tiled_sigmoid_loss", ", torch.tensor([-10.0])"),
    ],
)
def test_memory_is_tiles_and_not_the_whole_matrix(module, name, rest):
    code = MEMORY.format(module=module, name=name, rest=rest)
    status, said, errors = Script(code).end()
    assert status == 0, errors
    grown = int(said)
    whole_matrix = 8192 * 8192 * 4
    unit = 1 if sys.platform == "darwin" else 1024
    assert grown * unit < whole_matrix / 8
