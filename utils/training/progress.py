"""Loss, throughput and time spent waiting for data, without a synchronisation a step."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

Batch = TypeVar('Batch')


class Meter:
    """Accumulates the figures of an epoch; only `state` and `figures` wait for the device."""

    def __init__(self) -> None:
        self.images, self.waited = 0, 0.0
        self._loss: Tensor | float = 0.0
        self._counted: Tensor | int = 0
        self.started = self.read = time.perf_counter()

    def state(self) -> dict:
        """Return plain values that load_state takes."""
        return {
            'loss': float(self._loss),
            'counted': int(self._counted),
            'images': self.images,
            'waited': self.waited,
            'seconds': time.perf_counter() - self.started,
        }

    def load_state(self, state: dict) -> None:
        """Continue the epoch of which this is the state."""
        self._loss, self._counted = state['loss'], state['counted']
        self.images, self.waited = state['images'], state['waited']
        self.started = time.perf_counter() - state['seconds']

    def due(self, seconds: float) -> bool:
        """Return whether so much time has passed since this was last true."""
        now = time.perf_counter()
        due = now - self.read >= seconds
        self.read = now if due else self.read
        return due

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time spent inside, in a validation for instance, out of the epoch's."""
        begun = time.perf_counter()
        yield
        self.started += time.perf_counter() - begun

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches, and count the time until each arrives as waiting for data."""
        asked = time.perf_counter()
        for batch in batches:
            self.waited += time.perf_counter() - asked
            yield batch
            asked = time.perf_counter()

    def add(self, loss: Tensor, images: int) -> None:
        """Count one step: its loss, a scalar left on its device, and its number of images.

        A loss that is not finite is left out of the mean.
        """
        loss = loss.detach()
        self._loss = self._loss + loss.nan_to_num(0, 0, 0)
        self._counted = self._counted + torch.isfinite(loss)
        self.images += images

    def figures(self) -> dict:
        """Return mean loss, images a second, fraction of time spent waiting for data, and seconds.

        The loss is NaN before the first step.
        """
        epoch = self.state()
        seconds = epoch['seconds']
        return {
            'loss': epoch['loss'] / epoch['counted'] if epoch['counted'] else float('nan'),
            'images_per_second': self.images / seconds,
            'data_wait': self.waited / seconds,
            'seconds': round(seconds, 2),
        }
