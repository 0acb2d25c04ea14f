"""Free memory within the limits of the container, of shared memory and of this rank's share."""

from types import SimpleNamespace

import pytest
import torch

from utils.runtime import cgroups, memory

GIB = 2**30


def test_free_memory_is_limited_by_the_process_groups(monkeypatch):
    monkeypatch.setattr(cgroups, 'memory_room', lambda: None)
    assert GIB / 16 < memory.free_memory() < 2**50
    monkeypatch.setattr(cgroups, 'memory_room', lambda: 4000)
    assert memory.free_memory() == 4000


@pytest.mark.parametrize(
    ('workers', 'world_size', 'expected'), [(0, 1, 500), (2, 1, 32), (0, 4, 125)]
)
def test_a_rank_may_use_its_share_of_half_of_the_memory_that_workers_can_share(
    tmp_path, monkeypatch, workers, world_size, expected
):
    monkeypatch.setattr(memory, 'free_memory', lambda: 1000)
    monkeypatch.setattr(memory, 'SHARED_MEMORY', tmp_path)
    monkeypatch.setattr(memory.shutil, 'disk_usage', lambda _: SimpleNamespace(free=64))
    monkeypatch.setattr(memory, 'local_world_size', lambda: world_size)
    assert memory.available_memory(workers) == expected


def test_cuda_memory_is_what_the_driver_has_free_and_for_prediction_torchs_cache(monkeypatch):
    cuda = torch.device('cuda')
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda _: (1000, 9000))
    monkeypatch.setattr(torch.cuda, 'memory_reserved', lambda _: 50)
    monkeypatch.setattr(torch.cuda, 'memory_allocated', lambda _: 20)
    assert memory.available_device_memory(cuda) == 500
    assert memory.available_prediction_memory(cuda) == 1030
    monkeypatch.setattr(memory, 'available_memory', lambda: 7)
    for device in (torch.device('cpu'), torch.device('mps')):
        assert memory.available_device_memory(device) == 7
        assert memory.available_prediction_memory(device) == 7


@pytest.mark.parametrize('library', [OSError, TypeError, AttributeError])
def test_freed_memory_is_kept_where_the_c_library_cannot_give_it_back(monkeypatch, library):
    def load(name):
        raise library

    monkeypatch.setattr(memory.ctypes, 'CDLL', load)
    memory.return_freed_memory()


def test_freed_memory_is_given_back_down_to_the_last_page(monkeypatch):
    calls = []
    monkeypatch.setattr(
        memory.ctypes, 'CDLL', lambda name: SimpleNamespace(malloc_trim=calls.append)
    )
    memory.return_freed_memory()
    assert calls == [0]
