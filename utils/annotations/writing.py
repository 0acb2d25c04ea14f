"""Masks of all pictures, as PNG files of class indices, and classes.json."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from utils.masks.encoding import IGNORE
from utils.runtime.errors import UserError
from utils.runtime.files import check_output_folder, whole_file

from .drawing import draw
from .placing import PlacedPicture, Placement, in_threads
from .records import AnnotationSet, Outlines, class_table


@dataclass
class Written:
    """What was written: the classes, and lines for the user."""

    classes: dict[str, int]
    notes: list[str]
    ignored: bool  # whether some pixels are IGNORE


def check_output(out: Path, overwrite: bool) -> None:
    """Raise UserError if masks cannot be written there."""
    if out.exists() and not out.is_dir():
        check_output_folder(out)
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise UserError(f'{out} is not empty; name another folder, or add --overwrite')


def write_masks(found: AnnotationSet, placement: Placement, out: Path) -> Written:
    """Write a mask for each picture and classes.json; return what the user should know.

    Each mask is an 8-bit PNG of class indices, 0 background, IGNORE where nothing counts.
    """
    values = found.class_values()
    _check_targets(placement, out)
    for folder in sorted({(out / placed.mask).parent for placed in placement.pictures} | {out}):
        folder.mkdir(parents=True, exist_ok=True)
    results = in_threads(
        lambda placed: _write_mask(placed, values, out / placed.mask), placement.pictures
    )
    table = class_table(values)
    with whole_file(out / 'classes.json') as part:
        part.write_text(json.dumps(table, ensure_ascii=False) + '\n', encoding='utf-8')
    notes = [*found.notes(), *_notes(placement, results)]
    histogram = np.sum([counts for _, counts in results], axis=0)
    absent = [label for label, value in table.items() if value and not histogram[value]]
    if absent:
        shown = ', '.join(absent[:5]) + (', …' if len(absent) > 5 else '')
        notes.append(f'note: classes without a pixel: {len(absent)} ({shown})')
    return Written(table, notes, bool(histogram[IGNORE]))


def _check_targets(placement: Placement, out: Path) -> None:
    """Raise UserError if a mask would replace a picture."""
    pictures = {placed.path for placed in placement.pictures}
    folder = out.resolve()
    for placed in placement.pictures:
        if folder / placed.mask in pictures:
            raise UserError(
                f'the mask {placed.mask} would replace a picture in {out}; name another folder'
            )


def _write_mask(
    placed: PlacedPicture, values: dict[str, int], path: Path
) -> tuple[tuple[int, int, int], np.ndarray]:
    """Draw and write a mask.

    Returns pixels that two classes claim, shapes without a pixel, shapes that reach beyond the
    picture, and the count of pixels of each value, (256,).
    """
    mask, claimed, empty = draw(placed.picture, placed.size, values)
    with whole_file(path) as part:
        Image.fromarray(mask).save(part)
    beyond = sum(_reaches_out(shape.area, placed) for shape in placed.picture.shapes)
    counts = np.bincount(mask.ravel(), minlength=256)
    return (claimed, len(empty), beyond), counts


def _reaches_out(area: object, placed: PlacedPicture) -> bool:
    """Return whether outlines leave the picture by more than a pixel."""
    if not isinstance(area, Outlines):
        return False
    scale = np.array(placed.size if placed.picture.relative else (1, 1))
    return any(
        bool((ring * scale < -1).any() or (ring * scale > np.add(placed.size, 1)).any())
        for ring in area.rings
    )


def _notes(
    placement: Placement, results: list[tuple[tuple[int, int, int], np.ndarray]]
) -> list[str]:
    """Return lines about pictures and pixels, with an example of each."""
    pictures = placement.pictures
    claimed, empty, beyond = zip(*(numbers for numbers, _ in results), strict=True)
    missing = [placed.picture.names[0] for placed in pictures if placed.path is None]
    without = [placed.mask for placed in pictures if not placed.picture.shapes]

    def first(counts: tuple[int, ...]) -> str:
        return next(p.mask for p, count in zip(pictures, counts, strict=True) if count)

    notes = []
    if without:
        notes.append(f'pictures without an object, all background: {len(without)} ({without[0]})')
    if missing:
        notes.append(f'masks of pictures that are not there: {len(missing)} ({missing[0]})')
    if total := sum(claimed):
        several = sum(map(bool, claimed))
        notes.append(
            f'pixels of two classes, of which the later shape counts: {total} in {several} '
            f'picture{"s" * (several > 1)} ({first(claimed)})'
        )
    if total := sum(beyond):
        notes.append(f'outlines that reach beyond their picture are cut: {total} ({first(beyond)})')
    if total := sum(empty):
        notes.append(
            f'shapes without a pixel, too thin or outside the picture: {total} ({first(empty)})'
        )
    return [f'note: {note}' for note in notes]
