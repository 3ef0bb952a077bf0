"""Patches as one product against a convolution; the stem; patch dropout."""

import torch
import torch.nn.functional as F

from diptych.nn import ConvStem, PatchDropout, PatchEmbedding


def test_patches_equal_a_strided_convolution():
    torch.manual_seed(0)
    patch, x = PatchEmbedding(3, 10, kernel_size=4, stride=4), torch.randn(2, 3, 12, 8)
    expected = F.conv2d(x, patch.weight, patch.bias, stride=4)
    torch.testing.assert_close(patch(x), expected)
    torch.testing.assert_close(patch(x.contiguous(memory_format=torch.channels_last)), expected)


def test_tokens_are_had_without_a_copy():
    patch, x = PatchEmbedding(3, 10, kernel_size=4, stride=4), torch.randn(2, 3, 12, 8)
    grid = patch(x)
    tokens = grid.flatten(2).transpose(1, 2)
    assert tokens.shape == (2, 6, 10)
    assert tokens.is_contiguous()
    assert tokens.data_ptr() == grid.data_ptr()


def test_patches_that_overlap_are_a_convolution():
    patch, x = PatchEmbedding(3, 10, 4, stride=2, padding=1, bias=False), torch.randn(2, 3, 12, 8)
    assert torch.equal(patch(x), F.conv2d(x, patch.weight, stride=2, padding=1))


def test_stem_is_convolution_norm_relu():
    torch.manual_seed(0)
    stem, x = ConvStem((4, 6)).eval(), torch.randn(2, 3, 16, 16)
    y = x
    for layer in stem:
        y = layer.norm(F.conv2d(y, layer.conv.weight, stride=2, padding=1)).clamp(min=0)
    torch.testing.assert_close(stem(x), y)


def test_patch_dropout_keeps_whole_patches_of_its_row():
    torch.manual_seed(0)
    drop, x = PatchDropout(0.75), torch.randn(3, 16, 5)
    kept = drop(x)
    assert kept.shape == (3, 4, 5)
    for row, original in zip(kept, x):
        places = [int((original == patch).all(dim=1).nonzero()) for patch in row]
        assert len(set(places)) == 4
    assert not torch.equal(drop(x), kept)
    assert torch.equal(drop.eval()(x), x)


def test_patch_dropout_keeps_at_least_one():
    assert PatchDropout(0.99)(torch.zeros(1, 4, 2)).shape == (1, 1, 2)
