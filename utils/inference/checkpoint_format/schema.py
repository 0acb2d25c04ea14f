"""What the entries of a checkpoint have to be, checked before anything is made of them.

A rule is a test of a value, and in words what it expects. All errors are UserErrors that name the
file and the entry.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unet.widths import check_widths
from utils.runtime.errors import UserError, first_few

VERSION = 1
LARGEST = 2**16  # channels or classes; sizes of tensors stay far below 2**63
MOST_ITEMS = 2**20  # in metrics and settings
LARGEST_INT = 2**63  # of mask values, which become int64

Rule = tuple[Callable[[Any], bool], str]


def _is_whole(value: object, low: float = -LARGEST_INT, high: float = LARGEST_INT) -> bool:
    return type(value) is int and low <= value < high


def is_number(value: object) -> bool:
    """Return whether this is an int of 64 bits or a float, NaN and infinity included."""
    return _is_whole(value) or isinstance(value, float)


def _is_range(value: object) -> bool:
    """Return whether this is [low, high] of finite numbers, low under high."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    low, high = value
    return all(is_number(v) and math.isfinite(v) for v in value) and low < high


def _is_value(value: object) -> bool:
    """Return whether this is a mask value: a whole number, or a colour."""
    if isinstance(value, list | tuple):
        return len(value) == 3 and all(_is_whole(band, 0, 256) for band in value)
    # The original writes False and True for one-bit masks, and floats for masks of floats.
    if isinstance(value, float):
        return value.is_integer() and abs(value) < LARGEST_INT
    return isinstance(value, bool) or _is_whole(value)


def _are_values(values: object) -> bool:
    return (
        isinstance(values, list | tuple)
        and all(map(_is_value, values))
        and len({isinstance(value, list | tuple) for value in values}) <= 1
    )


def _is_plain(value: object) -> bool:
    """Return whether this holds nothing but numbers, texts and None, in lists and dicts."""
    left, count = [value], 0
    while left and count < MOST_ITEMS:  # it may hold itself
        item = left.pop()
        count += 1
        if isinstance(item, dict):
            left += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            left += item
        elif not (item is None or isinstance(item, bool | str) or is_number(item)):
            return False
    return not left


def or_none(rule: Rule) -> Rule:
    """Return a rule that takes None, too."""
    return lambda value: value is None or rule[0](value), f'{rule[1]}, or None'


def whole_from(low: int, high: int = LARGEST + 1) -> Rule:
    """Return a rule for whole numbers from `low` to under `high`."""
    return lambda value: _is_whole(value, low, high), f'a whole number from {low} to {high - 1}'


def one_of(*choices: str) -> Rule:
    """Return a rule for one of these texts."""
    expected = ' or '.join(map(repr, choices))
    return lambda value: isinstance(value, str) and value in choices, expected


BOOL: Rule = (lambda value: isinstance(value, bool), 'True or False')
DICT: Rule = (lambda value: isinstance(value, dict), 'a dict')
TEXT: Rule = (lambda value: isinstance(value, str), 'a text')
NUMBER: Rule = (lambda value: is_number(value) and math.isfinite(value), 'a number')
VALUES: Rule = (
    lambda values: _are_values(values) and len(values) > 0,
    'a list of whole numbers, or of colours [R, G, B]',
)
PLAIN_DICT: Rule = (
    lambda value: (
        isinstance(value, dict) and all(isinstance(k, str) for k in value) and _is_plain(value)
    ),
    'a dict of names and plain values',
)

MODEL: dict[str, Rule] = {
    'n_channels': whole_from(1),
    'n_classes': whole_from(1),
    'bilinear': BOOL,
    'base_channels': whole_from(1),
}
MODEL_OPTIONS: dict[str, Rule] = {
    'padding': one_of('same', 'valid'),
    'norm': one_of('batch', 'none'),
    'widths': (
        lambda value: isinstance(value, list) and all(MODEL['base_channels'][0](w) for w in value),
        'a list of whole numbers',
    ),
    'dropout': (lambda value: is_number(value) and 0 <= value < 1, 'a number from 0, under 1'),
}
PREPROCESSING: dict[str, Rule] = {
    'scale': or_none((lambda v: is_number(v) and 0 < v <= 1, 'a number over 0, at most 1')),
    'decode': TEXT,
}
RANGE: dict[str, Rule] = {
    'range': or_none((
        lambda ranges: isinstance(ranges, list | tuple) and all(map(_is_range, ranges)),
        'a list of [low, high] for each channel',
    )),
}  # fmt: skip
DESCRIPTION_ENTRIES: dict[str, Rule] = {
    'version': whole_from(1),
    'model': DICT,
    'mask_values': or_none(VALUES),
    'preprocessing': DICT,
    'metrics': or_none(PLAIN_DICT),
}
# Of MaskEncoding's fields but `values`. Files of the first versions have `mode`, too.
MASK_ENCODING: dict[str, Rule] = {
    'names': or_none((
        lambda names: isinstance(names, list) and all(isinstance(n, str) for n in names),
        'a list of texts',
    )),
    'palette': or_none((
        lambda p: isinstance(p, list) and len(p) <= 1024 and all(_is_whole(v, 0, 256) for v in p),
        'a list of whole numbers from 0 to 255',
    )),
    'ignore': (_are_values, 'a list of whole numbers or of colours'),
    'threshold': or_none((_is_whole, 'a whole number')),
    'snap': BOOL,
    'divisor': or_none(whole_from(1, LARGEST_INT)),
    'background': or_none(whole_from(0)),
    'mode': or_none(TEXT),
}  # fmt: skip


