"""Probabilities and class indices of logits."""

import torch

from utils.inference.logits import class_indices, class_probabilities


def test_threshold_acts_on_one_and_two_classes_and_not_on_more():
    one = torch.tensor([[[[0.3, 0.6, 0.8]]]])
    two = torch.cat([1 - one, one], dim=1)
    for probabilities in (one, two):
        assert class_indices(probabilities).tolist() == [[[0, 1, 1]]]
        assert class_indices(probabilities, 0.7).tolist() == [[[0, 0, 1]]]
    three = torch.tensor([0.5, 0.3, 0.2]).view(1, 3, 1, 1)
    assert class_indices(three, 0.1).tolist() == [[[0]]]


def test_probabilities_are_float32_and_sum_to_one():
    logits = torch.randn(2, 3, 4, 5).bfloat16()
    probabilities = class_probabilities(logits)
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, 4, 5))
    assert class_probabilities(torch.zeros(1, 1, 1, 1)).item() == 0.5
