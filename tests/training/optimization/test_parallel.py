"""Ranks train as one process that accumulates as many micro-batches, whatever the epoch's end."""

import os
from functools import partial

import pytest
import torch
import torch.distributed as dist
from launching import run_together

from unet import UNet
from utils.data.dataloader import ShuffledBatchSampler, pad_micro_batches
from utils.masks.encoding import IGNORE
from utils.runtime import distributed
from utils.runtime.precision import MixedPrecision
from utils.training import step as step_module
from utils.training.optimization.deep_supervision import DeepSupervision
from utils.training.optimization.guard import StepGuard
from utils.training.optimization.loss import segmentation_loss, sum_totals
from utils.training.optimization.parallel import Replica
from utils.training.optimization.recipes import RECIPES
from utils.training.resume import plan_steps
from utils.training.state import TrainState
from utils.training.step import StepRunner, TrainStep

CPU = torch.device('cpu')
WEIGHTS = torch.tensor([0.3, 2.0, 5.0], dtype=torch.float64)
# Recipe, images in an epoch, images in a micro-batch, micro-batches of each rank, and options.
# With 2 ranks, the last step gives rank 1 an image less, none, or a filler as its second
# micro-batch; with 4 ranks, 3 have a filler.
CASES = {
    'fast': ('fast', 7, 2, 1, {}),
    'fast with a filler': ('fast', 5, 2, 1, {}),
    'fast, accumulated, class weights': ('fast', 7, 1, 2, {'class_weights': WEIGHTS}),
    'classic': ('classic', 5, 1, 1, {}),
    'classic, binary': ('classic', 7, 2, 1, {'n_classes': 1}),
    'paper': ('paper', 5, 1, 1, {}),
    'BatchNorm': ('classic', 5, 2, 1, {'norm': 'batch'}),
}


def items(count, border, side):
    """Images and masks of which 5 % to 100 % are ignored, as the dataloader gives them."""
    generator = torch.Generator().manual_seed(5)
    draw = partial(torch.randint, generator=generator, dtype=torch.uint8)
    for k in range(count):
        mask = draw(0, 3, (side, side))
        share = (0.05, 0.96, 0.5, 1.0, 0.2)[k % 5]
        mask[torch.rand(side, side, generator=generator) < share] = IGNORE
        item = {'image': draw(0, 255, (1, side, side)), 'mask': mask}
        yield item | ({'border': draw(0, 255, (side, side))} if border else {})


def run_of(case, world_size=1):
    """Return the runner of a case, its sampler and its items; on one process it accumulates."""
    name, count, batch_size, accumulate, options = CASES[case]
    recipe, n_classes = RECIPES[name], options.get('n_classes', 3)
    valid = name == 'paper'
    torch.manual_seed(3)
    model = UNet(1, n_classes, base_channels=2, norm=options.get('norm', 'none'),
                 padding='valid' if valid else 'same').double().train()  # fmt: skip
    optimizer = recipe.optimizer(model, recipe.learning_rate)
    together = distributed.world_size()
    step = TrainStep(Replica(model) if together > 1 else model, optimizer,
                     MixedPrecision(CPU, amp=False), StepGuard(model))  # fmt: skip
    weights = options.get('class_weights')
    kind = recipe.dice_loss
    step.criterion = partial(
        segmentation_loss, class_weights=weights, per_class=kind == 'per-class', dice=kind != 'none'
    )
    step.sum_totals = partial(sum_totals, class_weights=weights)
    if recipe.deep_supervision:
        step.supervision = DeepSupervision(model, step.criterion)
    accumulate *= world_size // together
    sampler = ShuffledBatchSampler(
        list(range(count)), batch_size, 1, accumulate, distributed.rank(), together
    )
    schedule = recipe.schedule(optimizer, plan_steps(2, len(sampler), None))
    state = TrainState(model, optimizer, schedule, step.precision, len(sampler))
    return StepRunner(state, step, sampler, 0, 1.0, recipe.coarse), list(
        items(count, recipe.weight_map, 20 if valid else 64)
    )


def train_case(case, world_size=1):
    """Return the losses of two epochs, weights and running statistics, and the agreed flags."""
    runner, data = run_of(case, world_size)
    losses, flags = [], []
    for epoch in (1, 2):
        runner.sampler.epoch = epoch
        for pairs in runner.sampler:
            batch = pad_micro_batches([data[k] for _, k in pairs], runner.sampler.batch_size)
            losses.append(runner.run_step(batch)[0])
            mine = distributed.rank() + 1 if len(losses) <= 2 else 0  # until all know
            flags.append(runner.agree(mine, 0))
        runner.state.end_epoch()
    model = runner.state.model
    running = [b for b in model.buffers() if b.is_floating_point()]
    return torch.stack(losses), [p.detach() for p in model.parameters()], running, flags


def doubled(batch, device):
    return batch['image'].double() / 255, batch['mask']


def collect(rank, world_size):
    step_module.to_device = doubled
    with distributed.process_group():
        found = {case: train_case(case, world_size) for case in CASES}
        if world_size == 2:
            found['order'] = order_of_events()
    torch.save(found, f'found{rank}.pt')


