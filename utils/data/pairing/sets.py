"""Training and validation set, matched; where files are left over, options that would pair them."""

import shlex
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from utils.annotations.recognize import annotation_command
from utils.images.pages import file_of
from utils.masks.joined import mask_files
from utils.runtime.errors import UserError, first_few, proposed

from .list_proposals import describe_lists, find_lists, options
from .lists import describe_unlisted, match_listed
from .matching import WITHOUT_MASK, Matching
from .pages import pairs_of_pages
from .patterns import is_pattern, literal_folder
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
    asked = _Asked(data, mask_suffix, lists[0], 'train' if training else '')
    matching = _match_or_propose(asked)
    if lists == NO_LISTS and validation is None and training and matching.pairs:
        matching.hints += describe_lists(data, asked.match, matching.images)
    if validation is None and lists[1] is None:
        matching.notes += describe_unlisted([p for p in lists if p], matching.unlisted)
        return pairs_of_pages(matching)
    if validation:
        _check_validation(data, validation, lists)
    names = ('--val-images', '--val-masks') if validation else asked.names
    held_out = _match_or_propose(_Asked(validation or data, mask_suffix, lists[1], 'val', names))
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
    return pairs_of_pages(Matching(
        [*matching.pairs, *pairs], [*matching.problems, *problems], rule,
        matching.images + held_out.images,
        [*dict.fromkeys([*matching.notes, *held_out.notes]), *notes], matching.class_names,
        [*matching.proposals, *held_out.proposals],
    ))  # fmt: skip


def _check_validation(data: tuple[Path, Path], validation: tuple[Path, Path], lists: Lists) -> None:
    """Raise UserError for folders of a validation set that do not exist, or are the training's."""
    for folder in validation:
        if not folder.exists() and not is_pattern(folder):
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
    images = {file_of(pair.image).resolve() for pair in held_out.pairs}
    common = [pair for pair in matching.pairs if file_of(pair.image).resolve() in images]
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


@dataclass(frozen=True)
class _Asked:
    """The files of the training or the validation set, as the user names them.

    names: of the options that name the sources. part: 'train' or 'val', or '' in evaluation, where
    options of train.py are not proposed.
    """

    sources: tuple[Path, Path]
    mask_suffix: str | None
    list_file: Path | None
    part: str
    names: tuple[str, str] = ('--images', '--masks')

    def match(self, list_file: Path | None) -> Matching:
        """Return the matching of the sources, by a list if there is one."""
        options = ('--val-images', '--val-masks') if self.part == 'val' else self.names
        return match_listed(*self.sources, self.mask_suffix, list_file, options, self.part)

    def options(self, sources: tuple[Path, Path], mask_suffix: str | None = None) -> str:
        """Return the options, with other sources."""
        words = describe(*sources, self.names)
        words += f' --mask-suffix={mask_suffix}' if mask_suffix else ''
        option = '--val-list' if self.part == 'val' else '--list'
        return words + (f' {option} {shlex.quote(str(self.list_file))}' if self.list_file else '')


def _match_or_propose(asked: _Asked) -> Matching:
    """Return the matching of images and masks; where files are left, with proposals.

    Raises match_files' errors with the proposals.
    """
    try:
        matching = asked.match(asked.list_file)
    except UserError as error:
        lines = proposed([*_proposals(asked, 0), *_commands(asked.sources)])
        raise type(error)('\n'.join([str(error), *lines])) from error
    if any(problem.kind == WITHOUT_MASK for problem in matching.problems):
        count = len(matching.pairs)
        apart = asked.sources[0] != asked.sources[1]  # else its images are not known
        matching.proposals = _proposals(asked, count, matching.images if apart else 0)
        if count and not matching.proposals:
            own = asked.options(asked.sources, asked.mask_suffix)
            matching.proposals = [f'{own} --skip-bad pairs {count} of {matching.images}']
        matching.proposals += _commands(asked.sources)
    elif matching.further:
        matching.notes += _further_masks(asked, matching)
    return matching


def _further_masks(asked: _Asked, matching: Matching) -> list[str]:
    """Return a note on masks left out of images that have another, if they can be joined."""
    for patterns in propose(*asked.sources):
        with suppress(UserError):
            joined = match_listed(*patterns, None, asked.list_file, part=asked.part)
            masks = sum(len(mask_files(pair.mask)) for pair in joined.pairs)
            if len(joined.pairs) >= len(matching.pairs) and masks > len(joined.pairs):
                return [
                    f'note: {len(matching.further)} of these masks are of images that have another '
                    f'({first_few(path.name for path in matching.further)}); to join all masks of '
                    f'an image: {asked.options(patterns)}'
                ]
    return []


def _commands(sources: tuple[Path, Path]) -> list[str]:
    """Return the command that makes masks, where the files are annotations instead."""
    command = annotation_command(*map(literal_folder, sources))
    return [command] if command else []


def _proposals(asked: _Asked, more_than: int, there: int = 0) -> list[str]:
    """Return options that pair more files than that, with how many of how many.

    there: number of images, some of which patterns may not match.
    """
    lines = []
    if asked.list_file is None and asked.part != 'val':
        found = find_lists(asked.sources, asked.match)
        if not asked.part:  # evaluate.py has one list
            found = next((list_ for list_ in found[::-1] if list_), None), None
        pairs = sum(len(list_.matching.pairs) for list_ in found if list_)
        images = sum(list_.matching.images for list_ in found if list_)
        own = asked.options(asked.sources, asked.mask_suffix)
        lines = [f'{own} {options(found)} pairs {pairs} of {images}'] if found[0] else []
    for patterns in propose(*asked.sources):
        with suppress(UserError):
            matching = match_listed(*patterns, None, asked.list_file, part=asked.part)
            if len(matching.pairs) > more_than:
                skip = ' --skip-bad' if matching.problems else ''
                text = f'pairs {len(matching.pairs)} of {max(matching.images, there)}'
                lines.append(f'{asked.options(patterns)}{skip} {text}')
    return lines
