"""Check or unpack one zip for scripts/download_data.sh; needs the standard library only."""

import argparse
import shutil
import sys
import zipfile
import zlib
from pathlib import Path, PurePosixPath

PICTURES = {'.gif', '.jpeg', '.jpg', '.png'}
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError)


def pictures(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Map each picture's bare file name to its entry; refuse names that lead out of the zip."""
    found: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        path = PurePosixPath(member.filename.replace('\\', '/'))
        if path.is_absolute() or '..' in path.parts or ':' in member.filename:
            raise ValueError(f'{archive.filename}: unsafe file name {member.filename!r}')
        # Zips made on a Mac carry a hidden '._name' beside each picture.
        hidden = path.name.startswith('.') or '__MACOSX' in path.parts
        if member.is_dir() or hidden or path.suffix.lower() not in PICTURES:
            continue
        if path.name in found:
            raise ValueError(f'{archive.filename}: {path.name} is in it twice')
        found[path.name] = member
    return found


def damage(zip_path: Path) -> str | None:
    """Say what is wrong with the zip; None when every byte of it reads well."""
    try:
        with zipfile.ZipFile(zip_path) as archive:
            first_bad = archive.testzip()
    except DAMAGE as error:
        return str(error)
    return f'{first_bad} in it is damaged' if first_bad else None


def unpack(zip_path: Path, folder: Path) -> int:
    """Put the zip's pictures straight into the folder; return how many the zip lists."""
    kept = differing = 0
    with zipfile.ZipFile(zip_path) as archive:
        members = pictures(archive)
        for name, member in members.items():
            target = folder / name
            if target.exists():
                kept += 1
                differing += target.stat().st_size != member.file_size
                continue
            # Renamed only when whole, so a kill leaves no half picture under its real name.
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


def pairs(imgs: Path, masks: Path) -> int:
    """Count the masks named as the competition names them whose picture is there too."""
    if not (imgs.is_dir() and masks.is_dir()):
        return 0
    stems = {path.stem for path in imgs.glob('*.jpg')}
    return sum(path.name.removesuffix('_mask.gif') in stems for path in masks.glob('*_mask.gif'))


def main() -> int:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    for name, arguments in {
        'check': ['zip'],
        'unpack': ['zip', 'folder'],
        'pairs': ['imgs', 'masks'],
    }.items():
        command = commands.add_parser(name)
        for argument in arguments:
            command.add_argument(argument, type=Path)
    args = parser.parse_args()
    try:
        if args.command == 'check':
            reason = damage(args.zip)
            print(reason or 'whole')
            return 1 if reason else 0
        if args.command == 'unpack':
            print(unpack(args.zip, args.folder))
        else:
            print(pairs(args.imgs, args.masks))
    except (OSError, ValueError, RuntimeError, *DAMAGE) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
