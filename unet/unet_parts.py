"""The blocks of the U-Net (Ronneberger, Fischer, Brox 2015, https://arxiv.org/abs/1505.04597).

Axis letters: B batch, C channels, H and W pixels, K classes.

The 3 x 3 convolutions are padded and followed by BatchNorm, unlike the paper's: height and
width stay, so that a mask has its picture's size. Submodule names are part of the checkpoint
format (`inc.double_conv.0.weight`, …): files of the best-known PyTorch U-Net load unchanged.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DoubleConv(nn.Module):
    """(convolution 3 x 3 => BatchNorm => ReLU) twice; height and width stay.

    mid_channels: channels between the two convolutions, out_channels unless given.
    """

    def __init__(self, in_channels: int, out_channels: int, mid_channels: int | None = None):
        super().__init__()
        mid_channels = mid_channels or out_channels
        # No bias: BatchNorm subtracts the mean straight away, so a bias could never act.
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, mid_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(mid_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, in_channels, H, W) float."""
        return self.double_conv(x)


class Down(nn.Module):
    """Halve height and width, then DoubleConv: (B, C, H, W) -> (B, C', H // 2, W // 2)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(in_channels, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, in_channels, H, W) float, H and W at least 2."""
        return self.maxpool_conv(x)


class Up(nn.Module):
    """Double height and width, join the skip connection, then DoubleConv.

    in_channels: channels of the deeper map plus those of the skip connection. With transposed
    convolution the deeper map has `in_channels` itself and upsampling halves it; with bilinear
    upsampling, which keeps channels, it has in_channels // 2.
    """

    def __init__(self, in_channels: int, out_channels: int, bilinear: bool = False):
        super().__init__()
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True)
            self.conv = DoubleConv(in_channels, out_channels, mid_channels=in_channels // 2)
        else:
            self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
            self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """deep: (B, C, h, w); skip: (B, C', H, W) with 2h <= H <= 2h + 1, the same for W."""
        deep = self.up(deep)  # (B, C'', 2h, 2w)
        # Pooling dropped the last row or column of an odd map: pad it back, the odd pixel last.
        rows, columns = skip.shape[-2] - deep.shape[-2], skip.shape[-1] - deep.shape[-1]
        left, top = columns // 2, rows // 2
        deep = F.pad(deep, [left, columns - left, top, rows - top])
        return self.conv(torch.cat([skip, deep], dim=1))


class OutConv(nn.Module):
    """1 x 1 convolution to class scores: (B, in_channels, H, W) -> logits (B, K, H, W)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, in_channels, H, W) float."""
        return self.conv(x)
