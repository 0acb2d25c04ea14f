"""Where the network runs and in which precision."""

import functools
import time
from contextlib import AbstractContextManager

import torch

from .distributed import broadcast_object


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
        self.name = name or (broadcast_object(mixed_precision(device)) if amp else 'fp32')
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
