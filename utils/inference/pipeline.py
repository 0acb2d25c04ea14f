"""Read, predict and write many images concurrently, in order.

Threads decode the next images, and wait for and encode the last masks, while the network computes.
The main thread only launches: a GPU has the next batch before anybody waits for this one.
Axis letters: C channels, H and W pixels, K classes.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from utils.images.decoding import open_picture, to_channels
from utils.images.pages import Page, Source
from utils.masks.components import largest_components
from utils.masks.rle import encode_rle
from utils.masks.visualize import displayable
from utils.runtime.distributed import share_of_cores
from utils.runtime.errors import UserError

from .outputs.formats import NO_PICTURES, format_mask, format_probabilities, save_result
from .outputs.names import suffix_of
from .outputs.several import PackedArray, save_several
from .predictor import Predictor
from .transfer import Download, pinned
from .work_list import Job

Item = TypeVar('Item')
Output = TypeVar('Output')

# Pixels in progress in one stage: 24 images of 4,000 x 2,700, 0.8 GB decoded, or one of any size.
MAX_PIXELS = 2**28


class Result(NamedTuple):
    """A predicted file."""

    job: Job
    picture: Source  # the file itself; of several pages the one with the most foreground
    indices: np.ndarray  # (H, W) uint8, of that picture
    class_fractions: str  # '0 92.1 %, 1 7.9 %', of all pages together
    rle: list[tuple[str, str]]  # name and run-length encoded foreground of each page, if requested


class Failure(NamedTuple):
    """A file that could not be read, or its mask written, and why."""

    job: Job
    error: UserError


class _Task(NamedTuple):
    job: Job
    picture: Source  # one of the job's

    @property
    def last(self) -> bool:
        """Whether no other picture of the job follows."""
        return self.picture == self.job.pictures[-1]


class _Missing(NamedTuple):
    task: _Task
    error: UserError | None  # None: not tried, because another page of the file has failed


class _Decoded(NamedTuple):
    task: _Task
    image: Tensor  # (C, h, w) at network resolution
    size: tuple[int, int]  # of the file: (width, height)


class _Predicted(NamedTuple):
    task: _Task
    indices: Download  # (1, H, W) uint8
    probabilities: Download | None  # (K, H, W) float32, only if they are to be written


class _Finished(NamedTuple):
    task: _Task
    indices: PackedArray | np.ndarray  # (H, W) uint8; those of pages are packed
    probabilities: Image.Image | np.ndarray | None  # as format_probabilities returns them
    counts: np.ndarray  # (256,) int64, pixels of each class
    rle: str


class _File(NamedTuple):
    job: Job
    pages: list[_Finished]


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
    _failed: set[int] = field(default_factory=set, init=False)  # id of jobs of which a page failed

    def process(
        self,
        jobs: list[Job],
        pixels: Callable[[Job], int],
        on_picture: Callable[[], object] = lambda: None,
    ) -> Iterator[Result | Failure]:
        """Predict and write each file, in order; one that cannot be read or written is a Failure.

        So is a stack or volume of which one page cannot be read. pixels: number of pixels of each
        picture of a job, to bound the memory. on_picture: called for each one. Other errors are
        raised.
        """
        self._failed.clear()
        tasks = [_Task(job, picture) for job in jobs for picture in job.pictures]
        decoded = map_in_threads(self._decode, tasks, lambda task: pixels(task.job))
        batches = iter(lambda: list(islice(decoded, self.batch_size)), [])
        predicted = (one for batch in batches for one in self._predict(batch))
        # Probabilities take 4 bytes per class and pixel, images 3 per pixel.
        probabilities = self.output_format == 'probabilities'
        weight = 2 * len(self.predictor.masks.values) if probabilities else 1
        finished = map_in_threads(
            self._finish, predicted, lambda one: weight * pixels(one.task.job)
        )
        return map_in_threads(
            self._write,
            _files(finished, on_picture),
            lambda file: weight * pixels(file.job) * len(file.job.pictures),
        )

    def _decode(self, task: _Task) -> _Decoded | _Missing:
        if id(task.job) in self._failed:
            return _Missing(task, None)
        try:
            image, size = self.predictor.read_file(task.picture)
        except UserError as error:
            self._failed.add(id(task.job))
            return _Missing(task, error)
        return _Decoded(task, pinned(image, self.predictor.precision.device), size)

    def _predict(self, batch: list[_Decoded | _Missing]) -> Iterator[_Predicted | _Missing]:
        good = [(one.image, one.size) for one in batch if isinstance(one, _Decoded)]
        strips = self.predictor.strips(good)
        for one in batch:
            yield one if isinstance(one, _Missing) else self._launch(one, next(strips))

    def _launch(self, image: _Decoded, strips: Iterator[Tensor]) -> _Predicted:
        """Let the device predict an image and send the result; a GPU goes on after the return."""
        height = image.size[1]
        indices = Download(height)
        probabilities = Download(height) if self.output_format == 'probabilities' else None
        for strip in strips:
            indices.add(self.predictor.decide(strip, self.threshold))
            if probabilities:
                probabilities.add(self.predictor.to_probabilities(strip))
        return _Predicted(image.task, indices, probabilities)

    def _finish(self, predicted: _Predicted | _Missing) -> _Finished | _Missing:
        if isinstance(predicted, _Missing):
            return predicted
        task, indices = predicted.task, predicted.indices.wait()[0]
        probabilities = predicted.probabilities.wait() if predicted.probabilities else None
        background, result = self.predictor.masks.background or 0, None
        if self.largest_component:
            indices = largest_components(indices, background)
        if probabilities is not None and task.job.target:
            result = format_probabilities(probabilities, suffix_of(task.job.target) in NO_PICTURES)
        counts = np.array(Image.fromarray(indices).histogram())  # of 256 values
        rle = encode_rle(indices, background) if self.rle else ''
        kept = PackedArray.of(indices) if task.job.pages else indices
        return _Finished(task, kept, result, counts, rle)

    def _write(self, file: _File | Failure) -> Result | Failure:
        if isinstance(file, Failure):
            return file
        job, pages = file
        try:
            if job.target:
                self._save(pages, job.source, job.target)
        except UserError as error:  # the image of an overlay may have been removed
            return Failure(job, error)
        except OSError as error:  # a full disk, a name that is too long
            cause = error.strerror or str(error)
            return Failure(job, UserError(f'{job.target} cannot be written: {cause}'))
        counts = np.sum([page.counts for page in pages], axis=0)
        named = zip(self.predictor.masks.titles, counts / counts.sum(), strict=False)
        fractions = ', '.join(f'{name} {100 * share:.1f} %' for name, share in named)
        background = self.predictor.masks.background or 0
        fullest = min(pages, key=lambda page: page.counts[background])
        rle = [(page.task.picture.name, page.rle) for page in pages] if self.rle else []
        return Result(job, fullest.task.picture, _unpacked(fullest.indices), fractions, rle)

    def _save(self, pages: list[_Finished], source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        results = map(partial(self._formatted, target), pages)
        if isinstance(pages[0].task.picture, Page):
            save_several(results, len(pages), target, source)
        else:
            save_result(next(results), target)

    def _formatted(self, target: Path, page: _Finished) -> Image.Image | np.ndarray:
        """Return a page in the output format and the form of the target."""
        if page.probabilities is not None:
            return page.probabilities
        predictor, shown = self.predictor, self.output_format == 'overlay'
        image = load_displayable(page.task.picture, predictor) if shown else None
        as_array, indices = suffix_of(target) in NO_PICTURES, _unpacked(page.indices)
        return format_mask(self.output_format, predictor.masks, indices, as_array, image)


def _unpacked(indices: PackedArray | np.ndarray) -> np.ndarray:
    return indices.unpack() if isinstance(indices, PackedArray) else indices


def _files(
    pages: Iterator[_Finished | _Missing], on_picture: Callable[[], object]
) -> Iterator[_File | Failure]:
    """Yield each file when its last page is there, or the first error of its pages."""
    found: list[_Finished] = []
    error: UserError | None = None
    for page in pages:
        on_picture()
        if isinstance(page, _Finished):
            found.append(page)
        else:
            error = error or page.error
        if page.task.last:
            job = page.task.job
            yield Failure(job, error) if error else _File(job, found)
            found, error = [], None


def load_displayable(path: Source, predictor: Predictor) -> Image.Image:
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
