"""Which caption fits."""

import torch

from diptych.evaluation.choice import choice, paired


def test_the_fitting_caption_must_be_strictly_nearest():
    images, captions = torch.eye(3)[[0, 0, 0]], torch.eye(3)[[0, 1, 1, 0, 0, 0]]
    assert choice(images, captions, [2, 2, 2], [0, 0, 0]).tolist() == [True, False, False]
    assert choice(images, captions, [2, 2, 2], [0, 1, 1]).tolist() == [True, True, False]


def test_more_wrong_captions_than_one():
    images, captions = torch.eye(4)[:2], torch.eye(4)[[2, 0, 3, 3, 2]]
    assert choice(images, captions, [3, 2], [1, 0]).tolist() == [True, False]


def test_winogrounds_three_scores_by_hand():
    # Pair 0 is right. In pair 1 every picture finds its caption, but caption 1 doesn't find its picture.
    s = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.7], [0.1, 0.5]]])
    images, captions = torch.eye(2).expand(2, 2, 2), s.transpose(1, 2)
    torch.testing.assert_close(images @ captions.transpose(1, 2), s)
    assert paired(images, captions) == {"text": 1.0, "image": 0.5, "group": 0.5}
