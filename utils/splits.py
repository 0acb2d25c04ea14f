"""Training and validation parts of a data set, equal on every machine for one seed."""

import hashlib
import re

import torch

# Carvana's names: a car's id and one of its 16 views, as in fff9b3a5373f_01.
CAR_VIEW = re.compile(r'([0-9a-f]{12})_\d{2}')


def split_ids(
    ids: list[str], percent: float, method: str, seed: int
) -> tuple[list[int], list[int]]:
    """Positions of `ids` to train on and to validate on, each sorted.

    percent: of the ids to validate on, 0 to 100; any percentage above 0 gives at least one,
        where there are two ids.
    method: 'group' keeps all views of a Carvana car on one side, so that validation sees cars
        the network has never seen; ids that are no Carvana names are their own group, and so are
        all where there is but one car. 'random' is the original's split: by torch's permutation.
    seed: of the split; the order of `ids` does not matter to 'group'.
    """
    if percent == 0 or len(ids) < 2:
        return list(range(len(ids))), []
    wanted = max(1, int(len(ids) * percent / 100))
    if method == 'random':
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(ids), generator=generator).tolist()
        validation = set(order[len(ids) - wanted :])
    else:
        validation = _whole_groups(ids, wanted, seed)
    return (
        [i for i in range(len(ids)) if i not in validation],
        sorted(validation),
    )


def group_of(name: str) -> str:
    """The car of a Carvana name; any other name itself."""
    match = CAR_VIEW.fullmatch(name)
    return match[1] if match else name


def _whole_groups(ids: list[str], wanted: int, seed: int) -> set[int]:
    """Positions of whole groups, as many as come nearest to `wanted` ids, at least one."""
    grouped = len({group_of(name) for name in ids}) > 1
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(ids):
        groups.setdefault(group_of(name) if grouped else name, []).append(position)
    chosen: set[int] = set()
    # A hash and not a shuffle: adding pictures moves no other between the sides.
    for group in sorted(groups, key=lambda g: hashlib.sha256(f'{seed}:{g}'.encode()).digest()):
        overshoot = len(chosen) + len(groups[group]) - wanted
        if chosen and overshoot > wanted - len(chosen):
            break
        chosen.update(groups[group])
        if len(chosen) >= wanted:
            break
    return chosen
