"""The network and nothing else: imports torch only."""

from .unet_model import MIN_SIZE, UNet

__all__ = ['MIN_SIZE', 'UNet']
