"""The activations against their formulas, with gradients."""

import pytest
import torch

from diptych.nn import Mlp

FORMULA = {
    "gelu": lambda z: 0.5 * z * (1 + torch.erf(z / 2**0.5)),
    "quick_gelu": lambda z: z * torch.sigmoid(1.702 * z),
}


@pytest.mark.parametrize("activation", FORMULA)
@pytest.mark.parametrize("shape", [(2, 5, 8), (3, 8)])
def test_equals_the_formula(activation, shape):
    torch.manual_seed(0)
    mlp = Mlp(width=8, hidden=32, activation=activation).double()
    x = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(
        mlp(x), mlp.down(FORMULA[activation](mlp.up(x))), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("activation", FORMULA)
def test_gradients_are_numerically_right(activation):
    torch.manual_seed(0)
    mlp = Mlp(width=3, hidden=5, activation=activation).double()
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in mlp.named_parameters()]
    values = tuple(p.detach().clone().requires_grad_() for p in mlp.parameters())
    assert torch.autograd.gradcheck(
        lambda x, *values: torch.func.functional_call(mlp, dict(zip(names, values)), x),
        (x, *values),
    )
