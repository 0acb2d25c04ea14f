"""YOLO segmentation: a text file a picture, a line an object: class x1 y1 x2 y2 … in fractions.

See https://docs.ultralytics.com/datasets/segment/.
"""

from collections.abc import Iterator
from pathlib import Path

from utils.annotations import fields
from utils.annotations.records import (
    AnnotatedPicture,
    AnnotationSet,
    Outlines,
    Shape,
    listed_labels,
)
from utils.images.decoding import IMAGE_SUFFIXES
from utils.runtime.errors import UserError, first_few

TABLES = ('data.yaml', 'data.yml', 'dataset.yaml')
NAME_LISTS = ('classes.txt', 'obj.names', 'labels.txt')
MOST = 2.0  # fractions beyond it are no fractions; a little over 1 is clipped


def read_yolo(source: Path) -> AnnotationSet:
    """Read the label files of a folder with labels/, or of one with texts beside pictures.

    source: the folder, labels/ or a folder in it, or data.yaml.
    Classes are named by data.yaml or classes.txt. Pictures without a label file are background.
    """
    folder = source if source.is_dir() else source.parent
    own = [path for path in (folder, folder.parent) if path.name == 'labels']
    root = own[0].parent if own and not (folder / 'labels').is_dir() else folder
    names = _class_names(source, root)
    found = AnnotationSet(labels=names or [], home=root)
    labels = _label_files(folder, root)
    if not labels:
        raise UserError(
            f'{folder} holds no label files; expected labels/NAME.txt beside images/NAME.jpg, '
            'lines of a class and an outline: 0 0.1 0.1 0.9 0.1 0.5 0.9'
        )
    highest = -1
    for path in labels:
        picture = AnnotatedPicture(path, (_picture_name(path, root),), None, relative=True)
        found.pictures.append(picture)
        with found.attempt():
            for index, shape in _shapes(path, names):
                highest = max(highest, index)
                picture.shapes.append(shape)
    if not names:
        found.labels = [f'class {k}' for k in range(highest + 1)]
        found.count('classes have no names, as there is no data.yaml or classes.txt', 'class 0')
    _add_unlabelled(found, root, labels)
    return found


def _shapes(path: Path, names: list[str] | None) -> Iterator[tuple[int, Shape]]:
    """Yield the class and the shape of each line."""
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read: {error}', 'unreadable') from error
    for k, line in enumerate(lines, 1):
        words, what = line.split(), f'{path}: line {k}'
        if not words:
            continue
        index = fields.whole(words[0], f'{what}: class')
        if names is not None and index >= len(names):
            raise fields.fault(
                f'{what}: class', index, f'0 to {len(names) - 1}, the names there are'
            )
        if index > 10_000:
            raise fields.fault(f'{what}: class', index, 'the number of a class')
        if len(words) == 5:
            raise UserError(
                f'{what} is a box (a class and four numbers); expected outlines, a class and '
                'three points or more: export the labels as segmentation',
                'boxes, no outlines',
            )
        if len(words) < 7 or len(words) % 2 == 0:
            raise fields.fault(f'{what}: number of values', len(words), '1 + 2 for each point')
        ring = fields.points([fields.number(word, what) for word in words[1:]], what)
        if not (abs(ring) <= MOST).all():
            raise fields.fault(what, line, 'fractions of width and height, 0 to 1')
        yield index, Shape(names[index] if names else f'class {index}', Outlines((ring,)))


def _label_files(folder: Path, root: Path) -> list[Path]:
    """Return the texts in folders called labels, or if there are none, those beside pictures."""
    texts = list(fields.files_in(folder, '*.txt'))
    within = [path for path in texts if 'labels' in path.relative_to(root).parts[:-1]]
    if within:
        return [path for path in within if path.name not in NAME_LISTS]
    pictures = (path for path in folder.rglob('*') if path.suffix.lower() in IMAGE_SUFFIXES)
    stems = {path.with_suffix('') for path in pictures}
    return [path for path in texts if path.with_suffix('') in stems]


def _picture_name(path: Path, root: Path) -> str:
    """Return the name of a label's picture without an extension: labels/a.txt is of images/a."""
    parts = list(path.relative_to(root).with_suffix('').parts)
    at = max((k for k, part in enumerate(parts[:-1]) if part == 'labels'), default=None)
    if at is not None:
        parts[at] = 'images'
    return '/'.join(parts)


def _add_unlabelled(found: AnnotationSet, root: Path, labels: list[Path]) -> None:
    """Add the pictures without a label file, in folders images beside the folders of labels."""
    known = {picture.names[0] for picture in found.pictures}
    for folder in sorted({root / Path(_picture_name(path, root)).parent for path in labels}):
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            name = path.relative_to(root).with_suffix('').as_posix()
            hidden = path.name.startswith('.') or path.suffix.lower() not in IMAGE_SUFFIXES
            if not hidden and name not in known:
                found.count('pictures without a label file are background', path.name)
                found.pictures.append(AnnotatedPicture(path, (name,), None, relative=True))


def _class_names(source: Path, root: Path) -> list[str] | None:
    """Return the names of data.yaml or of a list, of the folder or one above it; None without."""
    if source.is_file():
        return _yaml_names(source)
    for folder in (root, root.parent):
        for path in (folder / name for name in TABLES):
            if path.is_file():
                return _yaml_names(path)
        if names := listed_labels(folder, NAME_LISTS):
            return names
    return None


def _yaml_names(path: Path) -> list[str]:
    """Return `names` of a data.yaml: a list, or an object of numbers and names."""
    try:
        import yaml
    except ModuleNotFoundError as error:  # wandb brings it
        raise UserError(f'{path} needs the package PyYAML: pip install pyyaml') from error
    try:  # BaseLoader makes no other objects than texts, lists and dicts
        document = yaml.load(path.read_text(encoding='utf-8-sig'), Loader=yaml.BaseLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = ' '.join(str(error).split())
        raise UserError(f'{path} cannot be read as YAML: {reason}', 'unreadable') from error
    names = fields.mapping(document, str(path)).get('names')
    what = f'{path}: names'
    if isinstance(names, dict):
        numbers = {fields.whole(key, what): value for key, value in names.items()}
        if sorted(numbers) != list(range(len(numbers))):
            raise fields.fault(what, first_few(names), 'the numbers 0, 1, 2, …')
        names = [numbers[k] for k in range(len(numbers))]
    return [fields.text(name, what) for name in fields.listed(names, what)]
