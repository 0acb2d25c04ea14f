"""The network and nothing else: imports torch only."""

from .unet_model import UNet

__all__ = ['UNet']
