"""Files of one content under two names."""

import hashlib
from collections import defaultdict
from pathlib import Path

from .errors import first_few


def same_content(some: list[Path], others: list[Path]) -> list[tuple[Path, Path]]:
    """Each of `others` that is equal, byte for byte, to one of `some`, behind that one.

    Only files of one size are read: a few of Carvana's 5,088.
    """
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in some:
        by_size[path.stat().st_size].append(path)
    found = []
    for path in others:
        twins = by_size.get(path.stat().st_size, [])
        digest = _digest(path) if twins else ''
        found += [(twin, path) for twin in twins if _digest(twin) == digest][:1]
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
