"""Choice of the device, deterministic algorithms, number of dataloader workers."""

import os

import torch

from .cgroups import available_cores
from .distributed import local_rank, local_world_size, world_size
from .errors import UserError


def choose_device(name: str) -> torch.device:
    """Return the device of --device, or 'cuda:N'; 'auto' is CUDA, else MPS, else the CPU.

    Under torchrun, each rank gets its own card. Raises UserError for a device that this machine or
    this build of torch lacks.
    """
    found = ['cuda'] if torch.cuda.is_available() else []
    found += ['mps', 'cpu'] if torch.backends.mps.is_available() else ['cpu']
    name = found[0] if name == 'auto' else name
    if name.partition(':')[0] not in found:
        raise UserError(
            f'--device {name}: torch {torch.__version__} finds only {", ".join(found)} here'
        )
    if world_size() == 1 or name == 'cpu':
        return torch.device(name)
    if name == 'mps':
        raise UserError('--device mps runs one process only. Leave torchrun out, or use --device '
                        'cpu.')  # fmt: skip
    cards, processes = torch.cuda.device_count(), local_world_size()
    if processes > cards:
        raise UserError(
            f'torchrun has started {processes} processes on a machine with {cards} CUDA cards. Use '
            f'--nproc-per-node={cards}, or --device cpu.'
        )
    torch.cuda.set_device(local_rank())
    return torch.device('cuda', local_rank())


def make_deterministic() -> None:
    """Use deterministic algorithms only. Call it before CUDA starts.

    On CUDA this slows down convolutions, the scatter of pixel counts and bilinear upsampling; on a
    CPU all is deterministic anyway. An operation without such an algorithm raises RuntimeError.
    """
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # cuBLAS reads it when it starts
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
    # Else it fills each new tensor with NaN, in case that one is read before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def share_of_cores() -> int:
    """Return how many of its machine's cores this process may keep busy: at least one."""
    return max(1, available_cores() // local_world_size())


def default_workers(device: torch.device) -> int:
    """Return the default of --workers: 0 on a CPU, which the network keeps busy, else up to 8."""
    return 0 if device.type == 'cpu' else min(8, max(1, share_of_cores() - 1))
