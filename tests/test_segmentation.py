import math

import torch

from pipelines.metrics.segmentation import MeanIoU


def test_mean_iou_by_hand():
    wanted = torch.tensor([[[0, 1, 1, 2], [0, 0, 1, 2]]])
    predicted = torch.tensor([[[0, 1, 1, 1], [3, 0, 1, 2]]])
    score = MeanIoU(4)
    score.add(predicted, wanted)
    assert score.by_class() == {1: 3 / 4, 2: 1 / 2}  # 3 is not in the truth, 0 is the background
    assert score.value() == 5 / 8


def test_pictures_add_up_and_uncounted_pixels_do_not_count():
    wanted = torch.tensor([[[1, 1, 0, 0]]])
    score = MeanIoU(2)
    score.add(wanted, wanted)
    score.add(1 - wanted, wanted, counted=torch.tensor([[[True, False, False, False]]]))
    assert score.value() == 2 / 3


def test_nothing_wanted_is_not_a_number():
    assert math.isnan(MeanIoU(3).value())
