"""Report the results of the prediction pipeline: progress bar, a line per image, summary."""

import math
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from utils.images.metadata import ImageMetadata
from utils.masks.rle import join_submissions, write_submission
from utils.masks.visualize import show_or_save
from utils.runtime.console import progress_bar
from utils.runtime.distributed import gather_shards, is_main_process, rank, shard, world_size
from utils.runtime.errors import UserError, shown

from .outputs.names import in_words
from .pipeline import Failure, PredictionPipeline, Result, load_displayable
from .predictor import Predictor
from .work_list import Job

FEW = 3  # images that need neither a progress bar nor a summary


def predict_jobs(
    pipeline: PredictionPipeline,
    jobs: list[Job],
    metadata: list[ImageMetadata | None],
    submission: Path | None = None,
) -> list[str | None]:
    """Predict, write and print all images, each rank its shard; return each one's error or None.

    submission: CSV file of run-length encoded masks to write.
    """
    known = zip(jobs, metadata, strict=True)
    pixels = {job.source: math.prod(found.size) for job, found in known if found}
    failures: list[str | None] = []
    results = _report(pipeline, shard(jobs), lambda job: pixels.get(job.source, 0), failures)
    if submission is None:
        deque(results, maxlen=0)
        return gather_shards(failures)
    parts = [submission]
    if world_size() > 1:
        parts = [submission.with_stem(f'{submission.stem}.{k}') for k in range(world_size())]
    write_submission((row for one in results for row in one.rle), parts[rank()])
    failures = gather_shards(failures)
    if is_main_process() and len(parts) > 1:
        join_submissions(parts, submission)
    return failures


def _report(
    pipeline: PredictionPipeline,
    jobs: list[Job],
    pixels: Callable[[Job], int],
    failures: list[str | None],
) -> Iterator[Result]:
    """Yield the results after printing them; append each file's error or None to `failures`.

    The progress bar counts pictures: files, or their pages.
    """
    count = count_pictures(jobs)
    with progress_bar('Predicting', count, 'img', hidden=count <= FEW) as bar:
        for outcome in pipeline.process(jobs, pixels, bar.update):
            job = outcome.job
            if isinstance(outcome, Failure):
                failures.append(str(outcome.error))
                continue
            drawn = _draw_figure(outcome, pipeline.predictor, job.figure) if job.figure else None
            failures.append(drawn)
            saved = f'. Mask saved to {shown(job.target)}' if job.target else ''
            pages = f' ({in_words(job.source, job.pages)})' if job.pages else ''
            found = f'{outcome.class_fractions}{saved}'
            tqdm.write(f'Predicting image {shown(job.source)}{pages} ... done: {found}')
            yield outcome


def count_pictures(jobs: list[Job]) -> int:
    """Return the number of pictures in all files."""
    return sum(len(job.pictures) for job in jobs)


def _draw_figure(result: Result, predictor: Predictor, figure: Path) -> str | None:
    """Show a result's figure, or write it; return the error, None without."""
    source = result.picture
    try:
        image, background = load_displayable(source, predictor), predictor.masks.background
        show_or_save(image, result.indices, source.name, figure, background)
    except UserError as error:
        return str(error)
    except OSError as error:
        return f'{figure} cannot be written: {error.strerror or error}'
    return None


def summarize(jobs: list[Job], failures: list[str | None], seconds: float) -> int:
    """Print throughput and errors, or raise the error of a single file; return the exit code."""
    errors = [error for error in failures if error]
    if errors and len(failures) == 1:
        raise UserError(errors[0])
    if count_pictures(jobs) > FEW:
        good = [job for job, error in zip(jobs, failures, strict=True) if not error]
        done, files = count_pictures(good), len(good)
        pages = f' of {files} file{"s" * (files > 1)}' if done > files else ''
        print(f'{done} images{pages} in {seconds:.1f} s ({done / seconds:.3g} images/s)')
    if errors:
        failed = f'{len(errors)} of {len(failures)} images could not be read or written'
        lines = [f'error: {failed}:', *errors]
        print(*lines, sep='\n', file=sys.stderr)
    return 1 if errors else 0
