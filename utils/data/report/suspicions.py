"""What is probably wrong with single pairs, told from small pictures: for the page of --check.

A rule speaks only where a pair differs clearly from the others of its set. How often each finds
what was planted, and how often it is wrong, is in dev/LOG.md (2026-11-26).
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .outlines import fit

if TYPE_CHECKING:
    from .thumbnails import Measures

FEWEST = 8  # pairs; of less, nothing is usual
# Of outlines, with the set's median fit m: a fit below 1 + LOW (m - 1) is low, above it is that of
# a right pair; one below VERY_LOW is odd by itself, if few are below MIDDLE. With m - 1 below
# LEAST_LIFT, outlines say nothing about the set.
LOW, MIDDLE, VERY_LOW, LEAST_LIFT = 0.6, 0.45, 0.3, 0.15
BETTER = 1.25  # times as good: the fit of another mask
MUCH_BETTER = 1.5  # both of an exchanged pair, as of a white car on a white wall, of low fits
MOST_LOW = 64  # pairs of low fit that are compared with each other
RARE = 0.1  # of the pairs: more than these are no exceptions
BLOCK = 32  # pairs in the order of names, to find a set in which all are wrong
FLAT, NOT_FLAT = 2.0, 8.0  # grey levels, standard deviation
ALIKE, FAR = 1.5, 20  # grey levels between signatures: mean, and most


class Suspicion(NamedTuple):
    """Pairs, or the set, of which something is probably wrong."""

    kind: str  # such as 'mask looks inverted'
    text: str  # of all together, with what to do
    remarks: Mapping[int, str]  # what is odd about a pair, by its position; may be empty
    beside: Mapping[int, int] = MappingProxyType({})  # pairs whose image is shown beside one's own


def inverted(foreground: np.ndarray, border: np.ndarray) -> list[Suspicion]:
    """Return the masks whose foreground is usual only when they are inverted.

    foreground: share of each mask, (N,) from 0 to 1; border: of the outermost pixels alone, NaN for
    masks that were not measured. A large object that is near seldom fills all of the border.
    """
    if len(foreground) < FEWEST:
        return []
    low, middle, high = np.percentile(foreground, (25, 50, 75))
    spread = max(high - low, 0.02)
    usual = (low - 1.5 * spread, high + 1.5 * spread)
    turned = 1 - foreground
    odd = (foreground < low - 3 * spread) | (foreground > high + 3 * spread)
    odd &= (turned >= usual[0]) & (turned <= usual[1]) & (foreground > 0) & (foreground < 1)
    # Half of a picture inverted is half of a picture.
    odd &= np.abs(foreground - middle) > 0.25
    measured = border[np.isfinite(border)]
    odd &= 1 - border <= (np.percentile(measured, 75) if len(measured) else 0) + 0.05
    if not odd.any() or odd.mean() > RARE:
        return []
    others = foreground[~odd]
    usual_text = f'median of the others {100 * np.median(others):.3g} %'
    remarks = {
        int(k): f'foreground {100 * foreground[k]:.3g} %, {usual_text}' for k in np.flatnonzero(odd)
    }
    text = (
        'Foreground and background are probably exchanged. Invert these masks, or leave them out.'
    )
    return [Suspicion('mask looks inverted', text, remarks)]


def wrong_pairs(
    measures: Sequence['Measures | None'],
    ids: Sequence[str],
    edges_of: Callable[[int], np.ndarray],
) -> list[Suspicion]:
    """Return the pairs whose outlines do not lie on edges of the image, while those of others do.

    measures: None for pairs that were not measured. edges_of: the gradient of an image by its
    position, see outlines.gradient. A mask that fits another image of low fit is named.
    """
    fits = np.array([m.fit if m else np.nan for m in measures])
    known = np.flatnonzero(np.isfinite(fits))
    if len(known) < FEWEST:
        return []
    wrong_set = _wrong_set(measures, known, fits, edges_of)
    lift = np.median(fits[known]) - 1
    if wrong_set or lift < LEAST_LIFT:
        return wrong_set
    limit, clear = 1 + LOW * lift, 1 + VERY_LOW * lift
    low = known[fits[known] < limit]
    low = low[np.argsort(fits[low])][:MOST_LOW]
    better = _better(measures, low, fits, edges_of, limit)
    left = [k for k in low if k not in better and fits[k] < clear]
    # Where fits are spread evenly, as with images of all sharpnesses, a low one means nothing.
    between = np.count_nonzero(fits[known] < 1 + MIDDLE * lift)
    alone = left if between <= max(1, RARE * len(known)) else []
    usual = fits[known][fits[known] >= limit]  # at least half of all
    others = 'others {:.2g} to {:.2g}'.format(*np.percentile(usual, (5, 95)))
    remarks = {
        int(k): f'fit {fits[k]:.2g}, {others}; the mask of {ids[j]} fits better: {found:.2g}'
        for k, (j, found) in sorted(better.items(), key=lambda item: -item[1][1])
    }
    remarks |= {int(k): f'fit {fits[k]:.2g}, {others}' for k in alone}
    text = (
        'The outline of the mask does not lie on edges of the image, as it does in other pairs. '
        'Fit: contrast along the outline, relative to that beside it; higher is better. Compare '
        'the names; where two are named for each other, exchange their masks.'
    )
    return [Suspicion('mask of another image?', text, remarks)] if remarks else []


def _better(
    measures: Sequence['Measures | None'],
    low: np.ndarray,
    fits: np.ndarray,
    edges_of: Callable[[int], np.ndarray],
    limit: float,
) -> dict[int, tuple[int, float]]:
    """Return, of the pairs of low fit, those that another one's mask fits clearly better.

    Both are wrong then: a mask that is right for its own image is not counted as another's.
    """
    best: dict[int, tuple[int, float]] = {}
    for k in map(int, low):
        others = [j for j in low if j != k]
        cross = _cross_fits(edges_of(k), measures, k, others)
        best[k] = max(cross, key=lambda item: item[1], default=(k, 0.0))
    exchanged = {
        k
        for k, (j, value) in best.items()
        if best[j][0] == k != j
        and value > MUCH_BETTER * fits[k]
        and best[j][1] > MUCH_BETTER * fits[j]
    }
    found = {
        k: (j, value)
        for k, (j, value) in best.items()
        if k in exchanged or value > max(limit, BETTER * fits[k])
    }
    return {k: found[k] for k in found if found[k][0] in found}


def _cross_fits(
    edges: np.ndarray, measures: Sequence['Measures | None'], own: int, others: Sequence[int]
) -> list[tuple[int, float]]:
    """Return (position, fit) of other pairs' outlines on an image, those of its size."""
    size = edges.shape
    same = [j for j in others if (m := measures[j]) and m.shape == size and j != own]
    fits = [(int(j), fit(edges, measures[j].outline)) for j in same]  # type: ignore[union-attr]
    return [(j, value) for j, value in fits if np.isfinite(value)]


