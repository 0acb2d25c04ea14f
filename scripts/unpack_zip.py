"""Check or unpack a zip for scripts/download_data.sh; uses the standard library only."""

import argparse
import shutil
import sys
import zipfile
import zlib
from pathlib import Path, PurePosixPath

PICTURES = {'.gif', '.jpeg', '.jpg', '.png'}
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError)


def picture_entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the entry of each picture by its file name without folders.

    Raises ValueError for unsafe names and for names that occur twice.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        path = PurePosixPath(member.filename.replace('\\', '/'))
        if path.is_absolute() or '..' in path.parts or ':' in member.filename:
            raise ValueError(f'{archive.filename}: unsafe file name {member.filename!r}')
        # Zips made on a Mac hold a hidden '._name' for each picture.
        hidden = path.name.startswith('.') or '__MACOSX' in path.parts
        if member.is_dir() or hidden or path.suffix.lower() not in PICTURES:
            continue
        if path.name in found:
            raise ValueError(f'{archive.filename}: contains {path.name} twice')
        found[path.name] = member
    return found


def find_damage(zip_path: Path) -> str | None:
    """Read the whole zip; return what is wrong with it, None if it is intact."""
    try:
        with zipfile.ZipFile(zip_path) as archive:
            first_bad = archive.testzip()
    except DAMAGED as error:
        return str(error)
    return f'{first_bad} is damaged' if first_bad else None


def unpack(zip_path: Path, folder: Path) -> int:
    """Unpack the zip's pictures into the folder itself; return how many the zip holds.

    Existing files are kept.
    """
    kept = differing = 0
    with zipfile.ZipFile(zip_path) as archive:
        members = picture_entries(archive)
        for name, member in members.items():
            target = folder / name
            if target.exists():
                kept += 1
                differing += target.stat().st_size != member.file_size
                continue
            # Renamed when complete: a kill leaves no partial picture under its real name.
            part = folder / f'.{name}.part'
            try:
                with archive.open(member) as source, part.open('wb') as sink:
                    shutil.copyfileobj(source, sink)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
    note = f'{folder}: {len(members) - kept} unpacked, {kept} already there and kept'
    if differing:
        note += f' (warning: {differing} of these differ in size from the zip)'
    print(note, file=sys.stderr)
    return len(members)


def count_pairs(imgs: Path, masks: Path) -> int:
    """Count the pictures ID.jpg with a mask ID_mask.gif, the names of the competition."""
    if not (imgs.is_dir() and masks.is_dir()):
        return 0
    stems = {path.stem for path in imgs.glob('*.jpg')}
    return sum(path.name.removesuffix('_mask.gif') in stems for path in masks.glob('*_mask.gif'))


def main() -> int:
    """Run one of the three commands and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('command', choices=['check', 'unpack', 'pairs'])
    parser.add_argument('paths', type=Path, nargs='+', help='ZIP, ZIP FOLDER, or IMAGES MASKS')
    args = parser.parse_args()
    try:
        if args.command == 'check':
            reason = find_damage(*args.paths)
            print(reason or 'intact')
            return 1 if reason else 0
        if args.command == 'unpack':
            print(unpack(*args.paths))
        else:
            print(count_pairs(*args.paths))
    except (OSError, ValueError, RuntimeError, *DAMAGED) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
