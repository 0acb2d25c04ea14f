"""Two ranks compute what one process does: gradients, running statistics, scores, decisions."""

import json
import os
import time

import pytest
import torch
from drawing import data_set
from launching import run_together
from torch.distributed import PrefixStore, TCPStore

import evaluate
from unet import UNet
from utils.inference.checkpoint import Checkpoint, model_config, save_checkpoint
from utils.masks.encoding import IGNORE
from utils.runtime import devices, distributed
from utils.runtime.cgroups import available_cores
from utils.runtime.devices import choose_device, default_workers
from utils.runtime.errors import UserError
from utils.runtime.precision import MixedPrecision
from utils.training.optimization.batchnorm import reestimate_statistics
from utils.training.optimization.guard import StepGuard
from utils.training.optimization.parallel import Replica
from utils.training.step import TrainStep

CPU = torch.device('cpu')


def small_model():
    torch.manual_seed(3)
    return UNet(3, 2, base_channels=4).double()


def four_images():
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(4, 3, 32, 32, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, 2, (4, 32, 32), generator=generator)


def gradients_of_a_step(batches, whole, training=False, filler=False):
    """Return the clipped gradients of a step of SGD at rate 0; then loss, norm and statistics."""
    model = small_model().train(training)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    network = Replica(model) if distributed.world_size() > 1 else model
    step = TrainStep(network, optimizer, MixedPrecision(CPU, amp=False), StepGuard(model))
    loss, norm = step(batches, whole, None, tuple, filler)
    statistics = [b for b in model.buffers() if b.is_floating_point()]
    return [p.grad for p in model.parameters()], [loss, norm, *statistics]


def assert_close(a, b):
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_gradients_of_accumulated_batches_are_those_of_one_large_batch():
    images, masks = four_images()
    whole = gradients_of_a_step([(images, masks)], 4)
    parts = [(images[:3], masks[:3]), (images[3:], masks[3:])]  # which need different weights
    for one, other in zip(whole, gradients_of_a_step(parts, 4), strict=True):
        assert_close(one, other)


def network_of(path, n_classes=2):
    torch.manual_seed(1)
    model = UNet(3, n_classes, base_channels=2).eval()
    save_checkpoint(Checkpoint(model_config(model), model.state_dict(), [0, 255], 1.0), path)


EVALUATE = ['-m', 'm.pth', '--images', 'imgs', '--masks', 'masks', '--device', 'cpu', '-b', '2']


def collect(rank):
    """Save what the tests below check, on each of two ranks."""
    images, masks = four_images()
    found = {}
    with distributed.process_group():
        found['who'] = (
            distributed.rank(),
            distributed.world_size(),
            distributed.local_world_size(),
        )
        mine = [(images[2 * rank :][:2], masks[2 * rank :][:2])]
        found['even'] = gradients_of_a_step(mine, 4)
        found['trained'] = gradients_of_a_step(mine, 4, training=True)
        counted = masks[:3] if rank == 0 else torch.full_like(masks[:3], IGNORE)
        uneven = [(images[:3], counted)], 3
        found['uneven'] = gradients_of_a_step(*uneven, filler=rank == 1)
        found['filled'] = gradients_of_a_step(*uneven, training=True, filler=rank == 1)
        model = small_model()
        reestimate_statistics(model, distributed.shard(images.split([1, 2, 1])))
        found['statistics'] = list(model.buffers())
        found['highest'] = distributed.all_reduce_max(rank, 5 - rank, 0)
        found['shares'] = distributed.gather_shards([k * k for k in distributed.shard(range(5))])
        found['from main'] = distributed.broadcast_object(f'of {rank}')
        torch.rand(rank)  # so that the next numbers differ
        found['workers'] = default_workers(torch.device('cuda'))
        try:
            choose_device('mps')
        except UserError as error:
            found['mps'] = str(error)
        weights = UNet(3, 2, base_channels=2)
        found['copied'] = list(Replica(weights).parameters())
        print('printed by', rank)
    torch.save(found, f'found{rank}.pt')


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    """Return what two ranks saved, and their folder."""
    folder = tmp_path_factory.mktemp('two')
    before = os.getcwd()  # noqa: PTH109
    os.chdir(folder)
    try:
        assert run_together(collect, folder) == [0, 0]
    finally:
        os.chdir(before)
    return [torch.load(folder / f'found{rank}.pt') for rank in (0, 1)], folder


def test_a_step_of_two_ranks_equals_one_of_one_process_with_twice_the_batch(two):
    found, _ = two
    images, masks = four_images()
    one = gradients_of_a_step([(images, masks)], 4)
    three = gradients_of_a_step([(images[:3], masks[:3])], 3)
    for process in found:
        for part in (0, 1):  # the gradients; loss, norm and statistics
            assert_close(process['even'][part], one[part])
            assert_close(process['uneven'][part], three[part])


def test_running_statistics_are_averaged_over_the_ranks_after_each_step(two):
    found, _ = two
    images, masks = four_images()
    halves = [
        gradients_of_a_step([(images[k : k + 2], masks[k : k + 2])], 2, training=True)[1][2:]
        for k in (0, 2)
    ]
    expected = [(a + b) / 2 for a, b in zip(*halves, strict=True)]
    for process in found:
        assert_close(process['trained'][1][2:], expected)
    one = gradients_of_a_step([(images[:3], masks[:3])], 3, training=True)
    for process in found:
        assert_close(
            process['filled'][1], one[1]
        )  # loss, norm, and statistics without the filler's


