"""Pairs of images and masks, matched by file name. Each folder is listed once."""

from collections import defaultdict
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from utils.images.pages import Source
from utils.masks.joined import FOREGROUND, JoinedMask, MaskSource
from utils.runtime.errors import EmptyFolderError, Problem, UserError, first_few

from .endings import begins_with_another, find_suffix, images_of_mixed, without_suffix
from .patterns import Listing, NamedFile, advice, is_pattern, list_pictures, without_repeats

WITHOUT_MASK = 'without a mask'  # kind of problem
Choice = Callable[[list[NamedFile]], list[NamedFile]]  # which images of all are matched


@dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    id: str  # what names its image; 'validation/' comes first if `validation` is set
    image: Source
    mask: MaskSource
    validation: bool = False  # of a fixed validation set (--val-images)


@dataclass
class Matching:
    """The pairs of two folders or patterns, sorted by id, and the problems of other files.

    rule: how names were paired. notes: lines about files that are left out. class_names: of
    {class}, in the order of their values 1, 2, …; empty without it. unlisted, missing: images that
    a list leaves out, and how many it names that are not there. further: masks left out whose
    names begin with that of an image.
    """

    pairs: list[Pair]
    problems: list[Problem]
    rule: str
    images: int = 0  # how many there are
    notes: list[str] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    proposals: list[str] = field(default_factory=list)  # options by which more files would pair
    unlisted: list[Path] = field(default_factory=list)
    missing: int = 0
    further: list[Path] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)  # notes that propose options of train.py

    def lines(self) -> list[str]:
        """Return the rule and the notes for the user."""
        return [f'pairs: {self.rule}', *self.notes]


def match_files(
    images: Path, masks: Path, mask_suffix: str | None = None, choose: Choice | None = None
) -> Matching:
    """Match the pictures of two folders, of two patterns (see pairing.patterns), or two files.

    mask_suffix: of a mask's stem after that of its image, '_mask' for Carvana. None finds it: the
        ending that gives every image a mask.
    choose: which images to match, as a list names them; None matches all.

    Raises UserError for a folder that is missing or empty, and where several endings fit.
    """
    remedy = (
        f'Put your pictures into {images} and their masks into {masks}, name other folders '
        'with --images and --masks, or make a demo set: python scripts/make_demo_data.py'
    )
    listings = list_pictures(images, remedy), list_pictures(masks, remedy)
    if images.is_file() and masks.is_file():
        return _match_two(*listings)
    if images.is_file():  # among its masks, it is none of them
        others = [file for file in listings[1].files if not _one_file(listings[0].files[0], file)]
        listings[1].files = others or listings[1].files
    if is_pattern(images) or is_pattern(masks):
        if mask_suffix:
            raise UserError(
                f'--mask-suffix {mask_suffix} is for folders; write it into the pattern: '
                f"--masks '{masks.parent}/*{mask_suffix}.*' or so"
            )
        return _match_ids(*listings, choose)
    for listing, other in (listings, listings[::-1]):
        if listing.nested and not other.nested:
            raise EmptyFolderError(
                f'{listing.source} holds no pictures; there are {first_few(listing.others)}, and '
                f'pictures in these, but none in folders of {other.source}. {remedy}'
            )
    return _match_suffix(*listings, mask_suffix, choose)


def _match_two(images: Listing, masks: Listing) -> Matching:
    """Match two files, whatever their names."""
    pairs = [Pair(images.files[0].id, images.files[0].path, masks.files[0].path)]
    pairs, problems = _without_links(pairs, [*images.files, *masks.files])
    return Matching(pairs, problems, f'{images.source} with {masks.source}', 1)


def is_own_output(stem: str, stems: Container[str]) -> bool:
    """Return whether `stem` is that of a file which predict.py wrote beside one of `stems`."""
    return stem.endswith(('_OUT', '_VIZ')) and stem[:-4] in stems


