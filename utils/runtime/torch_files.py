"""Files of torch.save: read without running code, after checks of their checksums and sizes.

torch.load itself ignores the checksums: of 200 flipped bits, 188 gave other weights without a word.
"""

import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .cgroups import TooLargeError, check_size

if TYPE_CHECKING:
    from torch import Tensor

# torch.load warns of pickle protocols and sparse tensors, about which users can do nothing.
LOADERS = r'torch\.(serialization|_weights_only_unpickler)'
warnings.filterwarnings('ignore', category=UserWarning, module=LOADERS)

CHUNK = 2**20  # bytes

ZIP_START = b'PK\3\4'
# What Python's zip reader raises for files that are damaged or of unknown kinds.
ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
    ValueError, LookupError, ArithmeticError, OSError,
)  # fmt: skip


class DamagedError(ValueError):
    """A file whose content is not what was written: truncated, or its checksums are wrong."""


class CodeError(ValueError):
    """A file of Python objects other than tensors, whose loading would run code."""


def read_torch_file(path: Path) -> object:
    """Return what torch.save wrote, on the CPU, never running code.

    Raises ValueError for other files, DamagedError for a damaged one, CodeError for one with other
    objects than tensors and plain values, and MemoryError if the memory does not hold the content.
    A zip file is read twice, once for its checksums: 0.1 s in addition to 0.17 s for the 124 MB of
    a default network, 2 ms for 0.5 MB (two cores of a shared machine).
    """
    import torch  # here, because image files need no torch

    check_size(path.stat().st_size, path)
    _check_zip(path)
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
        declared = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(content))
    except MemoryError:
        raise
    # The reader interprets whatever bytes it is given, so any exception is possible.
    except Exception as error:
        if "can't allocate memory" in str(error):
            raise MemoryError(str(error).splitlines()[0]) from error
        # Older versions of torch (2.6) refuse parts of a zip that Python's reader does not look at.
        if found := re.search('failed reading zip archive: (.*)', str(error)):
            raise DamagedError(f'it is damaged ({found[1]})') from error
        if found := re.search(r'GLOBAL ([\w.]+)', str(error)):
            raise CodeError(f'not a file of torch.save of tensors alone: {found[1]}') from error
        raise ValueError(f'not a file of torch.save: {type(error).__name__}') from error
    check_size(declared, path)  # tensors may repeat the same bytes any number of times
    return content


def _check_zip(path: Path) -> None:
    """Raise DamagedError for a zip whose records do not have the checksums written with them."""
    try:
        with zipfile.ZipFile(path) as archive:
            check_size(sum(record.file_size for record in archive.infolist()), path)
            # torch writes 0 after set_crc32_options(False), which leaves nothing to check.
            for record in filter(lambda record: record.CRC, archive.infolist()):
                _read_to_end(archive, record)
    except TooLargeError:
        raise
    except ZIP_ERRORS as error:
        with path.open('rb') as file:
            start = file.read(len(ZIP_START))
        if start == ZIP_START or zipfile.is_zipfile(path):  # older versions of torch wrote no zips
            raise DamagedError(f'it is damaged ({error})') from error


def _read_to_end(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> None:
    """Read a record, which raises BadZipFile at its end if the checksum is wrong."""
    with archive.open(record) as file:
        while file.read(CHUNK):
            pass


def _tensors(content: object) -> Iterator['Tensor']:
    """Yield the tensors in nested lists and dicts, each once."""
    import torch

    seen, left = set(), [content]
    while left:
        item = left.pop()
        if id(item) in seen:  # content may hold itself
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            yield item
        elif isinstance(item, dict):
            left += item.values()
        elif isinstance(item, list | tuple | set):
            left += item
