"""The decoder's coarser levels have losses of their own, by projections that are never trained."""

import math
from functools import partial

import pytest
import torch
from drawing import data_set
from running import run_train

from unet import UNet
from utils.masks.encoding import IGNORE
from utils.runtime.precision import MixedPrecision
from utils.training.optimization.deep_supervision import DeepSupervision
from utils.training.optimization.guard import StepGuard
from utils.training.optimization.loss import segmentation_loss, sum_totals
from utils.training.step import TrainStep

CROSS_ENTROPY = partial(segmentation_loss, dice=False)


def step_of(model, supervised):
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    step = TrainStep(model, optimizer, MixedPrecision(torch.device('cpu'), False), StepGuard(model))
    if supervised:
        step.supervision = DeepSupervision(model, step.criterion)
    return step


@pytest.mark.parametrize('size', [(64, 96), (95, 67)])
@pytest.mark.parametrize('bilinear', [False, True])
def test_every_level_gives_the_logits_and_the_maps_of_half_a_quarter_and_an_eighth(size, bilinear):
    model = UNet(3, 4, bilinear, base_channels=4)
    images = torch.rand(2, 3, *size)
    logits, *maps = model(images, every_level=True)
    assert [tuple(each.shape[2:]) for each in maps] == [
        (size[0] // 2**k, size[1] // 2**k) for k in (1, 2, 3)
    ]
    assert [each.shape[1] for each in maps] == [model.widths[k] for k in (18, 15, 12)]
    assert torch.equal(model.eval()(images), model(images, every_level=True)[0])
    assert logits.shape == (2, 4, *size)


@pytest.mark.parametrize(('classes', 'uncertain'), [(1, math.log(2)), (4, math.log(4))])
def test_maps_that_tell_nothing_cost_the_weight_times_the_entropy(classes, uncertain):
    model = UNet(1, classes, base_channels=4)
    supervision = DeepSupervision(model, CROSS_ENTROPY)
    masks = torch.randint(0, max(2, classes), (2, 64, 64))
    maps = [torch.zeros(2, model.widths[k], s, s) for k, s in ((18, 32), (15, 16), (12, 8))]
    loss = supervision(supervision.scores(maps), masks, sum_totals([(masks,)]))
    assert loss.item() == pytest.approx(0.7 * uncertain)


def test_a_level_is_scored_by_every_second_fourth_and_eighth_pixel_that_counts():
    supervision = DeepSupervision(UNet(1, 2, base_channels=4), CROSS_ENTROPY)
    masks = torch.full((1, 64, 64), IGNORE)
    masks[:, ::8, ::8] = 1
    sure = [torch.zeros(1, 2, s, s) for s in (32, 16, 8)]
    for level, step in zip(sure, (4, 2, 1), strict=True):
        level[:, 1, ::step, ::step] = 50.0  # right where masks count, unsure elsewhere
    totals = sum_totals([(masks,)])
    assert supervision(sure, masks, totals).item() == pytest.approx(0, abs=1e-6)
    sure[2].neg_()  # the coarsest level alone: 64 pixels, and so many of 64 count in the image
    share = (1 / 4 + 1 / 16 + 1 / 64) * 64
    assert supervision(sure, masks, totals).item() == pytest.approx(0.7 * 50 * 64 / share)


def test_features_learn_where_the_last_layer_tells_them_nothing():
    torch.manual_seed(0)
    batch = torch.rand(1, 3, 32, 32), torch.randint(0, 2, (1, 32, 32))
    moved = {}
    for supervised in (False, True):
        model = UNet(3, 2, base_channels=4).train()
        torch.nn.init.zeros_(model.outc.conv.weight)
        step_of(model, supervised)([batch], 1)
        moved[supervised] = model.up1.up.weight.grad.abs().max().item()
    assert moved[False] == 0 < moved[True]


def test_the_reported_loss_is_that_of_the_network_alone():
    batch = torch.rand(2, 3, 48, 32), torch.randint(0, 2, (2, 48, 32))
    losses = []
    for supervised in (False, True):
        torch.manual_seed(0)
        losses.append(step_of(UNet(3, 2, base_channels=4).train(), supervised)([batch], 2)[0])
    assert torch.equal(*losses)


def test_projections_are_the_same_in_every_process_of_length_one_and_blind_to_the_mean():
    first, second = (DeepSupervision(UNet(3, 3, base_channels=8), CROSS_ENTROPY) for _ in range(2))
    for one, other in zip(first.projections, second.projections, strict=True):
        assert torch.equal(one, other)
        assert not one.requires_grad
        torch.testing.assert_close(one.square().sum((1, 2, 3)), torch.ones(3))
        torch.testing.assert_close(one.sum((1, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)


def test_new_networks_of_the_fast_recipe_are_supervised(folder, monkeypatch):
    found = []
    plain = TrainStep.__call__

    def watch(step, *args, **options):
        found.append(step.supervision is not None)
        return plain(step, *args, **options)

    monkeypatch.setattr(TrainStep, '__call__', watch)
    data_set(folder, 4)
    for options, supervised in [
        ('', True), ('--resume -e 2', True), ('--load checkpoints/last.pth --output b', False),
        ('--padding valid --output c', False), ('--recipe classic --output d', False),
    ]:  # fmt: skip
        found.clear()
        assert run_train('-e', '1', *options.split()) == 0
        assert set(found) == {supervised}, options
