"""Where the network runs and in which precision."""

import os

import torch

from .distributed import local_rank, local_world_size, world_size
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
    return torch.device(name) if world_size() == 1 else _own_device(name)


def _own_device(name: str) -> torch.device:
    """The device of one of several processes."""
    if name == 'mps':
        raise UserError('--device mps serves one process. Leave torchrun out, or say --device cpu.')
    if name == 'cpu':
        return torch.device('cpu')
    cards, processes = torch.cuda.device_count(), local_world_size()
    if processes > cards:
        raise UserError(
            f'torchrun has started {processes} processes here for {cards} CUDA cards. Use '
            f'--nproc-per-node={cards}, or --device cpu.'
        )
    torch.cuda.set_device(local_rank())
    return torch.device('cuda', local_rank())


def make_deterministic() -> None:
    """Let every operation give the same bits each time; call it before CUDA starts.

    Of this network's operations the convolutions and their gradients, the scatter of pixel counts
    and bilinear upsampling take slower ways on CUDA; on a CPU all are deterministic as they are.
    An operation that has no such way raises RuntimeError.
    """
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # cuBLAS reads it when it starts
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)


def default_workers(device: torch.device) -> int:
    """How many processes load images unless --workers says.

    None beside a CPU that computes: the network keeps every core busy, and a process would only
    take them from it. Up to 8 beside a GPU, and no more than its part of the cores.
    """
    cores = (os.cpu_count() or 1) // local_world_size()
    return 0 if device.type == 'cpu' else min(8, max(1, cores - 1))
