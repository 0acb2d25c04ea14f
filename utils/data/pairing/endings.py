"""Endings that tell masks from images by name, such as Carvana's _mask."""

from collections import Counter
from collections.abc import Container
from pathlib import Path

from utils.runtime.errors import UserError, first_few

SEPARATORS = ('_', '-', '.', ' ')  # between the parts of a name


def images_of_mixed(
    folder: Path, named: dict[str, list[Path]], suffix: str | None, advice: str
) -> tuple[dict[str, list[Path]], str]:
    """Return the images of a folder that also holds their masks, and the suffix of the masks.

    advice: about what else is in the folder, for the error if no ending fits.
    """
    endings = _mask_endings(named)
    if suffix:
        endings.add(suffix)
    images = {
        name: files for name, files in named.items()
        if not any(name.endswith(ending) for ending in endings)
    }  # fmt: skip
    if not images:
        raise UserError(
            f'{folder} holds masks only: every name ends in {" or ".join(sorted(endings))}. Add '
            'the images, or name their folder with --images.'
        )
    if suffix:
        return images, suffix
    fitting = [e for e in sorted(endings) if all(name + e in named for name in images)]
    if len(fitting) > 1:
        raise _tie(fitting)
    if not fitting:
        raise UserError(
            f'{folder} is the folder of the images and of the masks, and no ending tells them '
            f'apart; there are {first_few(path.name for paths in named.values() for path in paths)}'
            f'. {advice}Expected masks named like their images and one ending '
            f"(--mask-suffix=_mask), or patterns: --images '{folder}/*.jpg' "
            f"--masks '{folder}/*.png'"
        )
    return images, fitting[0]


def _mask_endings(names: dict[str, list[Path]]) -> set[str]:
    """Return what follows an image's name in the names of masks in the same folder.

    Only endings at least half as frequent as the most frequent one count, and none of names that
    have a mask themselves: with cat_mask and cat2_mask there is also cat + 2.
    """
    endings: Counter[str] = Counter()
    for name in names:
        for length in range(1, len(name)):
            if name[:length] in names:
                endings[name[length:]] += 1
    if not endings:
        return set()
    usual = min(endings, key=lambda ending: (-endings[ending], len(ending), ending))
    images = {name for name in names if name + usual in names}
    return {
        ending for ending, count in endings.items()
        if 2 * count >= endings[usual] and not any(name + ending in images for name in images)
    }  # fmt: skip


def find_suffix(images: dict[str, list[Path]], masks: dict[str, list[Path]]) -> str:
    """Return the suffix that gives all images a mask, else one that does for most.

    Equal names go before any suffix, and a suffix before its own continuations. Raises UserError
    if others fit as well: which of two annotators counts is for the user to say.
    """
    first = next(iter(images))
    # A suffix of all masks is one of the first image's. '' and '_mask' are for reports of others.
    candidates = {'', '_mask'} | {m.removeprefix(first) for m in masks if m.startswith(first)}
    ordered = sorted(candidates, key=lambda suffix: (len(suffix), suffix))
    fitting: list[str] = []
    for suffix in ordered:  # all() stops at the first miss: names like 1 … 20000 have many suffixes
        if all(name + suffix in masks for name in images):
            fitting.append(suffix)
            if not suffix:
                return suffix
    others = [suffix for suffix in fitting if not suffix.startswith(fitting[0])]
    if others:
        raise _tie([fitting[0], *others])
    if fitting:
        return fitting[0]
    found = {suffix: sum(name + suffix in masks for name in images) for suffix in ordered[:20]}
    best = max(found, key=lambda suffix: found[suffix])
    # That of a single mask, of several images, tells nothing.
    return best if found[best] > 1 or len(images) == 1 else ''


def without_suffix(
    images: dict[str, list[Path]], masks: dict[str, list[Path]], suffix: str
) -> dict[str, str]:
    """Return the mask's id of images that have no mask of the suffix, but one of their own name.

    The name may be the file's, with its extension: p1.jpg.png beside p1.jpg.
    """
    return {
        name: other
        for name, files in images.items() for other in (name, name + files[0].suffix)
        if other in masks and name + suffix not in masks
    }  # fmt: skip


def begins_with_another(name: str, names: Container[str]) -> bool:
    """Return whether a name begins with one of others and a separator, as p1_mask_2 with p1."""
    return any(name[:k] in names for k, mark in enumerate(name) if mark in SEPARATORS)


def _tie(endings: list[str]) -> UserError:
    """Return the error for masks of several endings."""
    ways = ' or '.join(f'--mask-suffix={ending}' for ending in endings)
    return UserError(f'every image has masks of {len(endings)} endings. Say which: {ways}')
