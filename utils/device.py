"""Where the network runs and in which precision."""

import functools
import os
import time
from contextlib import AbstractContextManager

import torch

from . import distributed
from .errors import UserError


def choose_device(name: str) -> torch.device:
    """The device of --device: 'auto' is CUDA, else Apple's MPS, else the CPU.

    Of several processes each has its own card. Raises UserError for a device that this machine or
    this build of torch has not.
    """
    there = {
        'cuda': torch.cuda.is_available(),
        'mps': torch.backends.mps.is_available(),
        'cpu': True,
    }
    if name == 'auto':
        name = next(device for device, found in there.items() if found)
    if not there[name]:
        found = ', '.join(device for device, is_there in there.items() if is_there)
        raise UserError(f'--device {name}: torch {torch.__version__} finds only {found} here')
    return torch.device(name) if distributed.size() == 1 else _own_device(name)


def _own_device(name: str) -> torch.device:
    """The device of one of several processes."""
    if name == 'mps':
        raise UserError('--device mps serves one process. Leave torchrun out, or say --device cpu.')
    if name == 'cpu':
        return torch.device('cpu')
    cards, processes = torch.cuda.device_count(), distributed.local_size()
    if processes > cards:
        raise UserError(
            f'torchrun has started {processes} processes here for {cards} CUDA cards. Use '
            f'--nproc-per-node={cards}, or --device cpu.'
        )
    torch.cuda.set_device(distributed.local_rank())
    return torch.device('cuda', distributed.local_rank())


def make_deterministic() -> None:
    """Let every operation give the same bits each time; call it before CUDA starts.

    Of this network's operations the convolutions and their gradients, the scatter of pixel counts
    and bilinear upsampling take slower ways on CUDA; on a CPU all are deterministic as they are.
    An operation that has no such way raises RuntimeError.
    """
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # cuBLAS reads it when it starts
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)


class Precision:
    """Mixed precision where asked for and to be had, else float32.

    `name` is 'bf16' where the device is fast in it, 'fp16' on older CUDA cards, else 'fp32'; given
    one, it is that. Only fp16 needs the gradient scaler: its range ends at 65,504, bfloat16's
    where float32's does.
    """

    def __init__(self, device: torch.device, amp: bool, name: str | None = None):
        self.device = device
        dtypes = {'bf16': torch.bfloat16, 'fp16': torch.float16, 'fp32': torch.float32}
        # Processes must not differ, as a CPU's measurement may.
        self.name = name or (distributed.from_main(mixed_precision(device)) if amp else 'fp32')
        self.dtype = dtypes[self.name]
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.name == 'fp16')

    def renew_scaler(self) -> None:
        """Forget an unfinished step, which the scaler would not begin again; its scale stays."""
        state = self.scaler.state_dict()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.scaler.is_enabled())
        self.scaler.load_state_dict(state)

    def autocast(self) -> AbstractContextManager:
        """The context of the network's forward pass."""
        enabled = self.name != 'fp32'
        return torch.autocast(
            self.device.type, dtype=self.dtype if enabled else None, enabled=enabled
        )


def mixed_precision(device: torch.device) -> str:
    """The precision of --amp on this device: 'fp32' where nothing else would be faster."""
    if device.type == 'cuda':
        # Emulated bfloat16, on cards before Ampere, is slower than float32.
        return 'bf16' if torch.cuda.is_bf16_supported(including_emulation=False) else 'fp16'
    if device.type == 'mps':
        return 'bf16' if torch.backends.mps.is_macos_or_newer(14, 0) else 'fp32'
    return 'bf16' if cpu_bf16_speedup() > 1.2 else 'fp32'


@functools.cache
def cpu_bf16_speedup() -> float:
    """How many times faster this CPU multiplies matrices in bfloat16 than in float32.

    Measured, in 0.05 s, since the processor's flags do not tell: with the same avx512_bf16 one gave
    2.7 and another, without AMX, 0.5 (dev/LOG.md, 2026-11-24).
    """

    def seconds(dtype: torch.dtype) -> float:
        """The least time of four products; the first warms up."""
        matrix = torch.ones(768, 768, dtype=dtype)
        times = []
        for _ in range(4):
            started = time.perf_counter()
            matrix @ matrix
            times.append(time.perf_counter() - started)
        return min(times)

    return seconds(torch.float32) / seconds(torch.bfloat16)


def default_workers(device: torch.device) -> int:
    """How many processes load images unless --workers says.

    None beside a CPU that computes: the network keeps every core busy, and a process would only
    take them from it. Up to 8 beside a GPU, and no more than its part of the cores.
    """
    cores = (os.cpu_count() or 1) // distributed.local_size()
    return 0 if device.type == 'cpu' else min(8, max(1, cores - 1))
