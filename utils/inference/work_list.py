"""The work list of predict.py: which images to read, which files to write, and their checks."""

import argparse
import glob
import math
import os
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from utils.data.network_limits import check_channels, network_size
from utils.data.pairing.matching import is_own_output
from utils.images.decoding import IMAGE_SUFFIXES
from utils.images.metadata import ImageMetadata, read_header, read_metadata
from utils.masks.visualize import has_display
from utils.runtime.distributed import broadcast_object, gather_shards, is_main_process, shard
from utils.runtime.errors import UserError, first_few
from utils.runtime.files import check_output_file

from .predictor import Predictor
from .writer import ARRAY_SUFFIX, OUTPUT_SUFFIXES


class Source(NamedTuple):
    """An image to predict; `below` is its path relative to the folder or pattern of -i."""

    path: Path
    below: Path
    from_folder: bool


class Job(NamedTuple):
    """An image and the files to write for it: its mask and its figure of --viz, or None."""

    source: Path
    target: Path | None
    figure: Path | None


def plan_jobs(args: argparse.Namespace) -> list[Job]:
    """Return the images to predict and the files to write, or raise UserError, on all ranks.

    Only the main rank has standard input.
    """
    plan: list[Job] | UserError = []
    if is_main_process():
        try:
            plan = _plan(args)
        except UserError as error:
            plan = error
    plan = broadcast_object(plan)
    if isinstance(plan, UserError):
        raise plan
    return plan


def _plan(args: argparse.Namespace) -> list[Job]:
    sources, ignored = find_images(args.input, sys.stdin, args.recursive, args.output)
    suffix = ARRAY_SUFFIX if args.format == 'probabilities' else '.png'
    targets = place_masks(sources, args.output, suffix)
    written = [] if args.no_save or (args.rle and not args.output) else targets
    if unknown := [path for path in written if path.suffix.lower() not in OUTPUT_SUFFIXES]:
        raise UserError(
            f'cannot write {first_few(unknown)}; expected a name that ends in '
            f'{", ".join(OUTPUT_SUFFIXES)}'
        )
    inputs = [source.path for source in sources]
    shown = targets if args.viz and (not args.no_save or _can_show()) else []
    figures = [path.with_name(f'{path.stem.removesuffix("_OUT")}_VIZ.png') for path in shown]
    saved = written + ([] if args.no_save else figures)
    check_output_names(inputs, saved + ([args.rle] if args.rle else []))
    names = Counter(path.name for path in inputs if args.rle)
    if twice := [name for name, count in names.items() if count > 1]:
        raise UserError(
            f'--rle identifies images by name without folder, but several are named '
            f'{first_few(twice)}. Rename them or predict them separately.'
        )
    old = [] if args.overwrite else [target for target in written if target.exists()]
    # A folder may hold other masks than this program's. Files given by name are overwritten.
    folders = any(s.from_folder for s in sources) or _is_folder(args.output, sources)
    if old and folders and not args.skip_existing:
        raise UserError(
            f'{len(old)} of {len(targets)} masks exist already: {first_few(old)}. Use '
            '--skip-existing to keep them or --overwrite to replace them.'
        )
    if ignored:
        print(f'note: {len(ignored)} other files ignored: {first_few(ignored)}')
    kept = set(old if args.skip_existing else [])
    if kept:
        print(f'note: {len(kept)} masks exist already and are kept')
    none = [None] * len(inputs)
    jobs = map(Job, inputs, written or none, figures or none)
    return [job for job in jobs if job.target not in kept]


def _can_show() -> bool:
    """Return whether --viz can open windows; say so if not, as --no-save leaves it no other way."""
    found = has_display()
    if not found:
        print(
            'note: no display: --viz shows nothing, and because of --no-save nothing is written. '
            'Leave --no-save out to have the figures written as NAME_VIZ.png.'
        )
    return found


def find_images(
    words: list[str], lines: Iterable[str], recursive: bool, outputs: list[str] | None
) -> tuple[list[Source], list[str]]:
    """Return the images of files, folders, patterns and '-', and the names of ignored files.

    lines: what '-' stands for, one path per line. recursive: include subfolders. outputs: of -o; a
    folder inside an input folder is not searched. In folders and patterns, files that are no
    images, hidden, or outputs of this program are ignored. Raises UserError for missing inputs and
    for folders without images.
    """
    listed = (line.rstrip('\r\n') for line in lines if line.strip())
    words = [w for word in words for w in (listed if word == '-' else [word])]
    own = Path(outputs[0]).resolve() if outputs and len(outputs) == 1 else None
    named: list[Source] = []
    found: dict[Path, Source] = {}
    ignored: list[str] = []
    missing = []
    for word in words:
        path = Path(word)
        if path.is_file():
            named.append(Source(path, Path(path.name), False))
        elif path.is_dir():
            files = sorted(path.rglob('*') if recursive else path.iterdir())
            if recursive and own and path.resolve() in own.parents:
                files = [file for file in files if own not in file.resolve().parents]
            images, others = _images(files, path)
            if not images:
                raise UserError(f'no images in {path}{_what_else(files, others)}')
            found |= {file: Source(file, file.relative_to(path), True) for file in images}
            ignored += others
        elif matches := sorted(map(Path, glob.glob(word, recursive=True))):  # noqa: PTH207
            base = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
            images, others = _images(matches, base)
            found |= {file: Source(file, file.relative_to(base), False) for file in images}
            ignored += others
        else:
            missing.append(word)
    if missing:
        raise UserError(f'no such input file: {first_few(missing)}')
    if not named and not found:
        raise UserError(f'-i names no images{_what_else([], ignored)}')
    for source in named:
        found.pop(source.path, None)
    return [*named, *found.values()], ignored


