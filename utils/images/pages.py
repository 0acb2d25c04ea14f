"""Pages of files that hold several pictures: TIFF stacks, and volumes, whose pages are slices."""

from dataclasses import dataclass
from pathlib import Path

from .compressed import split_name


@dataclass(frozen=True, order=True)
class Page:
    """One picture of a file of several. The index counts from 0; so do ids and reports."""

    path: Path
    index: int

    @property
    def name(self) -> str:
        """The file's name and the index: 'train-volume.tif:7'."""
        return f'{self.path.name}:{self.index}'

    @property
    def stem(self) -> str:
        """The name without extension: 'train-volume:7'."""
        return f'{split_name(self.path.name)[0]}:{self.index}'

    @property
    def suffix(self) -> str:
        """The file's extension, '.nii.gz' if it has two."""
        return split_name(self.path.name)[1]

    @property
    def parent(self) -> Path:
        """The file's folder."""
        return self.path.parent

    def __str__(self) -> str:
        return f'{self.path}:{self.index}'


Source = Path | Page  # of one picture


def file_of(source: Source) -> Path:
    """Return the file of a picture."""
    return source.path if isinstance(source, Page) else source


def page_of(source: Source) -> int | None:
    """Return the page of a picture, None for a file of its own."""
    return source.index if isinstance(source, Page) else None
