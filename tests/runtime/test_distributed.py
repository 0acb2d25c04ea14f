"""Two processes do what one does: the same gradients, statistics, scores, decisions."""

import itertools
import json
import os

import pytest
import torch
from drawing import data_set
from launching import run_together
from torch.distributed import TCPStore

import evaluate
from unet import UNet
from utils.data.dataloader import ShuffledBatchSampler
from utils.inference.checkpoint import Checkpoint, model_config, save_checkpoint
from utils.runtime import devices, distributed
from utils.runtime.devices import choose_device, default_workers
from utils.runtime.errors import UserError
from utils.runtime.precision import Precision
from utils.training.optimization.batchnorm import reestimate_statistics
from utils.training.optimization.guard import StepGuard
from utils.training.step import TrainStep

CPU = torch.device('cpu')


@pytest.mark.parametrize('count', [1, 2, 5, 7, 12, 13, 23])
@pytest.mark.parametrize(('batch_size', 'processes', 'accumulate'), [
    (2, 1, 1), (2, 2, 1), (1, 3, 1), (4, 3, 1), (2, 1, 3), (2, 2, 2), (1, 4, 3),
])  # fmt: skip
def test_processes_share_every_image_exactly_once_in_equally_many_steps(
    count, batch_size, processes, accumulate
):
    ranks = [
        ShuffledBatchSampler(list(range(count)), batch_size, 7, accumulate, (rank, processes))
        for rank in range(processes)
    ]
    steps = list(zip(*ranks, strict=True))
    assert len(steps) == len(ranks[0])
    (one,) = ShuffledBatchSampler(list(range(count)), count, 7)
    assert sorted(itertools.chain(*itertools.chain(*steps))) == sorted(one)
    for number, step in enumerate(steps):
        shares = [len(share) for share in step]
        assert max(shares) - min(shares) <= 1
        assert max(shares) <= batch_size * accumulate
        assert sum(shares) == ranks[0].images_in_step(number)
        # a step of all processes is the same images as one of one process with larger batches
        first = number * ranks[0].whole_step
        assert sorted(itertools.chain(*step)) == sorted(one[first : first + sum(shares)])
    last_batches = [len(share) % batch_size or batch_size for share in steps[-1] if share]
    assert ranks[0].smallest_batch() == min(last_batches)
    for rank in ranks:
        whole, rank.start = list(rank), 1
        assert list(rank) == whole[1:]


def small_model():
    torch.manual_seed(3)
    return UNet(3, 2, base_channels=4).double()


def four_images():
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(4, 3, 32, 32, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, 2, (4, 32, 32), generator=generator)


def gradients_of_a_step(batches, whole, training=False):
    """After one step of SGD at rate 0: gradients as clipped, loss, norm, running statistics."""
    model = small_model().train(training)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    step = TrainStep(model, optimizer, Precision(CPU, amp=False), StepGuard(model))
    loss, norm = step(batches, whole)
    statistics = [b for b in model.buffers() if b.is_floating_point()]
    return [p.grad for p in model.parameters()], [loss, norm, *statistics]


def assert_close(a, b):
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_gradients_of_accumulated_batches_are_those_of_one_large_batch():
    images, masks = four_images()
    whole = gradients_of_a_step([(images, masks)], 4)
    parts = [(images[:3], masks[:3]), (images[3:], masks[3:])]  # of three and one: weighted right
    for one, other in zip(whole, gradients_of_a_step(parts, 4), strict=True):
        assert_close(one, other)


def network_of(path, n_classes=2):
    torch.manual_seed(1)
    model = UNet(3, n_classes, base_channels=2).eval()
    save_checkpoint(Checkpoint(model_config(model), model.state_dict(), [0, 255], 1.0), path)


EVALUATE = ['-m', 'm.pth', '--images', 'imgs', '--masks', 'masks', '--device', 'cpu', '-b', '2']


def collect(rank):
    """What the tests below look at, of each of two processes."""
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
        uneven = [(images[:3], masks[:3])] if rank == 0 else []
        found['uneven'] = gradients_of_a_step(uneven, 3)
        model = small_model()
        reestimate_statistics(model, distributed.shard(images.split([1, 2, 1])))
        found['statistics'] = list(model.buffers())
        found['highest'] = distributed.all_reduce_max(rank, 5 - rank, 0)
        found['shares'] = distributed.gather_shards([k * k for k in distributed.shard(range(5))])
        found['from main'] = distributed.broadcast_object(f'of {rank}')
        found['workers'] = default_workers(torch.device('cuda'))
        try:
            choose_device('mps')
        except UserError as error:
            found['mps'] = str(error)
        model = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(model.weight, rank)
        distributed.broadcast_tensors([model.weight.data])
        found['copied'] = model.weight.sum().item()
        try:
            with distributed.out_of_memory_on_all_ranks():
                if rank == 1:
                    raise torch.OutOfMemoryError('no memory in 1')
        except distributed.OutOfMemoryOnAnyRank as error:
            found['memory'] = str(error)
        print('said by', rank)
    torch.save(found, f'found{rank}.pt')


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    """What two processes found."""
    folder = tmp_path_factory.mktemp('two')
    before = os.getcwd()  # noqa: PTH109
    os.chdir(folder)
    try:
        assert run_together(collect, folder) == [0, 0]
    finally:
        os.chdir(before)
    return [torch.load(folder / f'found{rank}.pt') for rank in (0, 1)], folder


