"""Many pictures: read, predicted and written at the same time, in order.

Threads decode the next pictures and encode the last ones while the network takes those between.
Axis letters: C channels, H and W pixels, K classes.

Work done in threads while the results before it are used: reading ahead, writing behind.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from utils.images.decoding import open_picture, to_channels
from utils.masks.components import largest_components
from utils.masks.rle import encode_rle
from utils.masks.visualize import displayable
from utils.runtime.errors import UserError

from .predictor import Predictor
from .work_list import Job
from .writer import ARRAY, in_form, save_result


class Outcome(NamedTuple):
    """What became of a picture: its classes (H, W) uint8 and their shares, or why it has none."""

    job: Job
    failure: UserError | None = None
    shares: str = ''
    indices: np.ndarray | None = None
    runs: str = ''  # run-length encoded foreground, where wanted


class _Read(NamedTuple):
    """A picture (C, h, w) at training scale and its own (width, height), or why there is none."""

    job: Job
    image: Tensor | None
    size: tuple[int, int]
    failure: UserError | None = None


class _Predicted(NamedTuple):
    """The classes (H, W) uint8 of a picture, and probabilities (K, H, W) where they are wanted."""

    job: Job
    indices: np.ndarray | None
    probabilities: Tensor | None = None
    failure: UserError | None = None


@dataclass
class PredictionPipeline:
    """What to do with each picture; the options of predict.py have these names.

    threshold: the probability above which a pixel is foreground. form: of the files written.
    batch_size: pictures that the network takes at a time. largest: keep the largest piece of each
    class. runs: encode each mask's runs.
    """

    predictor: Predictor
    threshold: float = 0.5
    form: str = 'values'
    batch_size: int = 1
    largest: bool = False
    runs: bool = False

    def outcomes(self, jobs: list[Job], pixels: Callable[[Job], int]) -> Iterator[Outcome]:
        """Predict and write each picture; pixels: how many it has, to bound what is in memory.

        A picture that cannot be read is an Outcome with its failure. Other errors are raised.
        """
        size = self.batch_size
        batches = [jobs[k : k + size] for k in range(0, len(jobs), size)]
        read = map_in_threads(self._read, batches, lambda batch: sum(map(pixels, batch)))
        predicted = (one for future in read for one in self._predict(future.result()))
        # Probabilities are 4 bytes a class and pixel, where pictures are 3.
        weight = 2 * len(self.predictor.mask_values) if self.form == 'probabilities' else 1
        written = map_in_threads(self._write, predicted, lambda one: weight * pixels(one.job))
        return (future.result() for future in written)

    def _read(self, batch: list[Job]) -> list[_Read]:
        return [self._read_one(job) for job in batch]

    def _read_one(self, job: Job) -> _Read:
        try:
            return _Read(job, *self.predictor.read_file(job.source))
        except UserError as error:
            return _Read(job, None, (0, 0), error)

    def _predict(self, batch: list[_Read]) -> Iterator[_Predicted]:
        good = [read for read in batch if read.failure is None]
        strips = self.predictor.strips([read.image for read in good], [read.size for read in good])
        for read in batch:
            if read.failure is None:
                yield _Predicted(read.job, *self._gather(next(strips), read.size))
            else:
                yield _Predicted(read.job, None, failure=read.failure)

    def _gather(
        self, strips: Iterator[Tensor], size: tuple[int, int]
    ) -> tuple[np.ndarray, Tensor | None]:
        """The classes (H, W) of strips (K, rows, W), and all their probabilities if wanted."""
        indices = np.empty(size[::-1], dtype=np.uint8)
        probabilities = None
        row = 0
        for strip in strips:
            rows = slice(row, row + strip.shape[1])
            indices[rows] = self.predictor.decide(strip, self.threshold)
            if self.form == 'probabilities':
                if probabilities is None:
                    probabilities = torch.empty(len(strip), *indices.shape)
                probabilities[:, rows] = strip
            row = rows.stop
        return indices, probabilities

    def _write(self, predicted: _Predicted) -> Outcome:
        job, indices, probabilities, failure = predicted
        if failure:
            return Outcome(job, failure)
        try:
            indices = largest_components(indices) if self.largest else indices
            self._save(job, indices, probabilities)
        except UserError as error:  # an overlay's picture may be gone by now
            return Outcome(job, error)
        runs = encode_rle(indices) if self.runs else ''
        return Outcome(job, None, shares(indices, self.predictor.masks.titles), indices, runs)

    def _save(self, job: Job, indices: np.ndarray, probabilities: Tensor | None) -> None:
        if job.target is None:
            return
        job.target.parent.mkdir(parents=True, exist_ok=True)
        image = shown(job.source, self.predictor) if self.form == 'overlay' else None
        array = job.target.suffix.lower() == ARRAY
        masks = self.predictor.masks
        result = in_form(self.form, masks, image, indices, probabilities, array)
        save_result(result, job.target)


def shown(source: Path, predictor: Predictor) -> Image.Image:
    """An input as a picture to look at, of its full size."""
    picture = open_picture(source)
    return displayable(picture, to_channels(picture, predictor.model.n_channels, source))


def shares(indices: np.ndarray, titles: list[str]) -> str:
    """'0 92.1 %, 1 7.9 %': the part of the pixels that each class has, by its value or name."""
    counts = np.array(Image.fromarray(indices).histogram()[: len(titles)])
    return ', '.join(
        f'{title} {100 * share:.1f} %'
        for title, share in zip(titles, counts / indices.size, strict=True)
    )


Item = TypeVar('Item')

Result = TypeVar('Result')

# Pixels of pictures that may be under way in one place: 24 pictures of 4,000 x 2,700, or one of any
# size. Decoded that is 0.8 GB.
MOST_PIXELS = 2**28


def map_in_threads(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    pixels: Callable[[Item], int],
    threads: int | None = None,
) -> Iterator['Future[Result]']:
    """Finished futures of work(item), in the order of the items.

    Items are taken, and work begins, before their turn, as many as keep all threads busy, but of no
    more than MOST_PIXELS by pixels(item) together, unless it is one alone. threads: up to 8 unless
    given; Pillow lets others run while it decodes and encodes. An error is its future's, and the
    work goes on. When the iteration is given up, work that has not begun is not done.
    """
    threads = threads or min(8, os.cpu_count() or 1)
    waiting: deque[tuple[Future, int]] = deque()
    total = 0
    pool = ThreadPoolExecutor(threads)

    def oldest() -> 'Future[Result]':
        """The first of those that wait, as soon as it is done."""
        nonlocal total
        future, size = waiting.popleft()
        total -= size
        wait([future])
        return future

    try:
        for item in items:
            size = pixels(item)
            while waiting and (len(waiting) >= 2 * threads or total + size > MOST_PIXELS):
                yield oldest()
            waiting.append((pool.submit(work, item), size))
            total += size
            while waiting and waiting[0][0].done():
                yield oldest()
        while waiting:
            yield oldest()
    finally:
        pool.shutdown(cancel_futures=True)
