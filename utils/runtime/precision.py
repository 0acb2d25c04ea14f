"""Mixed precision: autocast and, for fp16, the gradient scaler."""

import functools
import timeit
from contextlib import AbstractContextManager

import torch

from .distributed import broadcast_object


class MixedPrecision:
    """Autocast and GradScaler of a device: mixed precision if `amp` and it is faster, else float32.

    name: 'bf16', 'fp16' or 'fp32'; chosen by amp_precision unless given. scaler: enabled for fp16
    only, whose range ends at 65,504. bfloat16 has the range of float32.
    """

    def __init__(self, device: torch.device, amp: bool, name: str | None = None):
        self.device = device
        # Rank 0 decides for all, because measurements of CPUs may differ.
        self.name = name or (broadcast_object(amp_precision(device)) if amp else 'fp32')
        self.dtype = {'bf16': torch.bfloat16, 'fp16': torch.float16}.get(self.name, torch.float32)
        self.scaler = self._new_scaler()

    def renew_scaler(self) -> None:
        """Replace the scaler, whose state of an unfinished step forbids a retry; keep its scale."""
        state = self.scaler.state_dict()
        self.scaler = self._new_scaler()
        self.scaler.load_state_dict(state)

    def _new_scaler(self) -> torch.amp.GradScaler:
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.name == 'fp16')
        if scaler.is_enabled():  # which allocates the scale, also for a step without a loss
            scaler.scale(torch.zeros((), device=self.device))
        return scaler

    def autocast(self) -> AbstractContextManager:
        """Return the context for the network's forward pass."""
        mixed = self.name != 'fp32'
        return torch.autocast(self.device.type, self.dtype if mixed else None, mixed)


def amp_precision(device: torch.device) -> str:
    """Return the precision of --amp on this device; 'fp32' if no other is faster."""
    if device.type == 'cuda':
        # Cards before Ampere emulate bfloat16, slower than float32.
        return 'bf16' if torch.cuda.is_bf16_supported(including_emulation=False) else 'fp16'
    if device.type == 'mps':
        return 'bf16' if torch.backends.mps.is_macos_or_newer(14, 0) else 'fp32'
    return 'bf16' if cpu_bf16_speedup() > 1.2 else 'fp32'


@functools.cache
def cpu_bf16_speedup() -> float:
    """Return how many times faster this CPU multiplies matrices in bfloat16 than in float32.

    Measured, in 0.03 s, because the CPU's flags do not tell: of two CPUs with avx512_bf16, one gave
    2.7 and another, without AMX, 0.5 (dev/LOG.md, 2026-11-24). The products are short and in turn,
    so that some of each run undisturbed where other programs use the cores, too.
    """
    matrices = [torch.ones(256, 256, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
    turns = [
        [timeit.timeit(lambda m=matrix: m @ m, number=1) for matrix in matrices]  # type: ignore[misc]
        for _ in range(16)
    ]
    exact, half = map(min, zip(*turns, strict=True))
    return exact / half
