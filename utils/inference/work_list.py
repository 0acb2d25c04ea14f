"""What predict.py reads and writes: the pictures that -i names, and where each mask goes.

What the inputs of predict.py hold, and whether a network can take them.
"""

import glob
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from utils.data.pairing import is_own_output
from utils.images.decoding import IMAGE_SUFFIXES
from utils.images.metadata import ImageMetadata, read_header, read_metadata
from utils.runtime.distributed import gather_shards, shard
from utils.runtime.errors import UserError, first_few

REMEDY = 'Give a folder (-o NAME/), one name each, or leave -o out.'


class Source(NamedTuple):
    """A picture to predict; `below` is its path below the folder or pattern that held it."""

    path: Path
    below: Path
    listed: bool  # found in a folder, not named


class Job(NamedTuple):
    """A picture, and the files to write of it: its mask and a sheet to look at, or None."""

    source: Path
    target: Path | None
    sheet: Path | None


def find_pictures(
    words: list[str], lines: Iterable[str], recursive: bool, outputs: list[str] | None
) -> tuple[list[Source], list[str]]:
    """The pictures that files, folders, patterns and '-' name, and the names of files left out.

    lines: what '-' stands for, a path a line. recursive: look into folders in folders. outputs:
    of -o; where that is a folder inside of one that is looked into, it is not looked into.

    Files that are named are taken as they are. Of those in folders and patterns, ones that are no
    pictures, hidden, or this program's own outputs are left out. Raises UserError for what is not
    there and for a folder without pictures.
    """
    words = [w for word in words for w in (_paths(lines) if word == '-' else [word])]
    own = Path(outputs[0]).resolve() if outputs and len(outputs) == 1 else None
    named: list[Source] = []
    found: list[Source] = []
    left_out, missing = [], []
    for word in words:
        path = Path(word)
        if path.is_file():
            named.append(Source(path, Path(path.name), False))
        elif path.is_dir():
            files = _files_of(path, recursive, own)
            some, others = _pictures(files, path)
            if not some:
                raise UserError(f'no pictures in {path}{_what_else(files, others)}')
            found += some
            left_out += others
        elif matches := sorted(map(Path, glob.glob(word, recursive=True))):  # noqa: PTH207
            some, others = _pictures(matches, _fixed_part(word))
            found += [source._replace(listed=False) for source in some]
            left_out += others
        else:
            missing.append(word)
    if missing:
        raise UserError(f'no such input file: {first_few(missing)}')
    if not named and not found:
        raise UserError(f'-i names no pictures{_what_else([], left_out)}')
    named_too = {source.path for source in named}
    once = {source.path: source for source in found if source.path not in named_too}
    return named + list(once.values()), left_out


def _paths(lines: Iterable[str]) -> list[str]:
    return [line.rstrip('\r\n') for line in lines if line.strip()]


def _files_of(folder: Path, recursive: bool, own: Path | None) -> list[Path]:
    """What is in a folder, in order; in its folders too if asked, but not in our `own`."""
    if not recursive:
        return sorted(folder.iterdir())
    files = sorted(folder.rglob('*'))
    if own and folder.resolve() in own.parents:
        files = [file for file in files if own not in file.resolve().parents]
    return files


def _pictures(files: list[Path], base: Path) -> tuple[list[Source], list[str]]:
    """Those of the files that are pictures, and the names of others that one might miss."""
    suffixes = IMAGE_SUFFIXES
    seen = [
        file
        for file in files
        if file.is_file() and not any(p.startswith('.') for p in file.relative_to(base).parts)
    ]
    pictures = [file for file in seen if file.suffix.lower() in suffixes]
    stems = {str(file.with_suffix('')) for file in pictures}
    ours = {file for file in pictures if is_own_output(str(file.with_suffix('')), stems)}
    wanted = [file for file in pictures if file not in ours]
    others = [f.name for f in seen if f in ours or f.suffix.lower() not in suffixes]
    return [Source(file, file.relative_to(base), True) for file in wanted], others