def _wrong_set(
    measures: Sequence['Measures | None'],
    known: np.ndarray,
    fits: np.ndarray,
    edges_of: Callable[[int], np.ndarray],
) -> list[Suspicion]:
    """Return a suspicion if most images of a block are fitted better by masks of others."""
    block = known[:BLOCK]
    worse, compared = 0, 0
    for k in block:
        cross = _cross_fits(edges_of(k), measures, k, list(block))
        compared += bool(cross)
        worse += bool(cross) and max(value for _, value in cross) > BETTER * fits[k]
    if compared < FEWEST or worse <= compared / 2:
        return []
    text = (
        f'The masks of other images fit better than their own, in {worse} of the first {compared} '
        'pairs. Compare the names of the files.'
    )
    return [Suspicion('masks of other images?', text, {})]


def flat_images(measures: Sequence['Measures | None']) -> list[Suspicion]:
    """Return the images that are nearly of one grey level, unless many are."""
    known = [k for k, m in enumerate(measures) if m]
    contrast = np.array([measures[k].contrast for k in known])  # type: ignore[union-attr]
    if len(known) < FEWEST or np.median(contrast) < NOT_FLAT:
        return []
    remarks = {
        k: f'grey levels vary by {c:.2g} of 255, in the others by {np.median(contrast):.2g}'
        for k, c in zip(known, contrast.tolist(), strict=True)
        if c < FLAT
    }
    text = 'Nothing is to be seen in the image. Look at the file.'
    if not remarks or len(remarks) > RARE * len(known):
        return []
    return [Suspicion('image is nearly of one colour', text, remarks)]


def twins(
    measures: Sequence['Measures | None'],
    ids: Sequence[str],
    training: Sequence[int],
    validation: Sequence[int],
) -> list[Suspicion]:
    """Return the images of validation that nearly equal one of training, with the nearest.

    Copies that were saved anew or in another size are found, turned or brighter ones are not.
    """
    known = {k: m for k, m in enumerate(measures) if m and m.contrast >= FLAT}
    ours, theirs = ([k for k in side if k in known] for side in (training, validation))
    if not ours or not theirs:
        return []
    trained = np.array([known[k].signature.ravel() for k in ours], dtype=np.float32)
    squares, beside = (trained**2).sum(axis=1), {}
    for k in theirs:
        other = known[k].signature.ravel().astype(np.float32)
        nearest = int(np.argmin(squares - 2 * trained @ other))
        apart = np.abs(trained[nearest] - other)
        if apart.mean() <= ALIKE and apart.max() <= FAR:
            beside[k] = ours[nearest]
    if not beside:
        return []
    remarks = {k: f'nearly equals {ids[other]}' for k, other in beside.items()}
    text = 'Such images make scores too good. Keep both on one side, or leave one out.'
    kind = 'image to validate on nearly equals one to train on'
    return [Suspicion(kind, text, remarks, beside)]
