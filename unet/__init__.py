"""The network. Imports torch only."""

from .sizes import CONTEXT, input_side, nearest_inputs, output_side
from .unet_model import MIN_SIZE, UNet

__all__ = ['CONTEXT', 'MIN_SIZE', 'UNet', 'input_side', 'nearest_inputs', 'output_side']
