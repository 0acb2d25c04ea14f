"""Training and validation parts of a data set, equal on every machine for one seed."""

import argparse
import hashlib
import re

import torch

from utils.runtime.errors import UserError, first_few

from .pairing import Pair

# Carvana's names: a car's id and one of its 16 views, as in fff9b3a5373f_01.
CAR_VIEW = re.compile(r'([0-9a-f]{12})_\d{2}')


def split_pairs(pairs: list[Pair], args: argparse.Namespace) -> tuple[list[int], list[int]]:
    """Positions of `pairs` to train on and to validate on, as train.py's options say.

    Pairs of a fixed validation set are those to validate on, and no others. Raises UserError where
    nothing would be left to train on, and as split_ids and fold_ids.
    """
    ids = [pair.id for pair in pairs]
    if args.fold:
        return fold_ids(ids, args.fold, args.split, args.seed, args.group_regex)
    if args.val_images:
        training = [k for k, pair in enumerate(pairs) if not pair.validation]
        validation = [k for k, pair in enumerate(pairs) if pair.validation]
        for part, folder in ((training, args.images), (validation, args.val_images)):
            if not part:
                raise UserError(f'no pair of {folder} is left. Mend some of what --check reports.')
        return training, validation
    training, validation = split_ids(ids, args.validation, args.split, args.seed, args.group_regex)
    if not training:
        raise UserError(
            f'--validation {args.validation:g} leaves none of {len(ids)} images to train on. '
            'Use a smaller percentage, 10 for instance, or 0 for no validation.'
        )
    return training, validation


def split_ids(
    ids: list[str], percent: float, method: str, seed: int, regex: str | None = None
) -> tuple[list[int], list[int]]:
    """Positions of `ids` to train on and to validate on, each sorted.

    percent: of the ids to validate on, 0 to 100; any percentage above 0 gives at least one,
        where there are two ids.
    method: 'group' keeps groups on one side, so that validation sees cars or patients the network
        has never seen. 'random' is the original's split: by torch's permutation.
    seed: of the split; the order of `ids` does not matter to 'group'.
    regex: as of group_ids, which also says what it raises.
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
    """Positions of `ids` to train on and to validate on in one fold of a cross-validation.

    fold: 'K/N', the K-th of N parts, counted from 1. Every id is validated on in exactly one of
    them, a whole group in the same one; parts are as equal as groups allow. method, seed, regex:
    as of split_ids; with 'random' each id is its own group. Raises UserError for fewer groups than
    parts.
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
    # The largest first, each into the part that is smallest so far: the parts come out alike.
    for name in sorted(_shuffled(groups, seed), key=lambda name: -len(groups[name])):
        min(parts, key=len).extend(groups[name])
    return _parts(len(ids), parts[number - 1])


def group_ids(ids: list[str], regex: str | None = None) -> dict[str, list[int]]:
    """The positions of each group's ids.

    regex: what of a name says its group, found anywhere in it: the first capture group, or the
        whole match where there is none. Without it a group is a Carvana car; ids that are no
        Carvana names are their own group, and so are all where there is but one car.

    Raises UserError for names without a match, and where all ids would be one group.
    """
    names = {name: group_of(name, regex) for name in ids}
    strange = [name for name, group in names.items() if group is None]
    if strange:
        raise UserError(
            f'--group-regex {regex} matches {len(strange)} of {len(names)} names not: '
            f'{first_few(strange)}. Expected a part of every name, without its extension.'
        )
    if len(set(names.values())) == 1 and len(names) > 1:
        if regex:
            raise UserError(
                f'--group-regex {regex} puts all {len(names)} images into one group, '
                f'{next(iter(names.values()))!r}; expected two or more'
            )
        names = {name: name for name in ids}
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(ids):
        groups.setdefault(names[name], []).append(position)
    return groups


def group_of(name: str, regex: str | None = None) -> str | None:
    """The group of a name, as of group_ids; None where `regex` does not match."""
    if regex is None:
        match = CAR_VIEW.fullmatch(name)
        return match[1] if match else name
    match = re.search(regex, name)
    return match and match[1 if match.re.groups else 0]


def describe_groups(pairs: list[Pair], training: list[int], args: argparse.Namespace) -> list[str]:
    """A line on the groups that --group-regex makes, to see whether it is the right one."""
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
    """All of `count` positions but those of `validation`, and these, each sorted."""
    held_out = set(validation)
    return [i for i in range(count) if i not in held_out], sorted(held_out)


def _shuffled(groups: dict[str, list[int]], seed: int) -> list[str]:
    """The groups in an order of the seed.

    By a hash and not a shuffle: adding pictures moves no other between the sides.
    """
    return sorted(groups, key=lambda name: hashlib.sha256(f'{seed}:{name}'.encode()).digest())


def _whole_groups(groups: dict[str, list[int]], wanted: int, seed: int) -> list[int]:
    """Positions of whole groups, each taken where it brings their number nearer to `wanted`.

    At least one group: the smallest, where all are too large.
    """
    chosen: list[int] = []
    order = _shuffled(groups, seed)
    for name in order:
        if len(chosen) + len(groups[name]) - wanted <= wanted - len(chosen):
            chosen += groups[name]
    return chosen or groups[min(order, key=lambda name: len(groups[name]))]