def _images(files: list[Path], base: Path) -> tuple[list[Path], list[str]]:
    """Return the images among the files, and the names of the others that are not hidden."""
    seen = [
        file
        for file in files
        if file.is_file() and not any(p.startswith('.') for p in file.relative_to(base).parts)
    ]
    images = [file for file in seen if file.suffix.lower() in IMAGE_SUFFIXES]
    stems = {str(file.with_suffix('')) for file in images}
    wanted = [file for file in images if not is_own_output(str(file.with_suffix('')), stems)]
    taken = set(wanted)
    return wanted, [file.name for file in seen if file not in taken]


def _what_else(files: list[Path], others: list[str]) -> str:
    folders = [f'{file.name}/' for file in files if file.is_dir()]
    if folders:
        return f'; it has the folders {first_few(folders)}. Use --recursive to search them.'
    return f'; other files: {first_few(others)}' if others else ''


def place_masks(sources: list[Source], outputs: list[str] | None, suffix: str) -> list[Path]:
    """Return the mask file of each image: as given by -o, else NAME_OUT beside the image.

    outputs: one name per image, or one folder for all, in which masks keep their images' relative
    paths. suffix: of names that -o does not give. Raises UserError if they do not fit.
    """
    if not outputs:
        return [s.path.with_name(f'{s.path.stem}_OUT{suffix}') for s in sources]
    if _is_folder(outputs, sources):
        folder = Path(outputs[0])
        if folder.exists() and not folder.is_dir():
            raise UserError(f'-o {folder} is a file; expected a folder for the masks')
        return [folder / s.below.parent / f'{s.below.stem}{suffix}' for s in sources]
    if len(outputs) != len(sources):
        raise UserError(
            f'-o has {len(outputs)} names for {len(sources)} inputs. Give one name per input, a '
            'folder (-o NAME/), or leave -o out.'
        )
    targets = [Path(name) for name in outputs]
    for target in targets:
        check_output_file(target)
    return targets


def _is_folder(outputs: list[str] | None, sources: list[Source]) -> bool:
    """Whether -o is a folder: it exists as one, ends in /, or has no suffix and many inputs."""
    if not outputs or len(outputs) > 1:
        return False
    name = outputs[0]
    many = len(sources) > 1 or sources[0].from_folder
    return name.endswith(('/', os.sep)) or (many and not Path(name).suffix) or Path(name).is_dir()


def check_output_names(inputs: Iterable[Path], outputs: list[Path]) -> None:
    """Raise UserError if two outputs are the same file, or one is an input or a folder."""
    resolved = [path.resolve() for path in outputs]
    count, protected = Counter(resolved), {path.resolve() for path in inputs}
    for path, place in zip(outputs, resolved, strict=True):
        if count[place] > 1:
            raise UserError(f'two inputs would be written to {path}; give each its own -o name')
        if place in protected:
            raise UserError(f'the output {path} is an input and would be lost; choose another -o')
        if place.is_dir():
            raise UserError(f'the output {path} is a folder; choose another -o')


def read_all_metadata(inputs: list[Path]) -> list[ImageMetadata | None]:
    """Return the metadata in the headers of the inputs; None if a header cannot be read.

    A single input is read completely, so that its UserError comes before the network is loaded; for
    many that would cost as much as the prediction.
    """
    if len(inputs) == 1:
        return [read_metadata(inputs[0])]

    def header(path: Path) -> ImageMetadata | None:
        """Return the metadata in a file's header, None if there is none."""
        with suppress(UserError):  # it is reported when the file is decoded
            return read_header(path)
        return None

    with ThreadPoolExecutor(8) as pool:  # more than cores, because disks are slow to answer
        return gather_shards(list(pool.map(header, shard(inputs))))


def check_inputs(
    jobs: list[Job], metadata: list[ImageMetadata | None], predictor: Predictor
) -> int:
    """Return how many pixels the network will see; raise UserError for images it cannot take."""
    known = [(job.source, found) for job, found in zip(jobs, metadata, strict=True) if found]
    check_channels(known, predictor.model.n_channels, predictor.decode)
    sizes = [network_size(found.size, predictor.scale, str(path)) for path, found in known]
    width, height = max(sizes, key=math.prod, default=(1, 1))
    tiles = predictor.tiling_for((height, width))
    if tiles and not predictor.tiling:
        print(
            f'note: memory does not hold {width} x {height} pixels at once: predicting by {tiles}'
        )
    return sum(map(math.prod, sizes)) * (1 + predictor.mirrored)
