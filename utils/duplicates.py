"""Files of one content under two names."""

import filecmp
from collections import defaultdict
from itertools import islice
from pathlib import Path

from .errors import first_few

SAMPLE = 4096  # bytes at the start and in the middle that tell most files of one size apart


def same_content(some: list[Path], others: list[Path]) -> list[tuple[Path, Path]]:
    """Each of `others` that is equal, byte for byte, to one of `some`, behind that one.

    Only files of one size are opened, and only those with equal samples read to their end.
    """
    sizes = {path.stat().st_size for path in others}
    alike: dict[tuple, list[Path]] = defaultdict(list)
    for path in some:
        if path.stat().st_size in sizes:
            alike[_sample(path)].append(path)
    found = []
    for path in others if alike else []:
        twins = alike.get(_sample(path), [])
        equal = (twin for twin in twins if filecmp.cmp(twin, path, shallow=False))
        found += [(twin, path) for twin in islice(equal, 1)]
    return found


def _sample(path: Path) -> tuple[int, bytes, bytes]:
    size = path.stat().st_size
    with path.open('rb') as file:
        start = file.read(SAMPLE)
        file.seek(size // 2)
        return size, start, file.read(SAMPLE)


def describe_duplicates(training: list[Path], validation: list[Path]) -> list[str]:
    """A note where images to validate on are among those trained on: their score is too good."""
    found = same_content(training, validation)
    if not found:
        return []
    names = first_few(f'{theirs.name} = {ours.name}' for ours, theirs in found)
    return [
        f'note: {len(found)} images to validate on are also trained on, under another name, and '
        f'make scores too good: {names}'
    ]
