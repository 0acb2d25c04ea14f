"""Print requirements.lock without torch, torchvision and what only they need.

    python scripts/lock_without_torch.py >without-torch.lock
    pip install --require-hashes -r without-torch.lock

For environments that have a torch of their own, as the base image of the Dockerfile: pip would
replace it by another build of several gigabytes. Needs Python alone.
"""

import re
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / 'requirements.lock'
# setuptools: torch needs it, and so does kaggle, but for Python 3.10 alone. The image has it, from
# Ubuntu, whose packages pip cannot always replace.
ROOTS = {'torch', 'torchvision', 'setuptools'}


def entries(lock: str) -> list[tuple[str, set[str], str]]:
    """Return name, requiring packages and text of each entry of a lock file that uv wrote."""
    found = []
    for text in re.findall(r'^[\w.-]+==.*\n(?:[ \t]+.*\n)*', lock, re.MULTILINE):
        via = text.partition('# via')[2].replace('#', ' ').split('\n')
        found.append((text.partition('==')[0], {line.strip() for line in via} - {''}, text))
    return found


def without_torch(lock: str) -> str:
    """Return a lock file without the entries that only torch and torchvision need."""
    kept, dropped = entries(lock), set(ROOTS)
    while True:
        # The names of one package, for several versions of Python, go together.
        needed = {name for name, via, _ in kept if name not in ROOTS and via - dropped}
        remaining = [entry for entry in kept if entry[0] in needed]
        if remaining == kept:
            return ''.join(text for _, _, text in kept)
        dropped |= {name for name, _, _ in kept} - needed
        kept = remaining


if __name__ == '__main__':
    sys.stdout.write(without_torch(LOCK.read_text(encoding='utf-8')))
