"""Picture files as gzip leaves them, such as im0001.ppm.gz."""

import gzip
import io
import zlib
from pathlib import Path
from typing import BinaryIO

from utils.runtime.cgroups import check_size

from .kept import Kept
from .pages import is_compressed

CHUNK = 2**22  # bytes

_contents: Kept[bytes] = Kept(len)


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading; a compressed one is decompressed into memory first.

    Raises OSError or EOFError for a broken one, TooLargeError for one that seems a bomb.
    """
    return io.BytesIO(_contents.get(path, _decompress)) if is_compressed(path) else path.open('rb')


def _decompress(path: Path) -> bytes:
    """Return the content; the limit is checked as it grows, because gzip does not know its size."""
    content = io.BytesIO()
    try:
        with gzip.open(path) as file:
            while chunk := file.read(CHUNK):
                content.write(chunk)
                check_size(content.tell(), path)
    except zlib.error as error:
        raise OSError(f'gzip: {error}') from error
    return content.getvalue()
