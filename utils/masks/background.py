"""Which class counts as background: mean scores leave it out.

With --background: as asked. Of a binary network (--classes 1) it is class 0. Else it is the class
called background; or else none, if value 0 (in colour: black) is ignored; or else class 0 of two
classes that are listed in descending order; or else the class of value 0; or else, if there is no
such class, none. With none, mean scores count all classes.
"""

import re
from typing import TYPE_CHECKING

from utils.runtime.errors import UserError

from .encoding import MaskEncoding
from .values import MaskValue, format_values

if TYPE_CHECKING:  # keeps the chain of imports short
    from .classes import MaskOptions

NAMES = {'background', 'bg', 'bkg'}  # in lower case, without digits and signs
SHOWN = 4  # values in the note that there is none


def choose_background(masks: MaskEncoding, options: 'MaskOptions') -> int | None:
    """Return the index of the class that counts as background, None for none, see the module.

    masks: with its values. Raises UserError for a value of --background that is no class, or not
    the class that a binary network takes.
    """
    found = _by_rule(masks, options)
    if options.background is None:
        return found
    asked = None
    if not isinstance(options.background, str):
        asked = class_of(masks, options.background)
        if asked is None:
            given = format_values([options.background])
            raise UserError(
                f'--background {given}: no class has that value; expected none or one of '
                f'{format_values(masks.values)}'
            )
    if options.classes == 1 and asked != found:
        raise UserError(
            f'--background {options.background} with --classes 1, whose one output is the '
            f'foreground, {format_values(masks.values[1:])}: leave --background out, or use '
            f'--classes 2{_how_to_turn(masks)}'
        )
    return asked


def _by_rule(masks: MaskEncoding, options: 'MaskOptions') -> int | None:
    """Return what choose_background does without --background."""
    if options.classes == 1:
        return 0
    named = _named(masks)
    if named is not None or _ignores_zero(masks):
        return named
    return 0 if _is_turned(masks) else class_of(masks, 0)


def _ignores_zero(masks: MaskEncoding) -> bool:
    return any(value in (0, (0, 0, 0)) for value in masks.ignore)


def _is_turned(masks: MaskEncoding) -> bool:
    """Return whether two classes are in another order than that in which values are found.

    Somebody asked for it, and class 1 is the foreground of a binary network.
    """
    return len(masks.values) == 2 and masks.values != sorted(masks.values)  # type: ignore[type-var]


def _named(masks: MaskEncoding) -> int | None:
    """Return the class whose name says that it is the background, None if there is none."""
    words = [re.sub('[^a-z]', '', name.lower()) for name in masks.names or []]
    return next((k for k, word in enumerate(words) if word in NAMES), None)


def class_of(masks: MaskEncoding, value: MaskValue) -> int | None:
    """Return the index of the class of a value, None if there is none.

    A grey value means the colour with R = G = B where classes are colours, and a colour means its
    palette index, or else the grey value, where they are not.
    """
    if masks.in_colour and isinstance(value, int):
        value = (value, value, value)
    elif isinstance(value, tuple) and not masks.in_colour:
        palette = masks.palette or []
        starts = range(0, len(palette), 3)
        indices = [k // 3 for k in starts if tuple(palette[k : k + 3]) == value]
        indices += [value[0]] if len(set(value)) == 1 else []
        value = next((index for index in indices if index in masks.values), -1)
    return masks.values.index(value) if value in masks.values else None


def describe_background(masks: MaskEncoding, options: 'MaskOptions') -> str:
    """Return the line of the terminal on what counts as background; a note where it is doubtful."""
    if options.classes == 1:
        return _describe_binary(masks)
    asked = options.background is not None
    if masks.background is None and (asked or _ignores_zero(masks)):
        return 'background: none, mean scores count all classes (--background VALUE leaves one out)'
    if masks.background is None:
        ways = [f'--background {format_values([value])}' for value in masks.values[:SHOWN]]
        return (
            'note: background: none, as no class has value 0 or that name: mean scores count all '
            f'classes. {" or ".join(ways)} leaves that one out.'
        )
    zero = class_of(masks, 0)
    sure = asked or zero is None or masks.background in (zero, _named(masks))
    title = title_of(masks, masks.background)
    return (
        f'{"" if sure else "note: "}background: {title}, which mean scores leave out '
        '(--background VALUE|none)'
    )


def _describe_binary(masks: MaskEncoding) -> str:
    """Return describe_background's line for --classes 1, whose foreground is class 1."""
    named = _named(masks)
    likely = class_of(masks, 0) if named is None else named
    sure = likely == 0 or _is_turned(masks)
    return (
        f'{"" if sure else "note: "}background: {title_of(masks, 0)}, foreground: '
        f'{title_of(masks, 1)}{_how_to_turn(masks)}'
    )


def title_of(masks: MaskEncoding, index: int) -> str:
    """Return 'value 0', or 'value 0 (ground)' where classes have names."""
    name = f' ({masks.names[index]})' if masks.names else ''
    return f'value {format_values([masks.values[index]])}{name}'


def _how_to_turn(masks: MaskEncoding) -> str:
    """Return how the two classes are exchanged; --binarize has them fixed."""
    if masks.threshold is not None:
        return ''
    return f'; --mask-values {format_values(masks.values[::-1])} exchanges them'