def _match_suffix(
    images: Listing, masks: Listing, suffix: str | None, choose: Choice | None
) -> Matching:
    """Match each image with the mask whose id is the image's and a suffix."""
    named, partners = images.by_id(), masks.by_id()
    one_folder = images.source.resolve() == masks.source.resolve()
    if one_folder:
        named, suffix = images_of_mixed(images.source, named, suffix, advice(images.others))
    if choose:
        named = _chosen(named, images.files, choose)
    mask_ids: dict[str, str] = {}  # of masks without that suffix
    if suffix is None:
        suffix = find_suffix(named, partners) if named else ''
        mask_ids = without_suffix(named, partners, suffix)
    there = first_few(path.name for paths in partners.values() for path in paths)
    found = [partners.get(mask_ids.get(name, name + suffix), []) for name in named]
    pairs, problems = [], []
    for (name, files), masks_found in zip(named.items(), found, strict=True):
        if len(files) == len(masks_found) == 1:
            pairs.append(Pair(name, files[0], masks_found[0]))
        if not masks_found:
            own = is_own_output(name, named)
            problems.append(_without_mask(name, files[0], suffix, there, own))
    problems += _repeated([*named.values(), *found])
    pairs, linked = _without_links(pairs, [*images.files, *masks.files])
    used = {path for paths in [*named.values(), *found] for path in paths}
    unused = [] if choose else [file.path for file in masks.files if file.path not in used]
    rule = f'{_anything(images)} with {_anything(masks)}{suffix}'
    rule += f', {len(mask_ids)} of them with masks of their own names' if mask_ids else ''
    problems += linked
    matching = Matching(pairs, problems, rule, len(named), _notes(images, masks, unused))
    left = {*unused}
    matching.further = [
        file.path for file in masks.files
        if file.path in left and begins_with_another(file.id, named)
    ]  # fmt: skip
    if images.nested and any('/' in pair.id for pair in pairs):
        matching.notes.append(
            'note: pictures lie in folders; to keep the pictures of a folder (patient, video) '
            "together in the split, say --group-regex '^[^/]+'"
        )
    return matching


def _chosen(
    named: dict[str, list[Path]], files: list[NamedFile], choose: Choice
) -> dict[str, list[Path]]:
    """Return the images, by id, that are chosen of those in `named`."""
    there = {path for paths in named.values() for path in paths}
    kept = {file.path for file in choose([file for file in files if file.path in there])}
    chosen = {name: [path for path in paths if path in kept] for name, paths in named.items()}
    return {name: paths for name, paths in chosen.items() if paths}


def _match_ids(images: Listing, masks: Listing, choose: Choice | None) -> Matching:
    """Match each image with the masks whose ids begin with the image's id."""
    own = {file.path for file in masks.files}
    pictures = [file for file in images.files if file.path not in own]
    if not pictures:
        raise UserError(
            f'{images.source} and {masks.source} match the same files; expected a pattern of the '
            'images and one of their masks'
        )
    if is_pattern(images.source):  # after the masks among them, whose names differ
        pictures = without_repeats(pictures)
    if is_pattern(masks.source):
        masks.files = without_repeats(masks.files)
    pictures = choose(pictures) if choose else pictures
    by_parts = defaultdict(list)
    for file in pictures:
        by_parts[file.parts].append(file.path)
    found: dict[tuple[str, ...], list[NamedFile]] = {parts: [] for parts in by_parts}
    unused = []
    for mask in masks.files:
        lengths = range(len(mask.parts), 0, -1)
        key = next((mask.parts[:n] for n in lengths if mask.parts[:n] in by_parts), None)
        if key is not None:
            found[key].append(mask)
        elif not choose:
            unused.append(mask.path)
    classes = sorted({mask.class_name for mask in masks.files if mask.class_name is not None})
    classes = [name for name in classes if name != 'background']
    joined = classes or any(len(m.parts) > len(key) for key, group in found.items() for m in group)
    pairs, problems = [], _repeated(by_parts.values())
    there = first_few(file.path.name for file in masks.files)
    for parts, paths in by_parts.items():
        group, name = found[parts], '/'.join(parts)
        if not group:
            text = f'{paths[0]} has no mask in {masks.source}, which matches {there}'
            problems.append(Problem(WITHOUT_MASK, text, (name,)))
        elif joined and len(paths) == 1:
            pairs.append(Pair(name, paths[0], _join(group, classes)))
        elif len(paths) == 1 == len(group):
            pairs.append(Pair(name, paths[0], group[0].path))
        elif not joined:
            problems += _repeated([[mask.path for mask in group]])
    pairs, linked = _without_links(pairs, [*images.files, *masks.files])
    rule = f'{images.source} with {masks.source}'
    notes = _notes(images, masks, unused)
    if joined:
        what = f'the classes {", ".join(classes)}' if classes else 'instances of one class'
        notes.append(f'note: several masks of an image are joined, as {what}')
    return Matching(pairs, problems + linked, rule, len(by_parts), notes, classes)


