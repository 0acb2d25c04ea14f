"""Choice of the device and of the precision that it is fast in."""

import timeit
from functools import partial
from itertools import count

import pytest
import torch

from utils.runtime import devices, precision
from utils.runtime.devices import choose_device, default_workers
from utils.runtime.errors import UserError
from utils.runtime.precision import MixedPrecision, amp_precision

MEASURE = precision.cpu_bf16_speedup.__wrapped__  # without its cache
CPU, CUDA, MPS = torch.device('cpu'), torch.device('cuda'), torch.device('mps')


@pytest.fixture
def machine(monkeypatch):
    """Return a function that pretends that this machine has the named devices."""

    def have(*devices, bf16=True):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: 'cuda' in devices)
        monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: 'mps' in devices)
        monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: bf16)
        monkeypatch.setattr(torch.backends.mps, 'is_macos_or_newer', lambda *version: bf16)
        monkeypatch.setattr(precision, 'cpu_bf16_speedup', lambda: 2.0 if bf16 else 0.5)

    return have


def test_auto_is_cuda_then_mps_then_the_cpu(machine):
    machine('cuda', 'mps')
    assert choose_device('auto') == CUDA
    machine('mps')
    assert choose_device('auto') == MPS
    machine()
    assert choose_device('auto') == CPU
    with pytest.raises(UserError, match=r'--device cuda: .* only cpu'):
        choose_device('cuda')


def test_a_script_may_name_one_of_several_cards(machine):
    machine('cuda')
    assert choose_device('cuda:1') == torch.device('cuda', 1)
    machine()
    with pytest.raises(UserError, match=r'--device cuda:1: .* only cpu'):
        choose_device('cuda:1')


@pytest.mark.parametrize(
    ('device', 'bf16', 'expected'),
    [
        (CUDA, True, 'bf16'),
        (CUDA, False, 'fp16'),
        (MPS, True, 'bf16'),
        (MPS, False, 'fp32'),
        (CPU, True, 'bf16'),
        (CPU, False, 'fp32'),
    ],
)
def test_amp_is_the_precision_that_the_device_is_fast_in(machine, device, bf16, expected):
    machine(bf16=bf16)
    assert amp_precision(device) == expected


@pytest.mark.parametrize(('name', 'dtype'), [('bf16', torch.bfloat16), ('fp32', torch.float32)])
def test_autocast_computes_in_the_precision(name, dtype):
    precision = MixedPrecision(CPU, amp=True, name=name)
    with precision.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert not precision.scaler.is_enabled()


@pytest.mark.filterwarnings('ignore:.*GradScaler is enabled, but CUDA is not available')
def test_only_fp16_scales_gradients(machine):
    machine(bf16=False)
    assert MixedPrecision(CUDA, amp=True).name == 'fp16'
    assert MixedPrecision(CUDA, amp=False).name == 'fp32'
    assert not MixedPrecision(CUDA, amp=False).scaler.is_enabled()


@pytest.mark.parametrize('busy', [range(0), range(5)], ids=['quiet', 'busy'])
@pytest.mark.parametrize('slow', [torch.float32, torch.bfloat16])
def test_the_speedup_of_bfloat16_is_measured_beside_other_programs_too(monkeypatch, slow, busy):
    clock, products = [0.0], count()
    monkeypatch.setattr(precision.timeit, 'timeit', partial(timeit.timeit, timer=lambda: clock[0]))
    ones = torch.ones

    class Matrix:
        def __init__(self, *size, dtype):
            self.dtype = dtype

        def __matmul__(self, other):
            seconds = 3.0 if self.dtype == slow else 1.5
            clock[0] += 10 * seconds if next(products) in busy else seconds

    monkeypatch.setattr(torch, 'ones', Matrix)
    speedup = MEASURE()
    monkeypatch.setattr(torch, 'ones', ones)
    assert speedup == (2 if slow == torch.float32 else 0.5)


def test_only_gpus_get_workers_by_default(monkeypatch):
    monkeypatch.setattr(devices, 'available_cores', lambda: 6)
    assert default_workers(CPU) == 0
    assert default_workers(CUDA) == 5
    monkeypatch.setattr(devices, 'available_cores', lambda: 64)
    assert default_workers(CUDA) == 8
