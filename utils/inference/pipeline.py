"""Read, predict and write many images concurrently, in order.

Threads decode the next images, and wait for and encode the last masks, while the network computes.
The main thread only launches: a GPU has the next batch before anybody waits for this one.
Axis letters: C channels, H and W pixels, K classes.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from utils.images.decoding import open_picture, to_channels
from utils.masks.components import largest_components
from utils.masks.rle import encode_rle
from utils.masks.visualize import displayable
from utils.runtime.distributed import share_of_cores
from utils.runtime.errors import UserError

from .predictor import Predictor
from .transfer import Download, pinned
from .work_list import Job
from .writer import ARRAY_SUFFIX, format_mask, format_probabilities, save_result

Item = TypeVar('Item')
Output = TypeVar('Output')

# Pixels in progress in one stage: 24 images of 4,000 x 2,700, 0.8 GB decoded, or one of any size.
MAX_PIXELS = 2**28


class Result(NamedTuple):
    """A predicted image."""

    job: Job
    indices: np.ndarray  # (H, W) uint8
    class_fractions: str  # '0 92.1 %, 1 7.9 %'
    rle: str  # run-length encoded foreground, empty unless requested


class Failure(NamedTuple):
    """An image that could not be read, or its mask written, and why."""

    job: Job
    error: UserError


class _Decoded(NamedTuple):
    job: Job
    image: Tensor  # (C, h, w) at network resolution
    size: tuple[int, int]  # of the file: (width, height)


class _Predicted(NamedTuple):
    job: Job
    indices: Download  # (1, H, W) uint8
    probabilities: Download | None  # (K, H, W) float32, only if they are to be written


@dataclass
class PredictionPipeline:
    """Prediction with the options of predict.py.

    threshold: a pixel is foreground if its probability is higher. output_format: --format.
    batch_size: images of one size to predict at a time. largest_component: keep only the largest
    component of each class. rle: return run-length encoded masks.
    """

    predictor: Predictor
    threshold: float = 0.5
    output_format: str = 'values'
    batch_size: int = 1
    largest_component: bool = False
    rle: bool = False

    def process(self, jobs: list[Job], pixels: Callable[[Job], int]) -> Iterator[Result | Failure]:
        """Predict and write each image, in order; one that cannot be read or written is a Failure.

        pixels: number of pixels of a job's image, to bound the memory. Other errors are raised.
        """
        decoded = map_in_threads(self._decode, jobs, pixels)
        batches = iter(lambda: list(islice(decoded, self.batch_size)), [])
        predicted = (one for batch in batches for one in self._predict(batch))
        # Probabilities take 4 bytes per class and pixel, images 3 per pixel.
        probabilities = self.output_format == 'probabilities'
        weight = 2 * len(self.predictor.masks.values) if probabilities else 1
        return map_in_threads(self._write, predicted, lambda one: weight * pixels(one.job))

    def _decode(self, job: Job) -> _Decoded | Failure:
        try:
            image, size = self.predictor.read_file(job.source)
        except UserError as error:
            return Failure(job, error)
        return _Decoded(job, pinned(image, self.predictor.precision.device), size)

    def _predict(self, batch: list[_Decoded | Failure]) -> Iterator[_Predicted | Failure]:
        good = [(one.image, one.size) for one in batch if isinstance(one, _Decoded)]
        strips = self.predictor.strips(good)
        for one in batch:
            yield one if isinstance(one, Failure) else self._launch(one, next(strips))

    def _launch(self, image: _Decoded, strips: Iterator[Tensor]) -> _Predicted:
        """Let the device predict an image and send the result; a GPU goes on after the return."""
        height = image.size[1]
        indices = Download(height)
        probabilities = Download(height) if self.output_format == 'probabilities' else None
        for strip in strips:
            indices.add(self.predictor.decide(strip, self.threshold))
            if probabilities:
                probabilities.add(self.predictor.to_probabilities(strip))
        return _Predicted(image.job, indices, probabilities)

    def _write(self, predicted: _Predicted | Failure) -> Result | Failure:
        if isinstance(predicted, Failure):
            return predicted
        job, indices = predicted.job, predicted.indices.wait()[0]
        probabilities = predicted.probabilities.wait() if predicted.probabilities else None
        background = self.predictor.masks.background or 0
        try:
            if self.largest_component:
                indices = largest_components(indices, background)
            if job.target:
                self._save(job.source, job.target, indices, probabilities)
        except UserError as error:  # the image of an overlay may have been removed
            return Failure(job, error)
        except OSError as error:  # a full disk, a name that is too long
            cause = error.strerror or str(error)
            return Failure(job, UserError(f'{job.target} cannot be written: {cause}'))
        counts = Image.fromarray(indices).histogram()  # of 256 values
        named = zip(self.predictor.masks.titles, counts, strict=False)
        fractions = ', '.join(f'{name} {100 * (n / indices.size):.1f} %' for name, n in named)
        return Result(job, indices, fractions, encode_rle(indices, background) if self.rle else '')

    def _save(
        self, source: Path, target: Path, indices: np.ndarray, probabilities: np.ndarray | None
    ) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        as_array, predictor = target.suffix.lower() == ARRAY_SUFFIX, self.predictor
        if probabilities is None:
            overlay = self.output_format == 'overlay'
            image = load_displayable(source, predictor) if overlay else None
            result = format_mask(self.output_format, predictor.masks, indices, as_array, image)
        else:
            result = format_probabilities(probabilities, as_array)
        save_result(result, target)


def load_displayable(path: Path, predictor: Predictor) -> Image.Image:
    """Return a file, an input of the predictor, as RGB image of its full size."""
    channels = predictor.model.n_channels
    picture = open_picture(path, predictor.decode, channels)
    return displayable(picture, to_channels(picture, channels, path, predictor.image_range))


def map_in_threads(
    work: Callable[[Item], Output],
    items: Iterable[Item],
    pixels: Callable[[Item], int],
    threads: int | None = None,
) -> Iterator[Output]:
    """Yield work(item), or raise its exception, in the order of the items.

    Work starts ahead of its turn, on as many items as keep all threads busy, but not on more than
    MAX_PIXELS by pixels(item) together unless it is a single item. threads: by default up to 8;
    Pillow releases the GIL. Work that has not started is cancelled if the iterator ends early.
    """
    threads = threads or min(8, share_of_cores())
    waiting: deque[tuple[Future[Output], int]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            size = pixels(item)
            while waiting and (
                len(waiting) >= 2 * threads or size + sum(n for _, n in waiting) > MAX_PIXELS
            ):
                yield waiting.popleft()[0].result()
            waiting.append((pool.submit(work, item), size))
            while waiting and waiting[0][0].done():
                yield waiting.popleft()[0].result()
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        pool.shutdown(cancel_futures=True)
