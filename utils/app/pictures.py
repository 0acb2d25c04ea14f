"""Pictures of the page: examples and uploads, their limits, thumbnails and what is shown of them.

Axis letters: C channels.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from utils.images.decoding import open_picture, open_reduced, picture_size, to_channels
from utils.images.metadata import read_header
from utils.images.pages import Page, Source, file_of, may_have_pages
from utils.images.volumes import check_package, is_volume
from utils.inference.inputs import pages_to_predict
from utils.masks.visualize import displayable
from utils.runtime.errors import UserError

if TYPE_CHECKING:
    from utils.inference.predictor import Predictor

MOST_BYTES = 100 * 2**20  # of an uploaded file
MOST_PIXELS = 50_000_000  # of a picture: 0.2 GB of probabilities for each class
MOST_PICTURES = 24  # of an upload, pages of stacks included
MOST_MESSAGES = 5  # about files of an upload that cannot be used
LEAST_SIDE = 384  # pixels of the longer side; smaller pictures are shown in larger pixels
SHOWN_SIDE = 1200  # pixels; three pictures beside each other, on a page of 1280, have 400 each
THUMBNAIL_SIDE = 240


def take_pictures(paths: Iterable[Path], channels: int) -> tuple[list[Source], list[str]]:
    """Return the pictures of uploaded files, and a message for each that cannot be used.

    The pages of a stack, or the slices of a volume, are pictures. channels: of the network.
    """
    taken: list[Source] = []
    messages = []
    for path in paths:
        try:
            pictures = _pictures_of(path, channels)
        except UserError as error:
            messages.append(without_folder(str(error), path))
            continue
        taken += pictures
    if (more := len(messages) - MOST_MESSAGES) > 0:
        messages[MOST_MESSAGES:] = [f'{more} more files cannot be used either.']
    if (more := len(taken) - MOST_PICTURES) > 0:
        messages.append(
            f'The last {more} of {len(taken)} pictures are left out, because the page takes '
            f'{MOST_PICTURES} at a time. predict.py takes any number.'
        )
    return taken[:MOST_PICTURES], messages


def _pictures_of(path: Path, channels: int) -> Sequence[Source]:
    """Return a file or its pages; raise UserError if it is no picture, or too large."""
    if is_volume(path):
        check_package(path)
    pages = pages_to_predict(path, lambda: channels) if may_have_pages(path) else ()
    check_limits(pages[0] if pages else path)
    return pages or (path,)


def check_limits(source: Source) -> None:
    """Raise UserError for a picture of more pixels than the page takes, from its header."""
    width, height = read_header(source).size
    if width * height > MOST_PIXELS:
        raise UserError(
            f'{source} has {width} x {height} pixels; expected at most {MOST_PIXELS:,} on this '
            f'page. Predict it by the command: python predict.py -i {file_of(source).name}'
        )


def without_folder(message: str, source: Source) -> str:
    """Return a message about a file with its name only: uploads lie in folders of no interest."""
    return message.replace(f'{file_of(source).parent}{os.sep}', '')


def shown_name(source: Source) -> str:
    """Return a picture's name, with the number of its page, which people count from 1."""
    file = file_of(source).name
    return f'{file}, page {source.index + 1}' if isinstance(source, Page) else file


def fit(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return (width, height) reduced so that the longer one is at most `side`."""
    factor = min(1.0, side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def shown_picture(source: Source, predictor: 'Predictor', side: int = SHOWN_SIDE) -> Image.Image:
    """Return a picture in RGB, its longer side at most `side`, as the predictor's images are read.

    Raises UserError if it cannot be read or has other channels than the network.
    """
    channels = predictor.model.n_channels
    if predictor.as_original:
        picture = open_picture(source, predictor.decode, channels)
        size = picture_size(picture)
    else:  # a JPEG of 12 million pixels is decoded at half its size
        size = read_header(source).size
        picture, size, _ = open_reduced(source, min(1.0, side / max(size)), channels)
    pixels = to_channels(picture, channels, source, predictor.image_range)
    return displayable(picture, pixels).resize(fit(size, side), reducing_gap=2.0)


def enlarge(picture: Image.Image) -> Image.Image:
    """Return a small picture in larger pixels, each a square of its own colour."""
    return picture.resize(
        [side * max(1, LEAST_SIDE // max(picture.size)) for side in picture.size],
        Image.Resampling.NEAREST,
    )


def thumbnails(pictures: Sequence[Source], predictor: 'Predictor') -> list[tuple[Image.Image, str]]:
    """Return pictures and names for a gallery; a grey square for what cannot be read."""
    result = []
    for source in pictures:
        try:
            picture = shown_picture(source, predictor, THUMBNAIL_SIDE)
        except (UserError, OSError):  # said when it is chosen
            picture = Image.new('RGB', (THUMBNAIL_SIDE, THUMBNAIL_SIDE), (128, 128, 128))
        result.append((picture, shown_name(source)))
    return result
