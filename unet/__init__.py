"""The network. Imports torch only."""

from .sizes import CONTEXT, input_side, nearest_inputs, output_side
from .unet_model import MIN_SIZE, UNet
from .widths import default_widths, multiply_adds

__all__ = [
    'CONTEXT',
    'MIN_SIZE',
    'UNet',
    'default_widths',
    'input_side',
    'multiply_adds',
    'nearest_inputs',
    'output_side',
]
