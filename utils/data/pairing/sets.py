"""Training and validation set, matched; where files are left over, options that would pair them."""

import shlex
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from utils.runtime.errors import UserError, first_few, proposed

from .list_proposals import describe_lists, find_lists, options
from .lists import describe_unlisted, match_listed
from .matching import WITHOUT_MASK, Matching
from .patterns import is_pattern
from .proposals import describe, propose

Lists = tuple[Path | None, Path | None]  # of the pictures to train on, and to validate on
NO_LISTS: Lists = (None, None)


def match_sets(
    data: tuple[Path, Path],
    mask_suffix: str | None,
    validation: tuple[Path, Path] | None,
    lists: Lists = NO_LISTS,
    training: bool = True,
) -> Matching:
    """Match the folders `data` (images, masks), then those of a fixed validation set, if any.

    lists: which pictures are taken. One for validation makes a fixed set, of `data` if
        `validation` is None; without one for training, the others are to train on.
    training: whether options of train.py may be proposed.
    """
    matching = _match_or_propose(data, mask_suffix, ('--images', '--masks'), lists[0], training)
    if lists == NO_LISTS and validation is None and training and matching.pairs:
        matching.hints += describe_lists(
            data, partial(match_listed, *data, mask_suffix), matching.images
        )
    if validation is None and lists[1] is None:
        matching.notes += describe_unlisted([p for p in lists if p], matching.unlisted)
        return matching
    if validation:
        _check_validation(data, validation, lists)
    names = ('--val-images', '--val-masks') if validation else ('--images', '--masks')
    held_out = _match_or_propose(validation or data, mask_suffix, names, lists[1], training)
    if held_out.class_names != matching.class_names:
        raise UserError(
            f'--masks has the classes {matching.class_names} and --val-masks '
            f'{held_out.class_names}; expected the same'
        )
    matching = _without_common(matching, held_out, lists)
    pairs = [replace(p, id=f'validation/{p.id}', validation=True) for p in held_out.pairs]
    problems = [
        p._replace(pairs=tuple(f'validation/{name}' for name in p.pairs)) for p in held_out.problems
    ]
    rule = f'{matching.rule}; to validate on, {held_out.rule}' if lists[1] else matching.rule
    used = {pair.image for pair in [*matching.pairs, *pairs]}
    unlisted = dict.fromkeys([*matching.unlisted, *held_out.unlisted] if lists[0] else [])
    notes = describe_unlisted([p for p in lists if p], [p for p in unlisted if p not in used])
    return Matching(
        [*matching.pairs, *pairs], [*matching.problems, *problems], rule,
        matching.images + held_out.images,
        [*dict.fromkeys([*matching.notes, *held_out.notes]), *notes], matching.class_names,
        [*matching.proposals, *held_out.proposals],
    )  # fmt: skip


def _check_validation(data: tuple[Path, Path], validation: tuple[Path, Path], lists: Lists) -> None:
    """Raise UserError for folders of a validation set that do not exist, or are the training's."""
    for folder in validation:
        if not folder.is_dir() and not is_pattern(folder):
            raise UserError(
                f'{folder} does not exist. Expected the folders of the validation images '
                '(--val-images) and of their masks (--val-masks).'
            )
    if data[0].resolve() == validation[0].resolve() and lists == NO_LISTS:
        raise UserError(
            f'--images and --val-images are both {data[0]}; expected other images to validate on. '
            'To validate on part of these, leave --val-images and --val-masks out.'
        )


def _without_common(matching: Matching, held_out: Matching, lists: Lists) -> Matching:
    """Return the training set without the images of the validation set.

    Raises UserError if a list for training has some of them.
    """
    if lists == NO_LISTS:
        return matching
    images = {pair.image.resolve() for pair in held_out.pairs}
    common = [pair for pair in matching.pairs if pair.image.resolve() in images]
    if common and lists[0]:
        raise UserError(
            f'{len(common)} pictures to train on, of {lists[0]}, are also to validate on'
            f'{f", of {lists[1]}" if lists[1] else ""}: {first_few(pair.id for pair in common)}. '
            'Expected other pictures to validate on: take these out of one list.'
        )
    out = {pair.id for pair in common} | {
        name for problem in held_out.problems for name in problem.pairs
    }
    return replace(
        matching,
        pairs=[pair for pair in matching.pairs if pair.id not in out],
        problems=[p for p in matching.problems if not out.issuperset(p.pairs) or not p.pairs],
        images=matching.images - len(common),
    )


def _match_or_propose(
    sources: tuple[Path, Path], mask_suffix: str | None, names: tuple[str, str],
    list_file: Path | None, training: bool,
) -> Matching:  # fmt: skip
    """Return the matching of images and masks; where files are left, with proposals.

    Raises match_files' errors with the proposals. names: of the options that name the sources.
    """
    try:
        matching = match_listed(*sources, mask_suffix, list_file)
    except UserError as error:
        lines = proposed(_proposals(sources, mask_suffix, names, 0, list_file, training))
        raise type(error)('\n'.join([str(error), *lines])) from error
    if any(problem.kind == WITHOUT_MASK for problem in matching.problems):
        count = len(matching.pairs)
        matching.proposals = _proposals(sources, mask_suffix, names, count, list_file, training)
        if count and not matching.proposals:
            own = _own(sources, mask_suffix, names, list_file)
            matching.proposals = [f'{own} --skip-bad pairs {count} of {matching.images}']
    return matching


def _own(
    sources: tuple[Path, Path], mask_suffix: str | None, names: tuple[str, str],
    list_file: Path | None,
) -> str:  # fmt: skip
    """Return the options as given."""
    suffix = f' --mask-suffix={mask_suffix}' if mask_suffix else ''
    return describe(*sources, names) + suffix + _listed(list_file, names)


def _listed(list_file: Path | None, names: tuple[str, str]) -> str:
    option = '--list' if names[0] == '--images' else '--val-list'
    return f' {option} {shlex.quote(str(list_file))}' if list_file else ''


def _proposals(
    sources: tuple[Path, Path], mask_suffix: str | None, names: tuple[str, str], more_than: int,
    list_file: Path | None, training: bool,
) -> list[str]:  # fmt: skip
    """Return options that pair more files than that, with how many of how many."""
    lines = []
    if list_file is None and names[0] == '--images':
        found = find_lists(sources, partial(match_listed, *sources, mask_suffix))
        if not training:  # evaluate.py has one list
            found = next((list_ for list_ in found[::-1] if list_), None), None
        pairs = sum(len(list_.matching.pairs) for list_ in found if list_)
        images = sum(list_.matching.images for list_ in found if list_)
        own = _own(sources, mask_suffix, names, None)
        lines = [f'{own} {options(found)} pairs {pairs} of {images}'] if found[0] else []
    for patterns in propose(*sources):
        with suppress(UserError):
            matching = match_listed(*patterns, None, list_file)
            if len(matching.pairs) > more_than:
                skip = ' --skip-bad' if matching.problems else ''
                text = f'pairs {len(matching.pairs)} of {matching.images}'
                listed = _listed(list_file, names)
                lines.append(f'{describe(*patterns, names)}{listed}{skip} {text}')
    return lines
