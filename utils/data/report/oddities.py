"""Which pairs of a data set to look at: the emptiest, the fullest, those of the rarest class, …

Axis letters: N pairs, K classes.
"""

import random
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from utils.masks.encoding import MaskEncoding
from utils.masks.values import MaskValue

if TYPE_CHECKING:
    from ..scan import DatasetScan

EACH = 3  # pairs of a group
RANDOM = 12


class Group(NamedTuple):
    """Pairs to look at."""

    title: str
    remarks: dict[int, str]  # what is odd about a pair, by its position


def class_shares(scan: 'DatasetScan', masks: MaskEncoding) -> np.ndarray:
    """Return each class's share of the pixels of each mask, (N, K); ignored pixels are no class."""
    shares = np.zeros((len(scan.metadata), len(masks.values)))
    for k in range(len(scan.metadata)):
        counts = scan.pixels([k])
        total = max(1, sum(counts.values()))
        shares[k] = [counts.get(value, 0) / total for value in masks.values]
    return shares


def foreground_shares(shares: np.ndarray, masks: MaskEncoding) -> np.ndarray:
    """Return the share of all classes but the background, (N,)."""
    return shares[:, masks.scored].sum(axis=1)


def odd_pairs(
    scan: 'DatasetScan', masks: MaskEncoding, shares: np.ndarray, notes: Iterable[str]
) -> list[Group]:
    """Return the groups of pairs that stand at an end of the set.

    shares: of class_shares. notes: on the masks' values; those of the values that a note proposes
    to ignore, or to take for objects, are shown.
    """
    if not scan.metadata:
        return []
    groups = []
    if masks.background is not None and masks.scored:
        part = foreground_shares(shares, masks)
        order = np.argsort(part, kind='stable')
        for title, chosen in (
            ('Emptiest masks', order[:EACH]),
            ('Fullest masks', order[::-1][:EACH]),
        ):
            groups.append(Group(title, {int(k): f'foreground {percent(part[k])}' for k in chosen}))
    present = [k for k in masks.scored if shares[:, k].any()]
    if len(present) > 1:
        rarest = min(present, key=lambda k: shares[:, k].sum())
        title = f'Rarest class: {masks.titles[rarest]}'
        groups.append(_most(title, shares[:, rarest], masks.titles[rarest]))
        apart = np.abs(shares - np.median(shares, axis=0)).sum(axis=1) / 2
        groups.append(_most('Shares of classes unlike the others', apart, 'differs by'))
    ignored = 1 - shares.sum(axis=1)
    if ignored.max() > 1e-9:
        groups.append(_most('Most pixels that do not count', ignored, 'ignored'))
    groups += _suspected(scan, notes)
    areas = np.array([image.size[0] * image.size[1] for _, image, _ in scan.metadata])
    if len({image.size for _, image, _ in scan.metadata}) > 1:
        extremes = {int(areas.argmin()): 'fewest pixels', int(areas.argmax()): 'most pixels'}
        groups.append(Group('Smallest and largest image', extremes))
    return groups


def least_fitting(fits: np.ndarray) -> Group:
    """Return the masks whose outlines lie least on edges of their images, suspected or not.

    fits: of outlines.fit, (N,); NaN where there is none.
    """
    known = np.flatnonzero(np.isfinite(fits))
    chosen = known[np.argsort(fits[known], kind='stable')][: EACH if len(known) > EACH else 0]
    usual = f'median {np.median(fits[known]):.2f}' if len(known) else ''
    remarks = {int(k): f'fit {fits[k]:.2f}, {usual}' for k in chosen}
    return Group('Outlines that fit the image least', remarks)


def percent(share: float) -> str:
    """Return a share as '12.3 %'."""
    return f'{100 * share:.3g} %'


def _most(title: str, amounts: np.ndarray, what: str) -> Group:
    """Return the pairs of the largest amounts above 0."""
    chosen = [int(k) for k in np.argsort(-amounts, kind='stable')[:EACH] if amounts[k] > 1e-9]
    return Group(title, {k: f'{what} {percent(amounts[k])}' for k in chosen})


def _suspected(scan: 'DatasetScan', notes: Iterable[str]) -> list[Group]:
    """Return the pairs with most pixels of values to ignore, and with most values of objects."""
    groups = []
    for note in notes:
        values = re.search(r': .*--ignore-value[ =]([-\d:,]+)', note)
        if values:
            wanted = {_value(text) for text in values[1].split(',')}
            parts = [scan.pixels([k]) for k in range(len(scan.metadata))]
            amounts = [sum(n for v, n in p.items() if v in wanted) / sum(p.values()) for p in parts]
            title = f'Does {values[1]} mean not labelled?'
            groups.append(_most(title, np.array(amounts), 'value'))
        elif re.search(r': .*--(binarize 0|mask-divisor)', note):
            counts = np.array([len(mask.counts) for _, _, mask in scan.metadata])
            most = np.argsort(-counts, kind='stable')[:EACH]
            remarks = {int(k): f'{counts[k]} values' for k in most}
            groups.append(Group('Do values number objects?', remarks))
    return [group for group in groups if group.remarks]


def _value(text: str) -> MaskValue:
    bands = [int(band) for band in text.split(':') if band.lstrip('-')]
    return (bands[0], bands[1], bands[2]) if len(bands) == 3 else bands[0]


def random_pairs(count: int, shown: Sequence[int]) -> list[int]:
    """Return positions of pairs below `count`, without those shown; the same in each call."""
    left = sorted(set(range(count)).difference(shown))
    return sorted(random.Random(0).sample(left, min(RANDOM, len(left))))
