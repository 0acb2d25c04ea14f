"""Proposals: the patterns by which files pair, for a message where they do not pair as they are.

Files below both folders are looked at by their names: extension, folders, and the beginnings and
endings that many names share. What is left of a name is its key; candidates whose keys agree for
most images are proposed.
"""

import shlex
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

from utils.images.decoding import IMAGE_SUFFIXES
from utils.images.metadata import pages_of
from utils.images.pages import Source, may_have_pages, split_name
from utils.images.volumes import check_package, is_volume
from utils.masks.likeness import are_parts, label_likeness
from utils.runtime.errors import UserError

from .patterns import literal_folder
from .templates import File, Key, Template, image_templates, mask_templates, shared_beginning

MOST_PROPOSED = 3
FILES_PER_FOLDER, FOLDERS_PER_FOLDER = 300, 100  # that are looked at
MOST_STACKS = 30  # files of several pages that are opened
SAMPLED = 100  # images whose masks are searched
FEWEST = 4  # one of so many images at least has a folder of masks, where folders have their names
PARTS = 8  # masks of an image that are opened

Example = tuple[Path, tuple[Path, ...]]  # an image and its masks


def propose(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Return pairs of patterns (images, masks) by which most files pair, the best first.

    images, masks: what the user named, folders or patterns. Pictures are never proposed as masks.
    Raises UserError where volumes need a package.
    """
    roots = literal_folder(images), literal_folder(masks)
    if not all(root.is_dir() for root in roots):
        return []
    image_files, mask_files = map(_look, roots)
    volume = next((f.path for f in (*image_files, *mask_files) if is_volume(f.path)), None)
    if volume:  # of which nothing could be told otherwise
        check_package(volume)
    by_key: dict[Key, list[tuple[Template, Path]]] = defaultdict(list)
    for template, files in mask_templates(roots[1], mask_files, {f.stem for f in image_files}):
        for file in files:
            if key := template.key(file.folders, file.stem):
                by_key[key].append((template, file.path))
    examples: dict[tuple[Template, Template], list[Example]] = defaultdict(list)
    scores: Counter[tuple[Template, Template]] = Counter()
    for template, files in image_templates(roots[0], image_files):
        stride = max(1, len(files) // SAMPLED)
        for file in files[::stride]:
            partners: dict[Template, list[Path]] = defaultdict(list)
            for other, path in by_key.get(template.key(file.folders, file.stem) or (), []):
                partners[other].append(path)
            for other, paths in partners.items():
                apart = template.numbers and other.numbers and template.numbers != other.numbers
                if file.path not in paths and not apart:
                    scores[template, other] += stride
                    examples[template, other].append((file.path, tuple(paths)))
        for pair in [pair for pair in scores if pair[0] == template and pair[1].by_folder]:
            if FEWEST * scores[pair] < len(files):  # the name of a folder is a number by chance
                del scores[pair]
    return _best(scores, examples) or _stacks(image_files, mask_files)


def describe(images: Path, masks: Path, options: tuple[str, str]) -> str:
    """Return the options, names of the two, that name these images and masks, for a shell."""
    return f'{options[0]} {shlex.quote(str(images))} {options[1]} {shlex.quote(str(masks))}'


def _best(
    scores: Counter[tuple[Template, Template]],
    examples: dict[tuple[Template, Template], list[Example]],
) -> list[tuple[Path, Path]]:
    """Return the pairs of patterns with the highest scores whose masks look like masks.

    Of patterns that pair the same files only the plainest is kept. Those that join all masks of an
    image come first, and pictures with masks drawn onto them last.
    """
    enough = [pair for pair in scores if len(examples[pair]) > 1 or len(scores) == 1]
    costs = {pair: sum(template.cost() for template in pair) for pair in enough}
    kinds = {pair: (not pair[1].classes, not pair[1].joins) for pair in enough}
    enough.sort(key=lambda pair: (-scores[pair], *kinds[pair], costs[pair]))
    chosen: list[tuple[tuple, tuple[Path, Path]]] = []
    first = 0
    seen = set()
    for pair in enough:
        samples = examples[pair]
        single = all(len(masks) == 1 for _, masks in samples)
        files = tuple((image, masks[0] if single else masks) for image, masks in samples)
        alike = files, pair[1].classes, pair[1].keyed
        if scores[pair] < 0.9 * first or len(chosen) >= 2 * MOST_PROPOSED:
            break
        if alike in seen or (pair[1].tail and single) or not (single or pair[1].joins):
            continue
        seen.add(alike)
        likeness = min(_likeness(masks[0]) for _, masks in samples[:3])
        photographs = min(_likeness(image) for image, _ in samples[:3]) < 0.5
        if (
            likeness
            and photographs
            and not (pair[1].joins and not _are_parts(samples, pair[1].classes))
        ):
            first = first or scores[pair]
            drawn = any('overlay' in str(template).lower() for template in pair)
            one = single and not pair[1].classes
            order = (one, not pair[1].classes, pair[1].by_folder, drawn, -likeness)
            chosen.append((order, (pair[0].pattern(), pair[1].pattern())))
    chosen.sort(key=lambda entry: entry[0])
    return [patterns for _, patterns in chosen[:MOST_PROPOSED]]


def _are_parts(samples: list[Example], classes: bool) -> bool:
    """Return whether the masks of each of some images are parts of one, see likeness.are_parts."""
    largest = sorted(samples, key=lambda example: -len(example[1]))[:3]
    with suppress(UserError):
        sources = [[_middle(path) for path in masks[:PARTS]] for _, masks in largest]
        return all(are_parts(each, classes) for each in sources)
    return False


def _stacks(image_files: list[File], mask_files: list[File]) -> list[tuple[Path, Path]]:
    """Return files of several pages that seem a stack of images and one of their masks.

    Often there is only one of each, whose names do not tell: train-volume.tif, train-labels.tif.
    They have as many pages, and of several images the one whose name begins like the mask's.
    """
    stacks: list[dict[Path, tuple[Source, ...]]] = [{}, {}]
    for files, found in zip((image_files, mask_files), stacks, strict=True):
        for path in [file.path for file in files if may_have_pages(file.path)][:MOST_STACKS]:
            with suppress(UserError):
                if len(pages := pages_of(path)) > 1:
                    found[path] = pages
    likeness = {path: _likeness(path) for path in dict.fromkeys([*stacks[0], *stacks[1]])}
    pairs = []
    for mask, pages in stacks[1].items():
        partners = [
            path for path, others in stacks[0].items()
            if path != mask and len(others) == len(pages) and likeness[path] < 0.5
        ]  # fmt: skip
        if likeness[mask] and partners:
            shared = {path: shared_beginning(path.name, mask.name) for path in partners}
            best = max(partners, key=lambda path: shared[path])
            pairs.append((-shared[best], (best, mask)))
    return [pair for _, pair in sorted(pairs)] if len(pairs) <= MOST_PROPOSED else []


def _likeness(path: Path) -> float:
    """Return label_likeness, of the middle page of several; 0 for a file that cannot be read."""
    with suppress(UserError):
        return label_likeness(_middle(path))
    return 0.0


def _middle(path: Path) -> Source:
    pages = pages_of(path)
    return pages[len(pages) // 2]


def _look(root: Path, folders: tuple[str, ...] = ()) -> list[File]:
    """Return pictures below a root, a bounded number of each folder."""
    entries = sorted(p for p in Path(root, *folders).iterdir() if not p.name.startswith('.'))
    kinds = {path: split_name(path.name)[1].lower() for path in entries}
    files = [p for p in entries if kinds[p] in IMAGE_SUFFIXES and not p.is_dir()]
    below = [p for p in entries if kinds[p] not in IMAGE_SUFFIXES and p.is_dir()]
    found = [File(folders, *split_name(p.name), p) for p in files[:FILES_PER_FOLDER]]
    for path in below[:FOLDERS_PER_FOLDER] if len(folders) < 6 else []:
        found += _look(root, (*folders, path.name))
    return found