def order_of_events():
    """Note when buckets are sent, and when the first convolution's gradient is there."""
    runner, _ = run_of('fast', 2)
    model = UNet(1, 2, base_channels=16)
    step = TrainStep(Replica(model), torch.optim.SGD(model.parameters(), 0.0),
                     runner.step.precision, StepGuard(model))  # fmt: skip
    events, send = [], dist.all_reduce
    dist.all_reduce = lambda *a, **o: events.append('bucket') or send(*a, **o)
    gather = dist.all_gather
    dist.all_gather = lambda *a, **o: events.append('numbers') or gather(*a, **o)
    model.register_forward_pre_hook(lambda *_: events.append('forward'))
    next(model.parameters()).register_post_accumulate_grad_hook(lambda _: events.append('first'))
    batch = torch.rand(1, 1, 32, 32), torch.zeros(1, 32, 32, dtype=torch.uint8)
    for _ in range(3):  # DDP forms its buckets in the first step, in the order of gradients
        events.clear()
        step([batch, batch], 4)
    return events


@pytest.fixture(scope='module', params=[2, pytest.param(4, marks=pytest.mark.slow)])
def ranks(request, tmp_path_factory):
    """Return what each of several ranks has found."""
    folder = tmp_path_factory.mktemp('ranks')
    before = os.getcwd()  # noqa: PTH109
    os.chdir(folder)
    try:
        codes = run_together(partial(collect, world_size=request.param), folder, request.param)
    finally:
        os.chdir(before)
    assert codes == [0] * request.param, (folder / 'err0').read_text()
    return [torch.load(folder / f'found{rank}.pt') for rank in range(request.param)]


@pytest.mark.parametrize('case', [name for name in CASES if name != 'BatchNorm'])
def test_ranks_train_as_one_process_that_accumulates_as_many(ranks, case, monkeypatch):
    monkeypatch.setattr(step_module, 'to_device', doubled)
    losses, weights, _, _ = train_case(case, len(ranks))
    for found in ranks:
        torch.testing.assert_close(found[case][0], losses, rtol=1e-9, atol=0)
        torch.testing.assert_close(found[case][1], weights, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('case', CASES)
def test_losses_weights_and_running_statistics_are_equal_on_all_ranks(ranks, case):
    for found in ranks[1:]:
        for one, other in zip(found[case][:3], ranks[0][case][:3], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_flag_of_one_rank_is_known_to_all_a_step_later_and_once(ranks):
    for found in ranks:
        *_, flags = found['classic']
        assert flags[:2] == [[0, 0], [len(ranks), 0]]
        assert not any(map(any, flags[2:]))


def test_a_step_gathers_numbers_once_and_sends_buckets_while_the_gradients_are_computed(ranks):
    if len(ranks) > 2:
        pytest.skip('looked at with two ranks')
    for found in ranks:
        events = found['order']
        assert events.count('numbers') == 1
        assert events[:3] == ['numbers', 'forward', 'first']  # nothing is sent after this one
        last = events[3:]
        assert last[0] == 'forward'
        assert 1 <= last[: last.index('first')].count('bucket') < last.count('bucket')


def test_a_filler_changes_no_running_statistics():
    """A step on one image and a filler leaves those of the image alone."""
    found = []
    image, mask = torch.rand(2, 1, 32, 32), torch.zeros(2, 32, 32, dtype=torch.uint8)
    for filler in (False, True):
        torch.manual_seed(0)
        model = UNet(1, 2, base_channels=2).train()
        step = TrainStep(model, torch.optim.SGD(model.parameters(), 0.1),
                         MixedPrecision(CPU, amp=False), StepGuard(model))  # fmt: skip
        batches = [(image, torch.full_like(mask, IGNORE))] * filler + [(image.flip(1) / 2, mask)]
        step(batches, 2, None, tuple, filler)
        found.append(model.state_dict())
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-7)


def compiled_step(rank):
    """Save the weights after three steps of a compiled replica, and of one that is not."""
    found = []
    with distributed.process_group():
        for compiled in (False, True):
            torch.manual_seed(0)
            model = UNet(1, 2, base_channels=2)
            network = Replica(model)
            if compiled:  # without a C++ compiler; what it compiles is torch's affair
                network = torch.compile(network, dynamic=False, backend='eager')
            step = TrainStep(network, torch.optim.SGD(model.parameters(), 0.1),
                             MixedPrecision(CPU, amp=False), StepGuard(model))  # fmt: skip
            generator = torch.Generator().manual_seed(rank)
            for _ in range(3):
                images = torch.rand(2, 1, 32, 32, generator=generator)
                masks = (images[:, 0] > 0.5).to(torch.uint8)
                step([(images, masks), (1 - images, masks)], 8)
            found.append(model.state_dict())
    torch.save(found, f'found{rank}.pt')


@pytest.mark.slow
def test_a_compiled_replica_makes_the_same_steps_under_the_same_names(folder):
    assert run_together(compiled_step, folder) == [0, 0]
    plain, compiled = torch.load(folder / 'found1.pt')
    torch.testing.assert_close(compiled, plain, rtol=1e-5, atol=1e-6)
    assert list(compiled) == list(UNet(1, 2, base_channels=2).state_dict())
