"""The work list of predict.py: which images to read, which files to write, and their checks."""

import argparse
import functools
import glob
import math
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
from utils.images.pages import Page, Source, may_have_pages, split_name
from utils.images.volumes import check_package, is_volume
from utils.masks.visualize import has_display
from utils.runtime.distributed import broadcast_object, gather_shards, is_main_process, shard
from utils.runtime.errors import UserError, first_few

from .checkpoint import load_checkpoint
from .inputs import pages_to_predict
from .outputs.names import (
    InputFile,
    check_output_names,
    check_suffixes,
    is_folder,
    place_figures,
    place_masks,
    suffix_of,
)
from .predictor import Predictor


class Job(NamedTuple):
    """A file and what to write for it: its mask and its figure of --viz, or None.

    pages: those of a stack or volume, which are predicted one by one; empty for one picture.
    """

    source: Path
    target: Path | None
    figure: Path | None
    pages: tuple[Page, ...] = ()

    @property
    def pictures(self) -> tuple[Source, ...]:
        """What to predict: the file itself, or its pages."""
        return self.pages or (self.source,)


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
    found, ignored = find_images(args.input, sys.stdin, args.recursive, args.output)
    sources = with_pages(found, args.model[0])
    targets = place_masks(sources, args.output, args.format)
    written = [] if args.no_save or (args.rle and not args.output) else targets
    if written:
        check_suffixes(sources, written, args.format)
    inputs = [source.path for source in sources]
    shown = targets if args.viz and (not args.no_save or _can_show()) else []
    figures = place_figures(shown)
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
    folders = any(s.from_folder for s in sources) or is_folder(args.output, sources)
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
    pages = [source.pages for source in sources]
    jobs = map(Job, inputs, written or none, figures or none, pages)
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
) -> tuple[list[InputFile], list[str]]:
    """Return the images of files, folders, patterns and '-', and the names of ignored files.

    lines: what '-' stands for, one path per line. recursive: include subfolders. outputs: of -o; a
    folder inside an input folder is not searched. In folders and patterns, files that are no
    images, hidden, or outputs of this program are ignored. Raises UserError for missing inputs and
    for folders without images.
    """
    listed = (line.rstrip('\r\n') for line in lines if line.strip())
    words = [w for word in words for w in (listed if word == '-' else [word])]
    own = Path(outputs[0]).resolve() if outputs and len(outputs) == 1 else None
    named: list[InputFile] = []
    found: dict[Path, InputFile] = {}
    ignored: list[str] = []
    missing = []
    for word in words:
        path = Path(word)
        if path.is_file():
            named.append(InputFile(path, Path(path.name), False))
        elif path.is_dir():
            files = sorted(path.rglob('*') if recursive else path.iterdir())
            if recursive and own and path.resolve() in own.parents:
                files = [file for file in files if own not in file.resolve().parents]
            images, others = _images(files, path)
            if not images:
                raise UserError(f'no images in {path}{_what_else(files, others)}')
            found |= {file: InputFile(file, file.relative_to(path), True) for file in images}
            ignored += others
        elif matches := sorted(map(Path, glob.glob(word, recursive=True))):  # noqa: PTH207
            base = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
            images, others = _images(matches, base)
            found |= {file: InputFile(file, file.relative_to(base), False) for file in images}
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
    images = [file for file in seen if suffix_of(file) in IMAGE_SUFFIXES]
    stems = {split_name(str(file))[0] for file in images}
    wanted = [file for file in images if not is_own_output(split_name(str(file))[0], stems)]
    taken = set(wanted)
    return wanted, [file.name for file in seen if file not in taken]


def _what_else(files: list[Path], others: list[str]) -> str:
    folders = [f'{file.name}/' for file in files if file.is_dir()]
    if folders:
        return f'; it has the folders {first_few(folders)}. Use --recursive to search them.'
    return f'; other files: {first_few(others)}' if others else ''


def with_pages(inputs: list[InputFile], model: str) -> list[InputFile]:
    """Return the inputs with the pages of stacks and volumes.

    A TIFF whose planes may be pages as well as the channels of one picture is one picture if the
    network takes so many channels. A file that cannot be read is reported when it is decoded.
    Raises UserError if the package for volumes is missing.
    """
    volume = next((one.path for one in inputs if is_volume(one.path)), None)
    if volume:
        check_package(volume)

    @functools.cache
    def channels() -> int:
        """Return the channels of the network; few files ask for them."""
        return load_checkpoint(model).model['n_channels']

    def pages(one: InputFile) -> InputFile:
        """Return an input with its pages."""
        with suppress(UserError):
            return one._replace(pages=pages_to_predict(one.path, channels))
        return one

    asked = [one for one in inputs if may_have_pages(one.path)]
    with ThreadPoolExecutor(8) as pool:  # more than cores, because disks are slow to answer
        known = dict(zip(asked, pool.map(pages, asked), strict=True))
    return [known.get(one, one) for one in inputs]


def read_all_metadata(jobs: list[Job]) -> list[ImageMetadata | None]:
    """Return the metadata in the headers of the jobs' files; None if a header cannot be read.

    A single picture is read completely, so that its UserError comes before the network is loaded;
    for many that would cost as much as the prediction. Pages of a file have one size and one type.
    """
    firsts = [job.pictures[0] for job in jobs]
    if len(firsts) == 1:
        return [read_metadata(firsts[0])]

    def header(source: Source) -> ImageMetadata | None:
        """Return the metadata in a file's header, None if there is none."""
        with suppress(UserError):  # it is reported when the file is decoded
            return read_header(source)
        return None

    with ThreadPoolExecutor(8) as pool:
        return gather_shards(list(pool.map(header, shard(firsts))))


def check_inputs(
    jobs: list[Job], metadata: list[ImageMetadata | None], predictor: Predictor
) -> int:
    """Return how many pixels the network will see; raise UserError for images it cannot take."""
    known = [(job, found) for job, found in zip(jobs, metadata, strict=True) if found]
    inputs = [(job.source, found) for job, found in known]
    check_channels(inputs, predictor.model.n_channels, predictor.decode)
    sizes = [network_size(found.size, predictor.scale, str(path)) for path, found in inputs]
    width, height = max(sizes, key=math.prod, default=(1, 1))
    tiles = predictor.tiling_for((height, width))
    if tiles and not predictor.tiling:
        print(
            f'note: memory does not hold {width} x {height} pixels at once: predicting by {tiles}'
        )
    pixels = sum(
        math.prod(size) * len(job.pictures) for size, (job, _) in zip(sizes, known, strict=True)
    )
    return pixels * (1 + predictor.mirrored)
