"""torch.compile, where there is a compiler for it."""

import torch
from torch import nn

from unet import UNet

from .errors import UserError


def compiled(model: UNet, device: torch.device, option: str = '--compile') -> nn.Module:
    """The network's forward pass, compiled; weights and their names are the model's.

    Raises UserError, at once, where torch finds no compiler that works, for the option that asked.
    """
    try:
        torch.compile(torch.nn.functional.silu)(torch.ones(8, device=device))
    # Whatever is missing, a C++ compiler, Triton or Python's headers, has its own type of error.
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f'{option}: no compiler works here ({reason[0]:.200}). On a CPU torch needs a C++ '
            f'compiler (apt install g++), on a GPU Triton too. Or leave {option} out.'
        ) from error
    return torch.compile(model)
