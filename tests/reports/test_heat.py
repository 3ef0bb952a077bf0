"""Heat maps over their pictures."""

import torch

from diptych.reports.heat import overlay


def test_a_map_covers_its_picture_whatever_the_shape():
    shapes = [(3, 8, 8), (3, 4, 20)]
    pictures = [torch.zeros(shape, dtype=torch.uint8) for shape in shapes]
    figure = overlay(pictures, torch.rand(2, 1, 3, 3), ["a"], ["x.png", "y.png"])
    for (_, height, width), axis in zip(shapes, figure.axes[1::2], strict=True):
        picture, laid_over = axis.images
        assert [*laid_over.get_extent()] == [*picture.get_extent()]
        assert [*picture.get_extent()] == [-0.5, width - 0.5, height - 0.5, -0.5]
