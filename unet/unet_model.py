"""The U-Net: four levels down, four up, a skip connection at each level.

Axis letters: B batch, C channels, H and W pixels, K classes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .sizes import output_side
from .unet_parts import DoubleConv, Down, OutConv, Up
from .widths import check_widths, default_widths, multiply_adds

MIN_SIZE = 16  # pixels: four halvings leave one


class InputError(ValueError, RuntimeError):
    """Images that a network cannot take. Such errors of torch's layers are RuntimeErrors."""


class UNet(nn.Module):
    """A network that gives class scores for each pixel of images from 16 x 16 pixels.

    n_classes: 1 gives one foreground logit (binary), K >= 2 one logit per class (multiclass).
    bilinear: upsample by bilinear interpolation instead of transposed convolution (17 instead of 31
        million parameters at the default width).
    base_channels: channels of the first level, doubled at each level down.
    widths: channels of each layer, 22 numbers (see unet.widths), in place of base_channels, which
        then is the first of them. Raises ValueError if they make no network.

    For the network of the paper (https://arxiv.org/abs/1505.04597):
    padding: 'valid' leaves the 3 x 3 convolutions unpadded: 572 pixels give 388 scores.
    norm: 'none' means no BatchNorm, and He initialisation.
    dropout: probability, in [0, 1), of dropout on the two deepest maps of the encoder.
    """

    def __init__(
        self,
        n_channels: int,
        n_classes: int,
        bilinear: bool = False,
        base_channels: int = 64,
        padding: str = 'same',
        norm: str = 'batch',
        dropout: float = 0.0,
        widths: Sequence[int] | None = None,
    ):
        super().__init__()
        if padding not in ('same', 'valid') or norm not in ('batch', 'none'):
            raise ValueError(
                f"padding is {padding!r} and norm {norm!r}; expected 'same' or 'valid', and "
                "'batch' or 'none'"
            )
        if widths is None:
            widths = default_widths(base_channels, bilinear)
        check_widths(widths, bilinear)
        self.n_channels = n_channels
        self.n_classes = n_classes
        self.bilinear = bilinear
        self.widths, self.base_channels = list(widths), widths[0]
        self.padding, self.norm, self.dropout = padding, norm, dropout
        self.checkpointing = False

        w, options = self.widths, {'padding': padding, 'norm': norm}
        self.inc = DoubleConv(n_channels, w[1], w[0], **options)
        self.down1 = Down(w[1], w[3], w[2], **options)
        self.down2 = Down(w[3], w[5], w[4], **options)
        self.down3 = Down(w[5], w[7], w[6], **options)
        self.down4 = Down(w[7], w[9], w[8], **options)
        self.up1 = self._up(w[9], w[7], w[10:13])
        self.up2 = self._up(w[12], w[5], w[13:16])
        self.up3 = self._up(w[15], w[3], w[16:19])
        self.up4 = self._up(w[18], w[1], w[19:22])
        self.outc = OutConv(w[21], n_classes)
        if norm == 'none':
            self.apply(_initialise)

    def forward(self, x: Tensor, every_level: bool = False) -> Tensor | list[Tensor]:
        """Return logits (B, K, H, W) of images (B, C, H, W), float in [0, 1].

        every_level: return a list of them and of the maps of up3, up2 and up1, for a loss of each.
        With padding 'valid', logits are (B, K, H - 184, W - 184), without 92 pixels on each side.
        Raises InputError for images of other channels or under 16 x 16 pixels, and ValueError for
        other sizes that are not possible.
        """
        _, channels, height, width = x.shape
        if channels != self.n_channels:
            raise InputError(f'the network takes {self.n_channels} channels, got {channels}')
        if height < MIN_SIZE or width < MIN_SIZE:
            raise InputError(
                f'the network takes images from {MIN_SIZE} x {MIN_SIZE} pixels, '
                f'got {width} x {height} (width x height)'
            )
        if self.padding == 'valid':
            output_side(height), output_side(width)
        x1 = self._run(self.inc, x)  # (B, c, H, W), c base_channels unless there are other widths
        x2 = self._run(self.down1, x1)  # (B, 2c, H/2, W/2)
        x3 = self._run(self.down2, x2)  # (B, 4c, H/4, W/4)
        x4 = self._dropped(self._run(self.down3, x3))  # (B, 8c, H/8, W/8)
        x5 = self._dropped(self._run(self.down4, x4))  # (B, 16c, H/16, W/16)
        # The decoder's maps replace the encoder's of their size, whose memory is free from then on.
        x4 = self._run(self.up1, x5, x4)
        x3 = self._run(self.up2, x4, x3)
        x2 = self._run(self.up3, x3, x2)
        x1 = self._run(self.up4, x2, x1)  # (B, c, H, W)
        logits = self._run(self.outc, x1)  # (B, K, H, W)
        return [logits, x2, x3, x4] if every_level else logits

    def multiply_adds(self, size: tuple[int, int], widths: Sequence[int] | None = None) -> int:
        """Return the multiplications for one image of `size` (height, width).

        widths: of another network that is otherwise like this one.
        """
        return multiply_adds(
            widths or self.widths, size, self.n_channels, self.n_classes, self.bilinear,
            self.padding,
        )  # fmt: skip

    def use_checkpointing(self, enabled: bool = True) -> None:
        """Switch activation checkpointing: keep only each block's input, recompute the rest.

        Gradients, running statistics and state_dict are the same. Training takes about a third more
        time and a fraction of the memory (torch.utils.checkpoint, https://arxiv.org/abs/1604.06174).
        """
        self.checkpointing = enabled

    def _up(self, below: int, skip: int, widths: Sequence[int]) -> Up:
        """Return a block of the decoder; widths: after upsampling and each convolution."""
        upsampled, mid, out = widths
        return Up(
            skip + upsampled, out, self.bilinear, mid, below, upsampled,
            padding=self.padding, norm=self.norm,
        )  # fmt: skip

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

    def _run(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        if not (self.checkpointing and self.training):
            return block(*inputs)
        return checkpoint(block, *inputs, use_reentrant=False, context_fn=_recompute_of(block))


def _initialise(module: nn.Module) -> None:
    """He initialisation: standard deviation sqrt(2 / N), N the inputs of one output value."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        inputs = module.in_channels
        if isinstance(module, nn.Conv2d):  # 2 x 2 transposed convolutions of stride 2 never overlap
            inputs *= module.kernel_size[0] * module.kernel_size[1]
        nn.init.normal_(module.weight, std=(2 / inputs) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _recompute_of(
    block: nn.Module,
) -> Callable[[], tuple[AbstractContextManager, AbstractContextManager]]:
    """Return torch.utils.checkpoint's contexts of the forward pass and of its recomputation."""
    return lambda: (nullcontext(), _statistics_untouched(block))


@contextmanager
def _statistics_untouched(block: nn.Module) -> Iterator[None]:
    """Let BatchNorm update copies of its running statistics, so that a batch counts only once.

    Switching the updates off would save other tensors for autograd than the first pass did.
    """
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    kept = [dict(norm.named_buffers()) for norm in norms]
    for norm, buffers in zip(norms, kept, strict=True):
        for name, tensor in buffers.items():
            setattr(norm, name, tensor.clone())
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, tensor in buffers.items():
                setattr(norm, name, tensor)