def check_entries(
    path: Path, found: dict, required: dict[str, Rule], optional: dict[str, Rule], where: str = ''
) -> None:
    """Raise UserError unless `found` has the required entries, and all that it has fit the rules.

    where: what to write before an entry's name, such as 'model.'.
    """
    for name, (fits, expected) in (required | optional).items():
        if name not in found:
            if name in required:
                raise _wrong(path, f'it has no entry {where}{name}, {expected}')
        elif not fits(found[name]):
            raise _wrong(path, f'{where}{name} is {_shown(found[name])}, expected {expected}')


def _known_only(path: Path, found: dict, rules: dict[str, Rule], where: str) -> None:
    if unknown := [name for name in found if name not in rules]:
        raise UserError(
            f'{path}: {where} has entries that this program does not know: {first_few(unknown)}. '
            'Update the program, or use another checkpoint.'
        )


def check_description(path: Path, found: object) -> dict:
    """Return the description of a checkpoint (see inference.checkpoint) if it is in order."""
    if not isinstance(found, dict):
        raise _wrong(path, f'its description is {_shown(found)}, expected a dict')
    version = found.get('version')
    if type(version) is int and version > VERSION:
        raise UserError(
            f'{path} has format version {version}; this program reads versions up to {VERSION}. '
            'Update the program.'
        )
    check_entries(path, found, DESCRIPTION_ENTRIES, {'mask_encoding': DICT})
    model, encoding = found['model'], found.get('mask_encoding', {})
    check_entries(path, model, MODEL, MODEL_OPTIONS, 'model.')
    _known_only(path, model, MODEL | MODEL_OPTIONS, 'model')
    check_entries(path, found['preprocessing'], PREPROCESSING, RANGE, 'preprocessing.')
    if 'widths' in model:
        try:
            check_widths(model['widths'], model['bilinear'])
        except ValueError as error:
            raise _wrong(path, f'model: {error}') from None
        if model['widths'][0] != model['base_channels']:
            raise _wrong(path, 'model.base_channels is not the first of model.widths')
    known = found['preprocessing'].get('range')
    if known is not None and len(known) != model['n_channels']:
        raise _wrong(path, f'preprocessing.range has {len(known)} items for its channels')
    check_entries(path, encoding, {}, MASK_ENCODING, 'mask_encoding.')
    _known_only(path, encoding, MASK_ENCODING, 'mask_encoding')
    dice = (found['metrics'] or {}).get('dice_dataset')
    if not (dice is None or is_number(dice)):
        raise _wrong(path, f'metrics.dice_dataset is {_shown(dice)}, expected a number')
    classes, values = max(2, model['n_classes']), found['mask_values']
    counted = {'mask_values': values, 'mask_encoding.names': encoding.get('names')}
    for name, listed in counted.items():
        if listed and len(listed) != classes:
            raise _wrong(path, f'{name} has {len(listed)} items for {classes} classes')
    if (encoding.get('background') or 0) >= classes:
        raise _wrong(path, f'mask_encoding.background is none of its {classes} classes')
    return found


def check_training(path: Path, found: object) -> None:
    """Raise UserError unless `training` of last.pth is a dict with settings of plain values."""
    if not isinstance(found, dict):
        raise _wrong(path, f'training is {_shown(found)}, expected a dict')
    check_entries(path, found, {}, {'args': PLAIN_DICT}, 'training.')


def check_mask_values(path: Path, values: object, n_classes: int) -> list | None:
    """Return `mask_values` of a state_dict as a list, None if they are None.

    Raises UserError unless there is one for each class.
    """
    check_entries(path, {'mask_values': values}, {}, {'mask_values': or_none(VALUES)})
    if not isinstance(values, list | tuple):
        return None
    classes = max(2, n_classes)
    if len(values) != classes:
        raise UserError(
            f'{path} has {len(values)} mask values for {classes} classes: {first_few(values, 8)}. '
            f'Expected one a class: load it with torch.load, set mask_values, for instance to '
            f'{list(range(classes))[:4]}, and torch.save it.'
        )
    return list(values)


def _shown(value: object) -> str:
    """Return a value for a message, however large or odd it may be."""
    if value is None or isinstance(value, bool | float) or _is_whole(value):
        return str(value)
    return repr(value[:40]) if isinstance(value, str) else f'a {type(value).__name__}'


def _wrong(path: Path, what: str) -> UserError:
    return UserError(
        f'{path} is no checkpoint that this program can use: {what}. It is damaged or was changed. '
        'Use another file of the run, or copy it again.'
    )
