"""Annotation files in place of masks, recognised by their first and last bytes."""

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

SNIFFED = 65536  # bytes at either end of a file
LOOKED_AT = 20  # files of a kind in a folder
FOLDERS = 8  # folders in a folder

KEYS = (  # what the ends of a format's files contain, in this order of trial
    ('coco', (b'"(images|file_name)"', b'"(annotations|image_id)"', b'"categor(ies|y_id)"')),
    ('labelme', (b'"shapes"', b'"image(Path|Data|Height|Width)"')),
    ('label-studio', (b'"data"', b'"(annotations|completions)"')),
)
YOLO_LINE = re.compile(rb'\d+(?: -?[\d.]+(?:e-\d+)?){4,}\s*')
YOLO_ROOTS = ('data.yaml', 'data.yml', 'classes.txt', 'images')  # beside labels/


def annotation_command(images: Path, masks: Path) -> str | None:
    """Return the command that makes masks of the annotations near these folders, None without."""
    folders = [masks, *_within(masks), images, masks.parent, images.parent]
    for folder in dict.fromkeys(folders):
        with suppress(OSError):
            if found := _annotations_in(folder):
                kind, source = found
                paths = ' '.join(shlex.quote(str(path)) for path in (source, _beside(source)))
                return f'python scripts/masks_from.py {kind} {paths}'
    return None


def _beside(source: Path) -> Path:
    """Return a folder for the masks, beside that of the annotations."""
    folder = source.parent if source.is_file() else source
    name = f'{folder.resolve().name}_masks'
    return folder / '..' / name if folder.name in ('', '..') else folder.with_name(name)


def _within(folder: Path) -> list[Path]:
    with suppress(OSError):
        below = sorted(path for path in folder.iterdir() if path.is_dir())
        return [path for path in below if not path.name.startswith('.')][:FOLDERS]
    return []


def _annotations_in(folder: Path) -> tuple[str, Path] | None:
    """Return the format of a folder's annotations, and what to name as IN; None without any."""
    kinds: dict[str, list[Path]] = {}
    for path in _some(folder, '*.json'):
        text = _ends(path)
        fitting = (kind for kind, keys in KEYS if all(re.search(key, text) for key in keys))
        if kind := next(fitting, None):
            kinds.setdefault(kind, []).append(path)
    for path in _some(folder, '*.xml'):
        if re.search(rb'<annotations>.*(<image |</image>|<track )', _ends(path), re.DOTALL):
            kinds.setdefault('cvat', []).append(path)
    for path in _some(folder, '*.txt'):
        first = _ends(path).strip().splitlines()[:1]
        if first and YOLO_LINE.fullmatch(first[0]):
            kinds.setdefault('yolo', []).append(path)
    for kind, paths in kinds.items():
        if kind == 'yolo':
            return kind, _yolo_root(folder)
        named = [path for path in paths if path.name.startswith('instances')] or paths
        alone = kind in ('coco', 'cvat') and len(named) == 1  # else all of the folder are meant
        return kind, named[0] if alone else folder
    return None


def _some(folder: Path, pattern: str) -> Iterator[Path]:
    return islice((path for path in folder.glob(pattern) if path.name[0] != '.'), LOOKED_AT)


def _ends(path: Path) -> bytes:
    with path.open('rb') as file:
        start = file.read(SNIFFED)
        file.seek(max(file.seek(0, 2) - SNIFFED, 0))
        return start + file.read()


def _yolo_root(folder: Path) -> Path:
    """Return the folder that holds the table of classes, or pictures beside labels."""
    for root in (folder, folder.parent, folder.resolve().parent.parent):
        if any((root / name).exists() for name in YOLO_ROOTS):
            return root
    return folder
