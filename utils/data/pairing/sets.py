"""Training and validation set, matched; where files are left over, options that would pair them."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from utils.runtime.errors import UserError, proposed

from .matching import WITHOUT_MASK, Matching, match_files
from .pages import pairs_of_pages
from .patterns import is_pattern
from .proposals import describe, propose


def match_sets(
    data: tuple[Path, Path], mask_suffix: str | None, validation: tuple[Path, Path] | None
) -> Matching:
    """Match the folders `data` (images, masks), then those of a fixed validation set, if any."""
    matching = pairs_of_pages(_match_or_propose(data, mask_suffix, ('--images', '--masks')))
    if validation is None:
        return matching
    for folder in validation:
        if not folder.exists() and not is_pattern(folder):
            raise UserError(
                f'{folder} does not exist. Expected the folders of the validation images '
                '(--val-images) and of their masks (--val-masks).'
            )
    if data[0].resolve() == validation[0].resolve():
        raise UserError(
            f'--images and --val-images are both {data[0]}; expected other images to validate on. '
            'To validate on part of these, leave --val-images and --val-masks out.'
        )
    held_out = _match_or_propose(validation, mask_suffix, ('--val-images', '--val-masks'))
    held_out = pairs_of_pages(held_out)
    if held_out.class_names != matching.class_names:
        raise UserError(
            f'--masks has the classes {matching.class_names} and --val-masks '
            f'{held_out.class_names}; expected the same'
        )
    pairs = [replace(p, id=f'validation/{p.id}', validation=True) for p in held_out.pairs]
    problems = [
        p._replace(pairs=tuple(f'validation/{name}' for name in p.pairs)) for p in held_out.problems
    ]
    return Matching(
        [*matching.pairs, *pairs], [*matching.problems, *problems], matching.rule,
        matching.images + held_out.images,
        [*matching.notes, *held_out.notes], matching.class_names,
        [*matching.proposals, *held_out.proposals],
    )  # fmt: skip


def _match_or_propose(
    sources: tuple[Path, Path], mask_suffix: str | None, options: tuple[str, str]
) -> Matching:
    """Return the matching of images and masks; where files are left, with proposals.

    Raises match_files' errors with the proposals. options: those that name the sources.
    """
    try:
        matching = match_files(*sources, mask_suffix)
    except UserError as error:
        lines = proposed(_proposals(sources, options, 0))
        raise type(error)('\n'.join([str(error), *lines])) from error
    if any(problem.kind == WITHOUT_MASK for problem in matching.problems):
        count = len(matching.pairs)
        matching.proposals = _proposals(sources, options, count)
        if count and not matching.proposals:
            suffix = f' --mask-suffix={mask_suffix}' if mask_suffix else ''
            own = describe(*sources, options)
            matching.proposals = [f'{own}{suffix} --skip-bad pairs {count} of {matching.images}']
    return matching


def _proposals(sources: tuple[Path, Path], options: tuple[str, str], more_than: int) -> list[str]:
    """Return options that pair more files than that, with how many of how many."""
    lines = []
    for patterns in propose(*sources):
        with suppress(UserError):
            matching = match_files(*patterns)
            if len(matching.pairs) > more_than:
                skip = ' --skip-bad' if matching.problems else ''
                text = f'pairs {len(matching.pairs)} of {matching.images}'
                lines.append(f'{describe(*patterns, options)}{skip} {text}')
    return lines