def test_two_processes_step_as_one_with_twice_the_batch(two):
    found, _ = two
    images, masks = four_images()
    one = gradients_of_a_step([(images, masks)], 4)
    three = gradients_of_a_step([(images[:3], masks[:3])], 3)
    for process in found:
        for part in (0, 1):  # the gradients; loss, norm and statistics
            assert_close(process['even'][part], one[part])
            assert_close(process['uneven'][part], three[part])


def test_running_statistics_are_the_average_over_the_processes_after_each_step(two):
    found, _ = two
    images, masks = four_images()
    halves = [
        gradients_of_a_step([(images[k : k + 2], masks[k : k + 2])], 2, training=True)[1][2:]
        for k in (0, 2)
    ]
    expected = [(a + b) / 2 for a, b in zip(*halves, strict=True)]
    for process in found:
        assert_close(process['trained'][1][2:], expected)


def test_reestimated_statistics_are_those_of_one_process_and_equal_to_the_bit(two):
    found, _ = two
    model = small_model()
    reestimate_statistics(model, four_images()[0].split([1, 2, 1]))
    floats = [[b for b in s if b.is_floating_point()] for s in (
        list(model.buffers()), *(process['statistics'] for process in found)
    )]  # fmt: skip
    assert_close(floats[0], floats[1])
    assert all(torch.equal(a, b) for a, b in zip(floats[1], floats[2], strict=True))


def test_processes_agree_and_only_the_main_one_speaks(two, monkeypatch):
    found, folder = two
    assert [process['who'] for process in found] == [(0, 2, 2), (1, 2, 2)]
    for process in found:
        assert process['highest'] == [1, 5, 0]
        assert process['shares'] == [0, 1, 4, 9, 16]
        assert process['from main'] == 'of 0'
        assert process['copied'] == 0
        assert process['workers'] == max(1, min(8, os.cpu_count() // 2 - 1))
    assert [process['memory'] for process in found] == ['in another process', 'no memory in 1']
    assert (folder / 'out0').read_text() == 'said by 0\n'
    assert (folder / 'out1').read_text() == ''


def test_threads_are_shared_unless_the_user_has_said_how_many(monkeypatch):
    threads = []
    monkeypatch.setattr(torch, 'set_num_threads', threads.append)
    monkeypatch.setattr(distributed.os, 'cpu_count', lambda: 12)
    monkeypatch.setattr(distributed, 'local_world_size', lambda: 4)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')  # as torchrun sets it
    distributed._share_cores()
    monkeypatch.setenv('OMP_NUM_THREADS', '2')
    distributed._share_cores()
    assert threads == [3]


def test_a_process_takes_its_own_card_and_more_processes_than_cards_are_refused(monkeypatch):
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
    with pytest.raises(UserError, match=r'3 processes here for 2 CUDA cards.*--nproc-per-node=2'):
        choose_device('cuda')
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: True)
    with pytest.raises(UserError, match='--device mps serves one process'):
        choose_device('mps')


def test_evaluate_gives_the_same_files_and_prints_once(folder, capsys):
    data_set(folder, 7)
    data_set(folder, 2, size=(40, 40), names=['a', 'zz'])
    network_of(folder / 'm.pth')
    options = [*EVALUATE, '--threshold-sweep', '-s', '0.5', '--worst', '3']
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


def test_a_mistake_is_said_once_and_ends_all(folder):
    assert run_together(lambda rank: evaluate.main(EVALUATE), folder) == [2, 2]
    said = (folder / 'err0').read_text() + (folder / 'err1').read_text()
    assert said.count('error: m.pth does not exist') == 1
    assert said.count('error:') == 1


def test_a_mistake_is_said_even_when_the_store_has_gone_with_its_process():
    server = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    store = TCPStore('127.0.0.1', server.port, is_master=False)
    mistake = UserError('no such folder')
    assert not distributed._said_elsewhere(mistake, store)  # the first to say it
    assert distributed._said_elsewhere(mistake, store)
    del server
    assert not distributed._said_elsewhere(mistake, store)
