"""Splits of a data set for training and validation, equal on every machine for one seed."""

import argparse
import hashlib
import re

import torch

from utils.runtime.errors import UserError, first_few

from .pairing import Pair

# Carvana's names: the id of a car and one of its 16 views, such as fff9b3a5373f_01.
CAR_VIEW = re.compile(r'([0-9a-f]{12})_\d{2}')


def split_pairs(pairs: list[Pair], args: argparse.Namespace) -> tuple[list[int], list[int]]:
    """Return the positions in `pairs` to train on and to validate on, by train.py's options.

    With a fixed validation set (--val-images), its pairs are the ones to validate on. Raises
    UserError if none would be left to train on, and as split_ids and fold_ids do.
    """
    ids = [pair.id for pair in pairs]
    if args.fold:
        return fold_ids(ids, args.fold, args.split, args.seed, args.group_regex)
    if args.val_images:
        training = [k for k, pair in enumerate(pairs) if not pair.validation]
        validation = [k for k, pair in enumerate(pairs) if pair.validation]
        for part, folder in ((training, args.images), (validation, args.val_images)):
            if not part:
                raise UserError(f'no pair of {folder} is left. Correct what --check reports.')
        return training, validation
    training, validation = split_ids(ids, args.validation, args.split, args.seed, args.group_regex)
    if not training:
        raise UserError(
            f'--validation {args.validation:g} leaves none of {len(ids)} images to train on. '
            'Use a smaller percentage, such as 10, or 0 for no validation.'
        )
    return training, validation


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
    if percent == 0 or len(ids) < 2:
        return list(range(len(ids))), []
    wanted = max(1, int(len(ids) * percent / 100))
    if method == 'random':
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(ids), generator=generator).tolist()
        return _parts(len(ids), order[len(ids) - wanted :])
    return _parts(len(ids), _whole_groups(groups, wanted, seed))


def fold_ids(
    ids: list[str], fold: str, method: str, seed: int, regex: str | None = None
) -> tuple[list[int], list[int]]:
    """Return the positions in `ids` to train on and to validate on in one fold.

    fold: 'K/N', the K-th of N folds, counted from 1. Every group is validated on in exactly one
        fold. Folds are as equal in size as the groups allow.
    method, seed, regex: see split_ids. With 'random', each id is a group.

    Raises UserError for fewer groups than folds.
    """
    number, count = (int(part) for part in fold.split('/'))
    groups = {name: [k] for k, name in enumerate(ids)} if method == 'random' else None
    groups = groups or group_ids(ids, regex)
    if len(groups) < count:
        raise UserError(
            f'--fold {fold} makes {count} parts of whole groups, but there are {len(groups)}: '
            f'{first_few(groups)}. Use fewer parts, or another --group-regex.'
        )
    parts: list[list[int]] = [[] for _ in range(count)]
    # The largest groups first, each into the smallest part so far.
    for name in sorted(_shuffled(groups, seed), key=lambda name: -len(groups[name])):
        min(parts, key=len).extend(groups[name])
    return _parts(len(ids), parts[number - 1])


def group_ids(ids: list[str], regex: str | None = None) -> dict[str, list[int]]:
    """Return the positions of each group's ids.

    regex: finds the group in a name: the first capture group, else the whole match. None takes the
        car of Carvana's names. Other names are groups of one, and so are all if there is only one
        car.

    Raises UserError for names without a match, and if `regex` puts all ids into one group.
    """
    found = {name: group_of(name, regex) for name in ids}
    strange = [name for name, group in found.items() if group is None]
    if strange:
        raise UserError(
            f'--group-regex {regex} does not match {len(strange)} of {len(found)} names: '
            f'{first_few(strange)}. Expected a match in every name, without its extension.'
        )
    names = {name: group for name, group in found.items() if group is not None}
    if len(set(names.values())) == 1 and len(names) > 1:
        if regex:
            raise UserError(
                f'--group-regex {regex} puts all {len(names)} images into one group, '
                f'{next(iter(names.values()))!r}; expected two or more groups'
            )
        names = {name: name for name in ids}
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(ids):
        groups.setdefault(names[name], []).append(position)
    return groups


def group_of(name: str, regex: str | None = None) -> str | None:
    """Return the group of a name, see group_ids; None if `regex` does not match."""
    if regex is None:
        match = CAR_VIEW.fullmatch(name)
        return match[1] if match else name
    match = re.search(regex, name)
    return match and match[1 if match.re.groups else 0]


def describe_groups(pairs: list[Pair], training: list[int], args: argparse.Namespace) -> list[str]:
    """Return a line on the groups of --group-regex, by which the user can check the regex."""
    if not args.group_regex:
        return []
    groups = group_ids([pair.id for pair in pairs], args.group_regex)
    trained = set(training)
    count = sum(positions[0] in trained for positions in groups.values())
    sizes = [len(positions) for positions in groups.values()]
    return [
        f'{len(groups)} groups of {min(sizes)} to {max(sizes)} images ({first_few(groups)}), '
        f'{count} to train on, {len(groups) - count} to validate on'
    ]


def _parts(count: int, validation: list[int]) -> tuple[list[int], list[int]]:
    """Return the first `count` positions without those of `validation`, and these, each sorted."""
    held_out = set(validation)
    return [i for i in range(count) if i not in held_out], sorted(held_out)


def _shuffled(groups: dict[str, list[int]], seed: int) -> list[str]:
    """Return the groups in an order that depends on the seed.

    Sorted by a hash, not shuffled, so that adding images does not reorder the others.
    """
    return sorted(groups, key=lambda name: hashlib.sha256(f'{seed}:{name}'.encode()).digest())


def _whole_groups(groups: dict[str, list[int]], wanted: int, seed: int) -> list[int]:
    """Return the positions of groups, each added if it brings their count nearer to `wanted`.

    If every group is too large, the smallest one is returned.
    """
    chosen: list[int] = []
    order = _shuffled(groups, seed)
    for name in order:
        if len(chosen) + len(groups[name]) - wanted <= wanted - len(chosen):
            chosen += groups[name]
    return chosen or groups[min(order, key=lambda name: len(groups[name]))]
