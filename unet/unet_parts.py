"""The blocks of the U-Net (Ronneberger, Fischer, Brox 2015, https://arxiv.org/abs/1505.04597).

Axis letters: B batch, C channels, H and W pixels, K classes.

The 3 x 3 convolutions are padded and followed by BatchNorm, unlike the paper's: height and
width stay, so that a mask has its picture's size. Both can be had as in the paper: padding 'valid'
instead of 'same', norm 'none' instead of 'batch'. Submodule names are part of the checkpoint
format (`inc.double_conv.0.weight`, …): files of the best-known PyTorch U-Net load unchanged.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DoubleConv(nn.Module):
    """(convolution 3 x 3 => BatchNorm => ReLU) twice; height and width stay.

    mid_channels: channels between the two convolutions, out_channels unless given. padding:
    'same', or 'valid', with which height and width lose 4. norm: 'batch', or 'none'.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mid_channels: int | None = None,
        padding: str = 'same',
        norm: str = 'batch',
    ):
        super().__init__()
        mid_channels = mid_channels or out_channels
        layers = []
        for before, after in ((in_channels, mid_channels), (mid_channels, out_channels)):
            # No bias: BatchNorm subtracts the mean straight away, so a bias could never act.
            conv = nn.Conv2d(before, after, 3, padding=int(padding == 'same'), bias=norm == 'none')
            # The identity keeps the names of what follows.
            scaled = nn.BatchNorm2d(after) if norm == 'batch' else nn.Identity()
            layers += [conv, scaled, nn.ReLU(inplace=True)]
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, in_channels, H, W) float."""
        return self.double_conv(x)


class Down(nn.Module):
    """Halve height and width, then DoubleConv: (B, C, H, W) -> (B, C', H // 2, W // 2).

    options: padding and norm of DoubleConv.
    """

    def __init__(self, in_channels: int, out_channels: int, **options: str):
        super().__init__()
        conv = DoubleConv(in_channels, out_channels, **options)
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), conv)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, in_channels, H, W) float, H and W at least 2."""
        return self.maxpool_conv(x)


class Up(nn.Module):
    """Double height and width, join the skip connection, then DoubleConv.

    in_channels: channels of the deeper map plus those of the skip connection. With transposed
    convolution the deeper map has `in_channels` itself and upsampling halves it; with bilinear
    upsampling, which keeps channels, it has in_channels // 2. options: padding and norm of
    DoubleConv; with padding 'valid' the skip connection is cropped.
    """

    def __init__(self, in_channels: int, out_channels: int, bilinear: bool = False, **options: str):
        super().__init__()
        self.crops = options.get('padding') == 'valid'
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True)
            self.conv = DoubleConv(in_channels, out_channels, in_channels // 2, **options)
        else:
            self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
            self.conv = DoubleConv(in_channels, out_channels, **options)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """deep: (B, C, h, w); skip: (B, C', H, W) with 2h <= H <= 2h + 1, the same for W.

        With padding 'valid' H may be any even number from 2h: the middle of the skip is taken.
        """
        deep = self.up(deep)  # (B, C'', 2h, 2w)
        rows, columns = skip.shape[-2] - deep.shape[-2], skip.shape[-1] - deep.shape[-1]
        left, top = columns // 2, rows // 2
        if self.crops:
            skip = skip[..., top : top + deep.shape[-2], left : left + deep.shape[-1]]
        else:
            # Pooling dropped the last row or column of an odd map: pad it back, the odd pixel last.
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
