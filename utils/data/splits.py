"""Splits of a data set for training and validation, equal on every machine for one seed."""

import argparse
import hashlib
import re

import torch

from utils.images.pages import Page, file_of
from utils.runtime.errors import UserError, first_few

from .pairing.matching import Pair

# Carvana's names: the id of a car and one of its 16 views, such as fff9b3a5373f_01.
CAR_VIEW = re.compile(r'([0-9a-f]{12})_\d{2}')

# What slices of a scan, frames of a video and crops of a photo share: a folder, or a name up to its
# last number. Fewer groups are often kinds, such as benign and malignant.
TOGETHER = (r'(.*)/', r'(.*\D)\d+$')
FEWEST_GROUPS = 5
YEARS = re.compile(r'(19|20)\d\d\D?')  # as in VOC's 2007_000032


def split_pairs(pairs: list[Pair], args: argparse.Namespace) -> tuple[list[int], list[int]]:
    """Return the positions in `pairs` to train on and to validate on, by options of train.py."""
    if (args.val_images or args.val_list) and not args.fold:
        training = [k for k, pair in enumerate(pairs) if not pair.validation]
        validation = [k for k, pair in enumerate(pairs) if pair.validation]
        sources = args.list or args.images, args.val_list or args.val_images
        for part, source in zip((training, validation), sources, strict=True):
            if not part:
                raise UserError(f'no pair of {source} is left. Correct what --check reports.')
        return training, validation
    ids = group_names(pairs, args)
    if args.fold:
        return fold_ids(ids, args.fold, args.split, args.seed, args.group_regex)
    training, validation = split_ids(ids, args.validation, args.split, args.seed, args.group_regex)
    if not training:
        raise UserError(
            f'--validation {args.validation:g} leaves none of {len(ids)} images to train on. '
            'Use a smaller percentage, such as 10, or 0 for no validation.'
        )
    return training, validation


def group_names(pairs: list[Pair], args: argparse.Namespace) -> list[str]:
    """Return what stands for each pair in a split: its id, or what it shares with others.

    Slices of a stack or volume are nearly equal: those of one file share its name, and those of the
    only file that of a block, which is as many consecutive pages as are wanted for validation. With
    --group-regex or --split random it is the id.
    """
    ids = [pair.id for pair in pairs]
    if args.group_regex or args.split == 'random':
        return ids
    names = [
        name.rpartition(':')[0] if isinstance(pair.image, Page) else name
        for name, pair in zip(ids, pairs, strict=True)
    ]
    if len(set(names)) > 1 or names == ids:
        return names
    count = _block_count(len(ids), args)
    return [f'{names[k]} block {k * count // len(ids)}' for k in range(len(ids))]


def _block_count(pages: int, args: argparse.Namespace) -> int:
    """Return into how many blocks the pages of the only file are cut."""
    if args.fold:
        return min(pages, int(args.fold.partition('/')[2]))
    return max(2, round(pages / max(1, _wanted(pages, args.validation))))


def split_ids(
    ids: list[str], percent: float, method: str, seed: int, regex: str | None = None
) -> tuple[list[int], list[int]]:
    """Return the positions in `ids` to train on and to validate on, each sorted.

    percent: of the ids to validate on, 0 to 100. Above 0, at least one is chosen of two or more.
    method: 'group' never divides a group, so that validation is on cars or patients that the
        network has not seen. 'random' is the original's split, by torch.randperm.
    seed: of the split. With 'group', the order of `ids` makes no difference.
    regex: see group_ids, which raises UserError.
    """
    groups = group_ids(ids, regex)
    wanted = _wanted(len(ids), percent)
    if wanted == 0 or len(ids) < 2:
        return _parts(len(ids), [])
    if method == 'random':
        order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed)).tolist()
        return _parts(len(ids), order[len(ids) - wanted :])
    chosen: list[int] = []
    shuffled = _shuffled(groups, seed)
    for group in shuffled:  # added if that comes nearer to `wanted`
        if len(chosen) + len(group) - wanted <= wanted - len(chosen):
            chosen += group
    return _parts(len(ids), chosen or min(shuffled, key=len))


def fold_ids(
    ids: list[str], fold: str, method: str, seed: int, regex: str | None = None
) -> tuple[list[int], list[int]]:
    """Return the positions in `ids` to train on and to validate on in one fold.

    fold: 'K/N', the K-th of N folds, counted from 1. Every group is validated on in exactly one
        fold. Folds are as equal in size as the groups allow; fewer groups are a UserError.
    method, seed, regex: see split_ids. With 'random', each id is a group.
    """
    number, count = (int(part) for part in fold.split('/'))
    single = {name: [position] for position, name in enumerate(ids)}
    groups = single if method == 'random' else group_ids(ids, regex)
    if len(groups) < count:
        raise UserError(
            f'--fold {fold} makes {count} parts of whole groups, but there are {len(groups)}: '
            f'{first_few(groups)}. Use fewer parts, or another --group-regex.'
        )
    parts: list[list[int]] = [[] for _ in range(count)]
    # The largest groups first, each into the smallest part so far.
    for group in sorted(_shuffled(groups, seed), key=len, reverse=True):
        min(parts, key=len).extend(group)
    return _parts(len(ids), parts[number - 1])


