"""Annotation files in place of masks, recognised by their first and last bytes."""

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from .formats.run_columns import begins_with_runs, is_sample

SNIFFED = 65536  # bytes at either end of a file
LOOKED_AT = 20  # files of a kind in a folder
FOLDERS = 8  # folders in a folder

KEYS = (  # what the ends of a format's files contain, in this order of trial
    ('coco', (b'"(images|file_name)"', b'"(annotations|image_id)"', b'"categor(ies|y_id)"')),
    ('labelme', (b'"shapes"', b'"image(Path|Data|Height|Width)"')),
    ('via', (b'"regions"', b'"(filename|shape_attributes)"', b'"(region|file)_attributes"')),
    ('supervisely', (b'"objects"', b'"(classTitle|size)"', b'"tags"')),
    ('supervisely', (b'"classes"', b'"title"', b'"shape"')),
    ('label-studio', (b'"data"', b'"(annotations|completions)"')),
)
VIA_HEADER = re.compile(rb'[^\n]*\bregion_shape_attributes\b')
PARTS = ('coco', 'labelme', 'cvat', 'runs', 'via')  # several folders of a folder are read as one
SINGLE = ('coco', 'cvat', 'runs', 'via')  # one file may be IN; else all of the folder are meant
YOLO_LINE = re.compile(rb'\d+(?: -?[\d.]+(?:e-\d+)?){4,}\s*')
YOLO_ROOTS = ('data.yaml', 'data.yml', 'classes.txt', 'images')  # beside labels/


def annotation_command(images: Path, masks: Path) -> str | None:
    """Return the command that makes masks of the annotations near these folders, None without."""
    within = _within(masks)
    folders = [masks, *within, images, masks.parent, images.parent]
    for folder in dict.fromkeys(folders):
        with suppress(OSError):
            if found := _annotations_in(folder):
                kind, source = found
                others = (_annotations_in(part) for part in within if part != folder)
                if folder in within and kind in PARTS and any(o and o[0] == kind for o in others):
                    source = masks  # train/ and val/, each with its file
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
    for path in _some(folder, '*.csv'):
        if kind := _kind_of_csv(path):
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
        if kind == 'supervisely':
            return kind, _supervisely_root(folder)
        named = [path for path in paths if path.name.startswith('instances')] or paths
        return kind, named[0] if kind in SINGLE and len(named) == 1 else folder
    return None


def _some(folder: Path, pattern: str) -> Iterator[Path]:
    return islice((path for path in folder.glob(pattern) if path.name[0] != '.'), LOOKED_AT)


def _ends(path: Path) -> bytes:
    with path.open('rb') as file:
        start = file.read(SNIFFED)
        file.seek(max(file.seek(0, 2) - SNIFFED, 0))
        return start + file.read()


def _kind_of_csv(path: Path) -> str | None:
    with path.open('rb') as file:
        text = file.read(SNIFFED)
    if VIA_HEADER.match(text):
        return 'via'
    lines = text.decode('utf-8-sig', errors='replace').splitlines()
    return 'runs' if not is_sample(path) and begins_with_runs(lines) else None


def _supervisely_root(folder: Path) -> Path:
    """Return the folder that holds meta.json, of the project."""
    roots = (folder, *folder.parents[:3], *folder.resolve().parents[:3])
    return next((root for root in roots if (root / 'meta.json').is_file()), folder)


def _yolo_root(folder: Path) -> Path:
    """Return the folder that holds the table of classes, or pictures beside labels."""
    for root in (folder, folder.parent, folder.resolve().parent.parent):
        if any((root / name).exists() for name in YOLO_ROOTS):
            return root
    return folder