def test_reestimated_statistics_are_those_of_one_process_and_equal_on_all_ranks(two):
    found, _ = two
    model = small_model()
    reestimate_statistics(model, four_images()[0].split([1, 2, 1]))
    floats = [[b for b in s if b.is_floating_point()] for s in (
        list(model.buffers()), *(process['statistics'] for process in found)
    )]  # fmt: skip
    assert_close(floats[0], floats[1])
    assert all(torch.equal(a, b) for a, b in zip(floats[1], floats[2], strict=True))


def test_collectives_give_every_rank_the_same_and_only_rank_0_prints(two):
    found, folder = two
    assert [process['who'] for process in found] == [(0, 2, 2), (1, 2, 2)]
    for process in found:
        assert process['highest'] == [1, 5, 0]
        assert process['shares'] == [0, 1, 4, 9, 16]
        assert process['from main'] == 'of 0'
        assert_close(process['copied'], found[0]['copied'])
        assert process['workers'] == max(1, min(8, available_cores() // 2 - 1))
    assert (folder / 'out0').read_text() == 'printed by 0\n'
    assert (folder / 'out1').read_text() == ''


def test_ranks_divide_the_cores_unless_the_user_has_set_the_number_of_threads(monkeypatch):
    threads = []
    monkeypatch.setattr(torch, 'set_num_threads', threads.append)
    monkeypatch.setattr(distributed, 'available_cores', lambda: 12)
    monkeypatch.setattr(distributed, 'local_world_size', lambda: 4)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')  # as torchrun sets it
    distributed._divide_cores()
    monkeypatch.setenv('OMP_NUM_THREADS', '2')
    distributed._divide_cores()
    assert threads == [3]


def test_a_process_alone_keeps_to_the_cores_that_its_container_may_use(monkeypatch):
    threads = []
    monkeypatch.setattr(torch, 'set_num_threads', threads.append)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 64)
    monkeypatch.setattr(distributed, 'available_cores', lambda: 2)
    with distributed.process_group():
        pass
    monkeypatch.setenv('OMP_NUM_THREADS', '64')
    with distributed.process_group():
        pass
    assert threads == [2]


def test_each_rank_takes_its_own_card_and_more_ranks_than_cards_are_an_error(monkeypatch):
    cards = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'set_device', cards.append)
    for name, value in (('world_size', 2), ('local_world_size', 2), ('local_rank', 1)):
        monkeypatch.setattr(devices, name, lambda value=value: value)
    assert choose_device('auto') == torch.device('cuda', 1)
    assert cards == [1]
    assert choose_device('cpu') == CPU
    monkeypatch.setattr(devices, 'local_world_size', lambda: 3)
    with pytest.raises(UserError, match=r'3 processes .* 2 CUDA cards.*--nproc-per-node=2'):
        choose_device('cuda')
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: True)
    with pytest.raises(UserError, match=r'--device mps .*one process'):
        choose_device('mps')


@pytest.mark.slow
def test_evaluate_writes_the_same_files_and_prints_once(folder, capsys):
    data_set(folder, 7)
    data_set(folder, 2, size=(40, 40), names=['a', 'zz'])
    network_of(folder / 'm.pth')
    options = [*EVALUATE, '--threshold-sweep', '-s', '0.5', '--worst', '3']
    options += ['--surface-distances', '0.5', '--instances']
    assert evaluate.main([*options, '--json', 'one.json', '--csv', 'one.csv']) == 0
    printed = capsys.readouterr().out
    together = [*options, '--json', 'two.json', '--csv', 'two.csv']
    assert run_together(lambda rank: evaluate.main(together), folder) == [0, 0]
    assert (folder / 'one.csv').read_bytes() == (folder / 'two.csv').read_bytes()
    assert json.loads((folder / 'one.json').read_text()) == json.loads(
        (folder / 'two.json').read_text()
    )
    assert (folder / 'out0').read_text() == printed
    assert (folder / 'out1').read_text() + (folder / 'err1').read_text() == ''


def test_an_error_is_printed_once_and_ends_all_ranks(folder):
    assert run_together(lambda rank: evaluate.main(EVALUATE), folder) == [2, 2]
    printed = (folder / 'err0').read_text() + (folder / 'err1').read_text()
    assert printed.count('error:') == printed.count('error: m.pth') == 1


def test_an_error_is_printed_even_when_the_process_with_the_store_has_ended():
    server = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    store = TCPStore('127.0.0.1', server.port, is_master=False)
    error = UserError('no such folder')
    assert not distributed._reported_elsewhere(error, store)  # the first report
    assert distributed._reported_elsewhere(error, store)
    del server
    assert not distributed._reported_elsewhere(error, store)


def reached(condition, seconds=10.0):
    """Wait until the condition holds; return whether it did in so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_rounds_are_counted_while_all_ranks_show_signs_of_life_or_have_finished(monkeypatch):
    server = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')
    monkeypatch.setenv('MASTER_PORT', str(server.port))
    monkeypatch.setattr(distributed, 'world_size', lambda: 2)
    monkeypatch.setattr(distributed, 'BEAT', 0.01)
    beats, other = distributed._Heartbeat(), PrefixStore('beats 0', server)
    try:
        other.add('1', 1)
        assert reached(lambda: beats.rounds == 1)
        assert not reached(lambda: beats.rounds > 1, 0.2)  # the other is silent
        other.add('1', distributed.LEFT)
        assert reached(lambda: beats.rounds > 2)
    finally:
        monkeypatch.setattr(distributed, 'BEAT', 5.0)
        beats.stop()
    assert int(other.get('0')) > distributed.LEFT