def group_ids(ids: list[str], regex: str | None = None) -> dict[str, list[int]]:
    """Return the positions of each group's ids.

    regex: finds the group in a name: the first capture group, else the whole match. None takes the
        car of Carvana's names. Other names are groups of one, and so are all of one car alone.

    Raises UserError for names without a match, and if `regex` puts all ids into one group.
    """
    found = {name: _group_of(name, regex) for name in ids}
    strange = [name for name, group in found.items() if group is None]
    if strange:
        raise UserError(
            f'--group-regex {regex} does not match {len(strange)} of {len(found)} names: '
            f'{first_few(strange)}. Expected a match in every name, without its extension.'
        )
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(ids):
        groups.setdefault(found[name] or '', []).append(position)
    if len(groups) > 1 or len(ids) < 2:
        return groups
    if regex:
        raise UserError(
            f'--group-regex {regex} puts all {len(ids)} images into one group, '
            f'{next(iter(groups))!r}; expected two or more groups'
        )
    alone: dict[str, list[int]] = {}
    for position, name in enumerate(ids):  # pages of one file have one name
        alone.setdefault(name, []).append(position)
    return alone


def _group_of(name: str, regex: str | None) -> str | None:
    if regex is None:
        match = CAR_VIEW.fullmatch(name)
        return match[1] if match else name
    match = re.search(regex, name)
    return match and match[1 if match.re.groups else 0]


def describe_groups(pairs: list[Pair], training: list[int], args: argparse.Namespace) -> list[str]:
    """Return lines on the groups of a split: those of --group-regex, to check it; a wrong share.

    training: positions in `pairs` to train on. The share is wrong where whole groups make the
    validation set differ from its requested size by more than half of that.
    """
    if args.val_images or args.val_list or args.split == 'random':
        return []
    names = group_names(pairs, args)
    groups = group_ids(names, args.group_regex)
    sizes, lines = list(map(len, groups.values())), []
    files = {file_of(pair.image) for pair in pairs if isinstance(pair.image, Page)}
    if len(files) == 1 and names[0].endswith(' block 0'):
        validated = [pairs[k].image.name for k in sorted({*range(len(pairs))}.difference(training))]
        shown = ' to '.join(dict.fromkeys([validated[0], validated[-1]])) if validated else ''
        return [
            'note: all images are pages of one file, and consecutive ones are validated on '
            f'({shown}): neighbours are alike. Scores on other files may be lower.'
        ] * bool(validated)
    if args.group_regex:
        trained = set(training)
        count = sum(positions[0] in trained for positions in groups.values())
        lines.append(
            f'{len(groups)} groups of {min(sizes)} to {max(sizes)} images ({first_few(groups)}), '
            f'{count} to train on, {len(groups) - count} to validate on'
        )
    total, found = len(pairs), len(pairs) - len(training)
    percent = 100 / int(args.fold.partition('/')[2]) if args.fold else args.validation
    wanted = _wanted(total, percent)
    if max(sizes) > 1 and abs(found - wanted) > wanted / 2:
        asked = f'--fold {args.fold}' if args.fold else f'--validation {percent:g}'
        kind = 'groups' if args.group_regex else 'files' if files else 'cars'
        instead = ' instead of --group-regex' if args.group_regex else ''
        lines.append(
            f'note: {asked} asks for {percent:.3g} % of the images to validate on, but it is '
            f'{100 * found / total:.3g} % ({found} of {total}), because whole {kind} are kept '
            f'together, {len(groups)} in all. Use --split random{instead} to divide them'
        )
    return lines if args.group_regex else lines + _describe_divided(names, training)


def _describe_divided(names: list[str], training: list[int]) -> list[str]:
    """Return a note if names look like those of groups, and groups are trained and validated on."""
    trained = set(training)
    for pattern in TOGETHER:
        groups: dict[str, list[bool]] = {}  # whether their images are trained on
        for position, name in enumerate(names):
            match = re.search(pattern, name)
            groups.setdefault(match[1] if match else name, []).append(position in trained)
        several = {name: parts for name, parts in groups.items() if len(parts) > 1}
        if (
            len(several) < FEWEST_GROUPS
            or sum(map(len, several.values())) < 0.9 * len(names)
            or all(map(YEARS.fullmatch, several))
        ):
            continue
        divided = sum(parts.count(False) for parts in several.values() if any(parts))
        if not divided:
            return []
        name, parts = max(several.items(), key=lambda item: len(item[1]))
        return [
            f'note: the images look like {len(groups)} groups, such as {name}* with {len(parts)}, '
            f'and {divided} of the {len(names) - len(training)} to validate on are of groups that '
            'are trained on. If a group is one patient, video or photo, the score is too high: add '
            f"--group-regex '{pattern}', which keeps groups together"
        ]
    return []


def _wanted(count: int, percent: float) -> int:
    """Return how many of `count` images, of two or more, to validate on; at least one above 0 %."""
    return max(1, int(count * percent / 100)) if percent else 0


def describe_percent(args: argparse.Namespace, validation: int, total: int) -> list[str]:
    """Return a note if --validation looks like a share; `validation` of `total` images are used."""
    percent = args.validation
    if not percent or percent >= 1:
        return []
    return [
        f'note: --validation {percent:g} is {percent:g} percent, {validation} of {total} images; '
        f'for a share of {percent:g} say --validation {100 * percent:g}'
    ]


def _parts(count: int, validation: list[int]) -> tuple[list[int], list[int]]:
    """Return the first `count` positions without those of `validation`, and these, each sorted."""
    return sorted({*range(count)}.difference(validation)), sorted(validation)


def _shuffled(groups: dict[str, list[int]], seed: int) -> list[list[int]]:
    """Return the groups ordered by a hash of seed and name: new ones do not reorder the others."""
    names = sorted(
        groups,
        key=lambda name: hashlib.sha256(f'{seed}:{name}'.encode(errors='surrogatepass')).digest(),
    )
    return [groups[name] for name in names]
