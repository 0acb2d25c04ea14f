"""Copies between main memory and the device that nobody waits for before they are needed.

CUDA copies from and to pinned memory while the program goes on. On other devices copies are made at
once, and on a CPU there is nothing to copy. Axis letters: B batch, C channels, H and W pixels, K
classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def pinned(image: Tensor, device: torch.device) -> Tensor:
    """Return the image, for a CUDA device in pinned memory, with the same strides."""
    if device.type != 'cuda':
        return image
    with torch.cuda.device(device):  # a new thread would pin it for the first card
        return image.pin_memory()


def to_device(images: Tensor, device: torch.device) -> Tensor:
    """Return images (B, C, H, W) on the device, channels last; pinned ones without waiting."""
    asynchronous = device.type == 'cuda'
    return images.to(device, memory_format=torch.channels_last, non_blocking=asynchronous)


def stacked(images: Sequence[Tensor], device: torch.device) -> Tensor:
    """Return images (C, H, W) of one shape and type as a batch on the device, channels last.

    Decoded images have their channels last, so each is one plain copy. torch.stack would put the
    channels first, in main memory and unpinned: 87 ms for four images of 959 x 640, another 25 to
    turn them back (dev/LOG.md, 2026-11-26).
    """
    first = images[0]
    # memory_format is ignored for sizes of other dimensions than 4.
    batch = torch.empty(
        (len(images), *first.shape),
        dtype=first.dtype,
        device=device,
        memory_format=torch.channels_last,
    )
    for place, image in zip(batch, images, strict=True):
        place.copy_(image, non_blocking=device.type == 'cuda')
    return batch


class Download:
    """A result (K, H, W) on its way from the device, strip by strip from top to bottom.

    Only `wait` waits: until then the device computes, and the program launches what comes next.
    """

    def __init__(self, height: int):
        self._height, self._row = height, 0
        self._whole: Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    def add(self, strip: Tensor) -> None:
        """Begin to copy the next strip (K, rows, W)."""
        on_card = strip.device.type == 'cuda'
        rows = slice(self._row, self._row + strip.shape[1])
        self._row = rows.stop
        if strip.shape[1] == self._height and strip.device.type == 'cpu':
            self._whole = strip
            return
        if self._whole is None:
            shape = (len(strip), self._height, strip.shape[2])
            self._whole = torch.empty(shape, dtype=strip.dtype, pin_memory=on_card)
        # Plane by plane, because only contiguous memory is copied without waiting.
        for plane, values in zip(self._whole, strip, strict=True):
            plane[rows].copy_(values, non_blocking=on_card)
        if on_card:
            self._copied = torch.cuda.Event(blocking=True)  # threads that wait leave the cores free
            self._copied.record(torch.cuda.current_stream(strip.device))

    def wait(self) -> np.ndarray:
        """Return the whole result (K, H, W) when it has arrived."""
        if self._whole is None or self._row != self._height:
            raise ValueError(f'{self._row} of {self._height} rows were added')
        if self._copied is not None:
            self._copied.synchronize()
        return self._whole.numpy()
