"""Check or unpack a zip for scripts/download_data.sh; uses the standard library only.

unpack_zip.py check ZIP | unpack ZIP FOLDER | pairs IMAGES MASKS | demo IMAGES | lines
"""

import os
import re
import shutil
import sys
import time
import zipfile
import zlib
from pathlib import Path, PurePosixPath

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from make_demo_data import car_id

# These need the standard library only.
from utils.runtime.console import NEXT_LINES
from utils.runtime.files import whole_file

PICTURES = {'.gif', '.jpeg', '.jpg', '.png'}


def picture_entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the entry of each picture by its name; ValueError if one is unsafe or there twice."""
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


def check(zip_path: Path) -> str:
    """Read the whole zip; raise BadZipFile, zlib.error or EOFError if it is damaged."""
    with zipfile.ZipFile(zip_path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f'{damaged} is damaged')
    return 'intact'


def unpack(zip_path: Path, folder: Path) -> int:
    """Unpack the pictures into the folder itself, keep existing files; return their number."""
    kept = differing = 0
    with zipfile.ZipFile(zip_path) as archive:
        members = picture_entries(archive)
        for name, member in members.items():
            target = folder / name
            if target.exists():
                kept += 1
                differing += target.stat().st_size != member.file_size
                continue
            # A kill leaves no partial picture under its real name.
            with (
                archive.open(member) as source,
                whole_file(target) as part,
                part.open('wb') as sink,
            ):
                shutil.copyfileobj(source, sink)
    others = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES]
    others = [path for path in others if path.name not in members]
    note = f'{folder}: {len(members) - kept} unpacked, {kept} already there and kept'
    if differing:
        note += f' (warning: {differing} of these differ in size from the zip)'
    if others:
        note += f'; {len(others)} others are there, such as {min(others).name}: training uses all'
    print(note, file=sys.stderr)
    return len(members)


def pairs(imgs: Path, masks: Path) -> int:
    """Count the pictures ID.jpg with a mask ID_mask.gif, the names of the competition."""
    stems = {path.stem for path in imgs.glob('*.jpg')}
    return sum(path.name.removesuffix('_mask.gif') in stems for path in masks.glob('*_mask.gif'))


def demo(imgs: Path) -> str:
    """Return the ids of the demo set that a folder holds: of cars of the first seeds, and cells."""
    found = {path.stem.rpartition('_')[0] for path in imgs.glob('*_*.*')}
    rendered = {car_id(seed, car) for seed in range(100) for car in range(100)} | {'cells'}
    return ' '.join(sorted(found & rendered))


def lines() -> str:
    """Print the lines of standard input, for a log file; of a progress bar one in 30 seconds."""
    text, due = '', 0.0
    while block := os.read(0, 2**16):
        *ended, text = re.split(r'(\r\n|[\r\n])', text + block.decode(errors='replace'))
        for line, end in zip(ended[::2], ended[1::2], strict=True):
            now = time.monotonic()
            if not line.strip() or (end == '\r' and now < due):
                continue
            due = now + NEXT_LINES if end == '\r' else due
            print(line.rstrip(), flush=True)
    return text.rstrip()


COMMANDS = {'check': check, 'unpack': unpack, 'pairs': pairs, 'demo': demo, 'lines': lines}

if __name__ == '__main__':
    command, *paths = sys.argv[1:]
    try:
        if (found := COMMANDS[command](*map(Path, paths))) != '':
            print(found)
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit(130)
