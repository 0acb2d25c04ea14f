"""Names of predict.py's output files: by default, as given by -o, and their checks."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence, Sized
from pathlib import Path
from typing import NamedTuple

from utils.images.pages import Page, split_name
from utils.images.volumes import is_volume
from utils.runtime.errors import UserError, first_few
from utils.runtime.files import check_output_file

ARRAY_SUFFIX = '.npy'
STACK_SUFFIXES = ('.tif', '.tiff')
VOLUME_SUFFIXES = ('.nii.gz', '.nii')
# Of masks of one picture, of several, and of a volume.
OUTPUT_SUFFIXES = ('.png', '.jpg', '.jpeg', '.gif', *STACK_SUFFIXES, '.bmp', ARRAY_SUFFIX)
SEVERAL_SUFFIXES = (*STACK_SUFFIXES, ARRAY_SUFFIX)
OF_VOLUME_SUFFIXES = (*VOLUME_SUFFIXES, *SEVERAL_SUFFIXES)


class InputFile(NamedTuple):
    """A file to predict; `below` is its path relative to the folder or pattern of -i.

    pages: those of a stack, or the slices of a volume; empty for a file of one picture.
    """

    path: Path
    below: Path
    from_folder: bool
    pages: tuple[Page, ...] = ()

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The endings that names of its mask may have."""
        if is_volume(self.path):
            return OF_VOLUME_SUFFIXES
        return SEVERAL_SUFFIXES if self.pages else OUTPUT_SUFFIXES

    def default_suffix(self, output_format: str) -> str:
        """Return the ending of its mask's name where -o does not give one."""
        if is_volume(self.path):
            suffix = suffix_of(self.path)
            return suffix if suffix in VOLUME_SUFFIXES else VOLUME_SUFFIXES[0]
        return ARRAY_SUFFIX if output_format == 'probabilities' else self.suffixes[0]


def suffix_of(path: Path) -> str:
    """Return the ending of a name in small letters, '.nii.gz' and the like as one."""
    return split_name(path.name)[1].lower()


def stem_of(path: Path) -> str:
    """Return a name without its ending."""
    return split_name(path.name)[0]


def in_words(path: Path, pages: Sized) -> str:
    """Return '30 pages', or '30 slices' for a volume."""
    word = 'slice' if is_volume(path) else 'page'
    return f'{len(pages)} {word}{"s" * (len(pages) != 1)}'


def place_masks(
    inputs: Sequence[InputFile], outputs: list[str] | None, output_format: str
) -> list[Path]:
    """Return the mask file of each input: as given by -o, else NAME_OUT beside the input.

    outputs: one name per input, or one folder for all, in which masks keep their inputs' relative
    paths. Raises UserError if they do not fit.
    """
    suffixes = [one.default_suffix(output_format) for one in inputs]
    if not outputs:
        named = zip(inputs, suffixes, strict=True)
        return [one.path.with_name(f'{stem_of(one.path)}_OUT{suffix}') for one, suffix in named]
    if is_folder(outputs, inputs):
        folder = Path(outputs[0])
        if folder.exists() and not folder.is_dir():
            raise UserError(f'-o {folder} is a file; expected a folder for the masks')
        below = [one.below.with_name(stem_of(one.below)) for one in inputs]
        return [folder / f'{path}{end}' for path, end in zip(below, suffixes, strict=True)]
    if len(outputs) != len(inputs):
        raise UserError(
            f'-o has {len(outputs)} names for {len(inputs)} inputs. Give one name per input, a '
            'folder (-o NAME/), or leave -o out.'
        )
    targets = [Path(name) for name in outputs]
    for target in targets:
        check_output_file(target)
    return targets


def is_folder(outputs: list[str] | None, inputs: Sequence[InputFile]) -> bool:
    """Return whether -o is a folder: it is one, ends in /, or has no suffix and many inputs."""
    if not outputs or len(outputs) > 1:
        return False
    name = outputs[0]
    many = len(inputs) > 1 or inputs[0].from_folder
    return name.endswith(('/', os.sep)) or (many and not Path(name).suffix) or Path(name).is_dir()


def check_suffixes(inputs: Sequence[InputFile], targets: list[Path], output_format: str) -> None:
    """Raise UserError for a name that cannot hold the mask of its input in this format."""
    unknown = [
        (target, one)
        for one, target in zip(inputs, targets, strict=True)
        if suffix_of(target) not in one.suffixes
    ]
    if unknown:
        target, one = unknown[0]
        what = f'the {in_words(one.path, one.pages)} of {one.path.name} into ' if one.pages else ''
        names = str(target) if what else first_few(name for name, _ in unknown)
        raise UserError(
            f'cannot write {what}{names}; expected a name that ends in {", ".join(one.suffixes)}'
        )
    volumes = [target for target in targets if suffix_of(target) in VOLUME_SUFFIXES]
    if volumes and output_format in ('color', 'overlay'):
        raise UserError(
            f'cannot write colours into the volume {first_few(volumes)}; expected --format '
            f'values, index or probabilities, or names that end in {", ".join(SEVERAL_SUFFIXES)} '
            '(-o NAME.tif)'
        )


def place_figures(targets: Iterable[Path]) -> list[Path]:
    """Return the figure of --viz for each mask file: NAME_VIZ.png."""
    return [path.with_name(f'{stem_of(path).removesuffix("_OUT")}_VIZ.png') for path in targets]


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
