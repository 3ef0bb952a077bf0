"""Shapes of signatures are enforced here; what has none is left alone."""

import pytest
import torch
from jaxtyping import TypeCheckError

from diptych.similarity import exact_matrix
from tests.shapes import checked


def test_a_wrong_shape_fails():
    assert exact_matrix(torch.ones(2, 3), torch.ones(4, 3)).shape == (2, 4)
    with pytest.raises(TypeCheckError, match="checking the parameters of diptych.similarity.exact"):
        exact_matrix(torch.ones(2, 3), torch.ones(4, 5))


def test_what_has_no_shape_is_as_it_was():
    def plain(word: str, tensor: torch.Tensor) -> None: ...

    assert checked(plain) is plain
