"""The U-Net: four levels down, four up, a skip connection at each level.

Axis letters: B batch, C channels, H and W pixels, K classes.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .sizes import output_side
from .unet_parts import DoubleConv, Down, OutConv, Up

MIN_SIZE = 16  # pixels: four halvings leave one


class InputError(ValueError, RuntimeError):
    """Images that a network cannot take. Such errors of torch's layers are RuntimeErrors."""


class UNet(nn.Module):
    """A network that gives class scores for each pixel of images from 16 x 16 pixels.

    n_classes: 1 gives one foreground logit (binary), K >= 2 one logit per class (multiclass).
    bilinear: upsample by bilinear interpolation instead of transposed convolution (17 instead of 31
        million parameters at the default width).
    base_channels: channels of the first level, doubled at each level down.

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
    ):
        super().__init__()
        if padding not in ('same', 'valid') or norm not in ('batch', 'none'):
            raise ValueError(
                f"padding is {padding!r} and norm {norm!r}; expected 'same' or 'valid', and "
                "'batch' or 'none'"
            )
        self.n_channels = n_channels
        self.n_classes = n_classes
        self.bilinear = bilinear
        self.base_channels = base_channels
        self.padding, self.norm, self.dropout = padding, norm, dropout
        self.checkpointing = False

        c = base_channels
        shrink = 2 if bilinear else 1  # interpolation keeps channels, so the blocks halve them
        options = {'padding': padding, 'norm': norm}
        self.inc = DoubleConv(n_channels, c, None, **options)
        self.down1 = Down(c, 2 * c, **options)
        self.down2 = Down(2 * c, 4 * c, **options)
        self.down3 = Down(4 * c, 8 * c, **options)
        self.down4 = Down(8 * c, 16 * c // shrink, **options)
        self.up1 = Up(16 * c, 8 * c // shrink, bilinear, **options)
        self.up2 = Up(8 * c, 4 * c // shrink, bilinear, **options)
        self.up3 = Up(4 * c, 2 * c // shrink, bilinear, **options)
        self.up4 = Up(2 * c, c, bilinear, **options)
        self.outc = OutConv(c, n_classes)
        if norm == 'none':
            self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of images (B, C, H, W), float in [0, 1].

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
        x1 = self._run(self.inc, x)  # (B, c, H, W)
        x2 = self._run(self.down1, x1)  # (B, 2c, H/2, W/2)
        x3 = self._run(self.down2, x2)  # (B, 4c, H/4, W/4)
        x4 = self._dropped(self._run(self.down3, x3))  # (B, 8c, H/8, W/8)
        x5 = self._dropped(self._run(self.down4, x4))  # (B, 16c, H/16, W/16)
        x = self._run(self.up1, x5, x4)
        x = self._run(self.up2, x, x3)
        x = self._run(self.up3, x, x2)
        x = self._run(self.up4, x, x1)  # (B, c, H, W)
        return self._run(self.outc, x)  # (B, K, H, W)

    def use_checkpointing(self, enabled: bool = True) -> None:
        """Switch activation checkpointing: keep only each block's input, recompute the rest.

        Gradients, running statistics and state_dict are the same. Training takes about a third more
        time and a fraction of the memory (torch.utils.checkpoint, https://arxiv.org/abs/1604.06174).
        """
        self.checkpointing = enabled

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