def _fixed_part(pattern: str) -> Path:
    """The folders of a pattern before its first sign that stands for others."""
    parts = Path(pattern).parts
    fixed = next(k for k, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[: min(fixed, len(parts) - 1)])


def _what_else(files: list[Path], others: list[str]) -> str:
    folders = [f'{file.name}/' for file in files if file.is_dir()]
    if folders:
        return f'; there are {first_few(folders)}: look into folders with --recursive'
    return f'; there are {first_few(others)}, which are not looked at' if others else ''


def place_masks(sources: list[Source], outputs: list[str] | None, suffix: str) -> list[Path]:
    """The mask file of each picture: as -o says, else NAME_OUT beside it.

    outputs: a name each, or one folder for all, in which they keep the paths they have below
    theirs; that is made if it is missing. suffix: of names that nobody gave. Raises UserError
    where the names are not enough, or a folder is missing that is named.
    """
    if not outputs:
        return [s.path.with_name(f'{s.path.stem}_OUT{suffix}') for s in sources]
    if _is_folder(outputs, sources):
        folder = Path(outputs[0])
        if folder.exists() and not folder.is_dir():
            raise UserError(f'-o {folder} is a file; expected a folder for the masks')
        return [folder / s.below.parent / f'{s.below.stem}{suffix}' for s in sources]
    if len(outputs) != len(sources):
        raise UserError(f'-o has {len(outputs)} names for {len(sources)} inputs. {REMEDY}')
    targets = [Path(name) for name in outputs]
    for target in targets:
        if not target.parent.is_dir():
            raise UserError(f'no folder {target.parent} to write into; make it first')
    return targets


def _is_folder(outputs: list[str], sources: list[Source]) -> bool:
    """Whether -o names a folder: one there is, one that ends in /, or none has a suffix."""
    name = outputs[0]
    if len(outputs) > 1:
        return False
    many = len(sources) > 1 or sources[0].listed
    looks = name.endswith(('/', os.sep)) or (many and not Path(name).suffix)
    return looks or Path(name).is_dir()


def check_places(sources: Iterable[Path], places: list[Path]) -> None:
    """Raise UserError where two files would be written to one place, or one over an input."""
    resolved = [path.resolve() for path in places]
    count, inputs = Counter(resolved), {path.resolve() for path in sources}
    for path, place in zip(places, resolved, strict=True):
        if count[place] > 1:
            raise UserError(f'two inputs would be written to {path}; give each its own -o name')
        if place in inputs:
            raise UserError(f'the output {path} is an input and would be lost; choose another -o')
        if place.is_dir():
            raise UserError(f'the output {path} is a folder; choose another -o')


def without_existing(
    sources: list[Source], targets: list[Path], outputs: list[str] | None, skip: bool
) -> list[bool]:
    """Whether to predict each picture: with `skip`, if its mask is not there yet.

    Without it, raises UserError for masks that are there where a folder was named, which may hold
    another's work; a file that is named is written anew.
    """
    there = [target.exists() for target in targets]
    folders = any(s.listed for s in sources) or (outputs and _is_folder(outputs, sources))
    if any(there) and folders and not skip:
        old = [target for target, exists in zip(targets, there, strict=True) if exists]
        raise UserError(
            f'{len(old)} of {len(targets)} masks are there already: {first_few(old)}. '
            '--skip-existing leaves them, --overwrite writes them anew.'
        )
    return [not exists or not skip for exists in there]


def read_all_metadata(inputs: list[Path]) -> list[ImageMetadata | None]:
    """What the inputs hold, by their headers; None where one says nothing.

    A single input is read to its end, for its UserError to come before the model is loaded; of
    many that would cost as much as the work, which goes on without the broken ones.
    """
    if len(inputs) == 1:
        return [read_metadata(inputs[0])]

    def header(path: Path) -> ImageMetadata | None:
        """None for a file that will be reported when it is read."""
        try:
            return read_header(path)
        except UserError:
            return None

    with ThreadPoolExecutor(8) as pool:  # more than cores, since disks answer late
        return gather_shards(list(pool.map(header, shard(inputs))))