def _join(group: list[NamedFile], classes: list[str]) -> JoinedMask:
    """Return the mask of an image's files, in the order of classes and names."""
    known = [mask for mask in group if not classes or mask.class_name in classes]
    values = [1 + classes.index(m.class_name) if m.class_name else FOREGROUND for m in known]
    ordered = sorted(zip(values, known, strict=True), key=lambda pair: (pair[0], pair[1].path))
    return JoinedMask(tuple(mask.path for _, mask in ordered), tuple(value for value, _ in ordered))


def _without_mask(name: str, image: Path, suffix: str, there: str, own_output: bool) -> Problem:
    text = f'{image} has no mask {name.rpartition("/")[2]}{suffix}.*; the masks are called {there}.'
    if own_output:
        text += ' It seems to be an output of predict.py: move it elsewhere.'
    else:
        text += (
            " Expected the image's name and the same suffix for all masks (--mask-suffix, here "
            f'{suffix!r}).'
        )
    return Problem(WITHOUT_MASK, text, (name,))


def _repeated(groups: Iterable[list[Path]]) -> list[Problem]:
    """Return a problem for each group of several files."""
    return [
        Problem(
            'more than one file of a name',
            f'{" and ".join(map(str, files))}: expected one. Remove or rename the others.',
        )
        for files in groups
        if len(files) > 1
    ]


def _without_links(pairs: list[Pair], files: list[NamedFile]) -> tuple[list[Pair], list[Problem]]:
    """Return the pairs of two different files, and a problem for each of one file and a link."""
    known = {file.path: file for file in files}
    good, problems = [], []
    for pair in pairs:
        files = [known[file] for file in (pair.image, pair.mask) if isinstance(file, Path)]
        if len(files) == 2 and _one_file(*files):
            text = f'{pair.image} and {pair.mask} are one file; expected an image and its mask'
            problems.append(Problem('image and mask are one file', text, (pair.id,)))
        else:
            good.append(pair)
    return good, problems


def _one_file(image: NamedFile, mask: NamedFile) -> bool:
    """Return whether two paths are one file, by links of either kind."""
    if image.inode != mask.inode and not (image.linked or mask.linked):
        return False
    exist = image.path.exists() and mask.path.exists()
    return exist and image.path.samefile(mask.path)


def _anything(listing: Listing) -> str:
    if listing.source.is_file():
        return str(listing.source)
    return f'{listing.source}/**/*' if listing.nested else f'{listing.source}/*'


def _notes(images: Listing, masks: Listing, unused: list[Path]) -> list[str]:
    """Return lines about pictures of unknown kinds and masks that belong to no image."""
    notes = []
    unread = sorted({name for listing in (images, masks) for name in listing.others
                     if name.lower().endswith(UNREAD_SUFFIXES)})  # fmt: skip
    if unread:
        notes.append(
            f'note: left out, of kinds that are not read: {len(unread)} ({first_few(unread)}). '
            'Convert them to PNG to use them.'
        )
    if unused:
        notes.append(
            f'note: masks left out, as no image has their names: {len(unused)} '
            f'({first_few(path.name for path in unused)})'
        )
    return notes


# Of pictures that a program of the user's shows, and that Pillow does not read without plugins.
UNREAD_SUFFIXES = (
    '.heic', '.heif', '.avif', '.jp2', '.j2k', '.jxl', '.svg', '.psd', '.dng', '.cr2', '.nef',
    '.arw', '.exr', '.hdr', '.tga', '.pcx', '.ecw', '.sid', '.jxr', '.raw',
)  # fmt: skip
