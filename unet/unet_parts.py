"""The blocks of the U-Net (Ronneberger, Fischer, Brox 2015, https://arxiv.org/abs/1505.04597).

Axis letters: B batch, C channels, H and W pixels, K classes.

By default the 3 x 3 convolutions are padded, so that a mask has the size of its image, and followed
by BatchNorm. The paper's network has padding 'valid' and norm 'none'. Submodule names are part of
the checkpoint format (`inc.double_conv.0.weight`): milesial/Pytorch-UNet's state_dicts load.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .convolution import Conv3x3, ConvTranspose2x2


class DoubleConv(nn.Module):
    """(3 x 3 convolution => BatchNorm => ReLU) twice.

    mid_channels: between the two convolutions, out_channels unless given. padding: 'same' keeps
    height and width, 'valid' reduces them by 4. norm: 'batch' or 'none'.
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
        layers: list[nn.Module] = []
        for before, after in ((in_channels, mid_channels), (mid_channels, out_channels)):
            # No bias before BatchNorm, which subtracts the mean and with it any bias.
            conv = Conv3x3(before, after, padding=int(padding == 'same'), bias=norm == 'none')
            # Identity keeps the names of the following layers.
            scaled = nn.BatchNorm2d(after) if norm == 'batch' else nn.Identity()
            layers += [conv, scaled, nn.ReLU(inplace=True)]
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, H, W) of x (B, in_channels, H, W) float."""
        return self.double_conv(x)


class Down(nn.Module):
    """Halve height and width, then DoubleConv with its `options`, padding and norm."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mid_channels: int | None = None,
        **options: str,
    ):
        super().__init__()
        conv = DoubleConv(in_channels, out_channels, mid_channels, **options)
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), conv)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, H // 2, W // 2) of x (B, in_channels, H, W) float, H, W >= 2."""
        return self.maxpool_conv(x)


class Up(nn.Module):
    """Double height and width, concatenate the skip connection, then DoubleConv.

    in_channels: after concatenation.
    mid_channels: of DoubleConv; by default out_channels, or in_channels // 2 if bilinear.
    below, upsampled: channels of the deeper map and of what the transposed convolution makes of it,
        by default in_channels and in_channels // 2. Bilinear upsampling keeps channels.
    options: padding and norm of DoubleConv.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bilinear: bool = True,
        mid_channels: int | None = None,
        below: int | None = None,
        upsampled: int | None = None,
        **options: str,
    ):
        super().__init__()
        self.crops = options.get('padding') == 'valid'
        if bilinear:
            self.up: nn.Module = nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True)
            mid_channels = mid_channels or in_channels // 2
        else:
            channels = below or in_channels, upsampled or in_channels // 2
            self.up = ConvTranspose2x2(*channels)
        self.conv = DoubleConv(in_channels, out_channels, mid_channels, **options)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Return (B, out_channels, H, W) of the deeper map x1 (B, C, h, w) and the skip connection.

        x2: the skip connection, (B, C', H, W), 2h <= H <= 2h + 1, and so for W. With padding
            'valid', H may be any even number from 2h: the skip connection is cropped to its middle.
        """
        x1 = self.up(x1)  # (B, C'', 2h, 2w)
        rows, columns = x2.shape[-2] - x1.shape[-2], x2.shape[-1] - x1.shape[-1]
        left, top = columns // 2, rows // 2
        if self.crops:
            x2 = x2[..., top : top + x1.shape[-2], left : left + x1.shape[-1]]
        else:
            # Pooling has dropped the last row or column of a map of odd size: pad it back.
            x1 = F.pad(x1, [left, columns - left, top, rows - top])
        return self.conv(torch.cat([x2, x1], dim=1))


class OutConv(nn.Module):
    """1 x 1 convolution to class scores."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of x (B, in_channels, H, W) float."""
        return self.conv(x)
