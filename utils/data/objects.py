"""Whether mask values number objects (cells, cars) instead of classes.

Numbers of objects are each in one piece, run from 1 in each mask, and come at other places in other
masks. Classes are often in several pieces; those that are not, such as organs, keep their places.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean, median
from typing import TYPE_CHECKING

import numpy as np

from utils.images.decoding import NO_PICTURES
from utils.images.pages import kind_of
from utils.masks.components import shapes_of_values
from utils.masks.joined import MaskSource, mask_files, open_mask
from utils.masks.rims import rim_values
from utils.masks.values import MaskValue, mask_array, pack_colours, unpack_colour

if TYPE_CHECKING:
    from .scan import DatasetScan

LOOKED_AT = 8  # masks that are opened
SIDE = 2048  # pixels of a mask that are looked at, from its corner
ONE_PIECE = 0.9  # fraction of a value's pixels in its largest component
SAME_PLACE = 0.05  # standard deviation of places that are one, in longer sides of the mask
MANY = 32  # more values in one piece each number objects
DIVISORS = (65536, 10000, 1000, 256, 100)  # of class * N + object that are in use


@dataclass
class Look:
    """What some masks show: values that are rims, and of each other value but 0 ...

    pieces: whether it is in one piece, in each mask. places: its centre from the mean of all, in
    longer sides of the mask.
    """

    rims: set[MaskValue] = field(default_factory=set)
    pieces: dict[MaskValue, list[bool]] = field(default_factory=dict)
    places: dict[MaskValue, list[np.ndarray]] = field(default_factory=dict)

    def in_one_piece(self, values: Sequence[MaskValue]) -> float:
        """Return the fraction of the values that are in one piece, over the masks."""
        found = [whole for value in values for whole in self.pieces.get(value, [])]
        return mean(found) if found else 0.0


def look_at(scan: 'DatasetScan') -> Look:
    """Open a few of the masks with several values, evenly spread, and describe them."""
    entries = [entry for entry in scan.metadata if len(entry.mask.counts) > 1]
    entries = entries[:: max(1, len(entries) // LOOKED_AT)][:LOOKED_AT]
    look = Look()
    seen: list[MaskValue] = []
    rims: list[MaskValue] = []
    for pair, _, mask in entries:
        values = mask_array(open_mask(pair.mask, scan.decode), pair.mask)[:SIDE, :SIDE]
        colours = values.ndim == 3
        values = pack_colours(values) if colours else values
        names, largest, centres = shapes_of_values(values)
        named = [unpack_colour(name) if colours else int(name) for name in names]
        rim = {unpack_colour(v) if colours else v for v in rim_values(values)}
        rims += rim
        seen += mask.counts
        inner = [k for k, name in enumerate(named) if name not in rim]
        for k in inner:
            offset = (centres[k] - centres[inner].mean(axis=0)) / max(values.shape)
            look.pieces.setdefault(named[k], []).append(bool(largest[k] >= ONE_PIECE))
            look.places.setdefault(named[k], []).append(offset)
    look.rims = {value for value in rims if 3 * rims.count(value) >= 2 * seen.count(value)}
    return look


def find_divisor(scan: 'DatasetScan', values: Sequence[MaskValue], look: Look) -> int | None:
    """Return N if the values are class * N + object, None if not.

    The remainders, which number the objects, are small. A value below N is a class of its own, and
    much smaller. Classes come in several masks.
    """
    best: tuple[int, int] | None = None  # largest remainder, N
    numbers = [value for value in values if isinstance(value, int) and value > 0]
    for divisor in DIVISORS:
        numbered = [value for value in numbers if value >= divisor]
        classes = Counter(value // divisor for value in numbered)
        alone = max((value for value in numbers if value < divisor), default=0)
        remainder = max((value % divisor for value in numbered), default=0)
        objects = [v for v in numbered if classes[v // divisor] > 1 and v % divisor]
        plausible = len(objects) > 1 and max(classes) < 255 and alone < divisor / 4
        if not plausible or remainder >= divisor / 2 or look.in_one_piece(objects) < 0.7:
            continue
        found = Counter(k for _, _, mask in scan.metadata for k in _classes(mask.counts, divisor))
        if best is None or remainder < best[0]:
            in_one = [k for k in classes if found[k] == 1]
            best = (remainder, divisor) if len(in_one) <= len(classes) / 2 else best
    return best and best[1]


def _classes(values: Iterable[MaskValue], divisor: int) -> set[int]:
    return {value // divisor for value in values if isinstance(value, int) and value >= divisor}


def number_objects(scan: 'DatasetScan', values: Sequence[MaskValue], look: Look) -> bool:
    """Return whether the values but 0 number objects of one class, see the module."""
    numbers = {value for value in values if isinstance(value, tuple) or value > 0} - {(0, 0, 0)}
    if len(numbers) < 4 or look.in_one_piece([*numbers]) < 0.9:
        return False
    if len(numbers) > MANY:
        return True
    found = [numbers.intersection(mask.counts) for _, _, mask in scan.metadata]
    found = [each for each in found if each]
    counts = [len(each) for each in found]
    differ, spread = min(counts) < max(counts), _spread(look, numbers)
    in_order = any(
        mean({*map(rank, each)} == {*range(1, len(each) + 1)} for each in found) >= 0.8
        for rank in (_rank, _sum_of_bands)
    )
    if in_order and differ and max(counts) >= 4 and (spread is None or spread >= 0.3):
        return True
    if spread is not None and spread >= 0.6 and median(counts) >= (5 if in_order else 8):
        return True
    if differ and all(_is_deep_picture(pair.mask, mask.mode) for pair, _, mask in scan.metadata):
        return True
    masks = Counter(value for each in found for value in each)
    return len(numbers) >= 8 and median(counts) >= 4 and mean(n == 1 for n in masks.values()) >= 0.8


def _spread(look: Look, values: Collection[MaskValue]) -> float | None:
    """Return the variance of each value's places, as a fraction of that of all places.

    None where there is nothing to compare: each value in one mask only, or all in one place.
    """
    groups = [np.stack(look.places[v]) for v in values if len(look.places.get(v, [])) > 1]
    if not groups:
        return None
    places = np.concatenate(groups)
    own = sum(((group - group.mean(axis=0)) ** 2).sum() for group in groups)
    own /= len(places) - len(groups)
    every = ((places - places.mean(axis=0)) ** 2).sum() / (len(places) - 1)
    return float(own / every) if every > SAME_PLACE**2 else None


def _rank(value: MaskValue) -> int:
    """Return a number as it is, and of a colour its number in the palette of Pascal VOC.

    Annotation tools write objects in this order: bits 0, 1 and 2 of the number are the highest
    bits of red, green and blue, bits 3, 4 and 5 the next ones.
    """
    if isinstance(value, int):
        return value
    bits = ((3 * j + k, band >> (7 - j) & 1) for j in range(8) for k, band in enumerate(value))
    return sum(bit << place for place, bit in bits)


def _sum_of_bands(value: MaskValue) -> int:
    """Return a number as it is, and of a colour the sum of its bands, of which one may number."""
    return value if isinstance(value, int) else sum(value)


def _is_deep_picture(mask: MaskSource, mode: str) -> bool:
    """Whether a mask is a picture of 16 bits. Arrays and volumes often have so many for classes."""
    return mode == 'I;16' and kind_of(mask_files(mask)[0]) not in NO_PICTURES
