"""Where the network runs and in which precision."""

import os
from contextlib import AbstractContextManager

import torch

from .errors import UserError


def choose_device(name: str) -> torch.device:
    """The device of --device: 'auto' is CUDA, else Apple's MPS, else the CPU.

    Under torchrun each process takes the GPU of its LOCAL_RANK. Raises UserError for a device
    that this machine or this build of torch has not.
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
    return torch.device(name, int(os.environ.get('LOCAL_RANK', 0)) if name == 'cuda' else None)


class Precision:
    """Mixed precision where asked for and to be had, else float32.

    `name` is 'bf16' where the device computes in it, 'fp16' on older CUDA cards, 'fp32'. Only fp16
    needs the gradient scaler: its range ends at 65,504, bfloat16's where float32's does.
    """

    def __init__(self, device: torch.device, amp: bool):
        self.device = device
        self.dtype = mixed_dtype(device) if amp else torch.float32
        names = {torch.bfloat16: 'bf16', torch.float16: 'fp16', torch.float32: 'fp32'}
        self.name = names[self.dtype]
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.name == 'fp16')

    def autocast(self) -> AbstractContextManager:
        """The context of the network's forward pass."""
        enabled = self.name != 'fp32'
        return torch.autocast(
            self.device.type, dtype=self.dtype if enabled else None, enabled=enabled
        )


def mixed_dtype(device: torch.device) -> torch.dtype:
    """The type for mixed precision on this device, float32 where it would not be faster."""
    if device.type == 'cuda':
        # Emulated bfloat16, on cards before Ampere, is slower than float32.
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if bf16 else torch.float16
    if device.type == 'mps':
        return torch.bfloat16 if torch.backends.mps.is_macos_or_newer(14, 0) else torch.float32
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def default_workers(device: torch.device) -> int:
    """How many processes load images unless --workers says.

    None beside a CPU that computes: the network keeps every core busy, and a process would only
    take them from it. Up to 8 beside a GPU.
    """
    return 0 if device.type == 'cpu' else min(8, max(1, (os.cpu_count() or 1) - 1))
