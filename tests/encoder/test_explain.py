"""`Encoder.explain` and what lies beneath it."""

import pytest
import torch

from diptych.encoder import attention_weights, patch_features
from diptych.errors import ImageError
from tests import tiny


def test_maps_are_cosines_of_patches_and_texts_one_picture_or_several():
    encoder, texts = tiny.encoder(), ["a red picture", "a blue one"]
    red, blue = tiny.picture("red"), tiny.picture("blue")
    one, two = encoder.explain(red, texts), encoder.explain([red, blue], texts, batch_size=1)
    assert (one.shape, two.shape) == ((2, 3, 3), (2, 2, 3, 3))
    assert torch.allclose(two[0], one, atol=1e-6)
    patches = patch_features(encoder, [red, blue])
    assert torch.allclose(patches.norm(dim=-1), torch.ones(2, 3, 3), atol=1e-5)
    wanted = torch.einsum("prcw,tw->ptrc", patches, encoder.embed_texts(texts))
    assert torch.allclose(two, wanted, atol=1e-5)
    assert encoder.explain([], texts).shape[:2] == (0, 2)


def test_the_model_is_left_as_it_was():
    encoder = tiny.encoder()
    encoder.model.train()
    try:
        found = encoder.explain(tiny.picture("red"), "red")
        assert encoder.model.training
        assert not found.requires_grad
        assert all(parameter.grad is None for parameter in encoder.model.parameters())
    finally:
        encoder.model.eval()


def test_a_picture_that_can_not_be_read_is_named_or_left_out(tmp_path):
    bad, missed = tmp_path / "bad.png", []
    bad.write_bytes(b"no picture")
    pictures = [tiny.picture("red"), bad]
    with pytest.raises(ImageError, match="bad.png"):
        tiny.encoder().explain(pictures, "red")
    maps = tiny.encoder().explain(
        pictures, "red", unreadable=lambda place, error: missed.append(place)
    )
    assert (maps.shape, missed) == ((1, 1, 3, 3), [1])


def test_attention_weights_are_of_one_picture():
    layers = attention_weights(tiny.encoder(), tiny.picture("red"))
    assert len(layers) == len(tiny.model().image.blocks)
    for layer in layers:
        assert torch.allclose(layer.sum(-1), torch.ones(layer.shape[:2]), atol=1e-5)
