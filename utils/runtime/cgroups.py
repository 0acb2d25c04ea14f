"""Free memory and cores within Linux control groups (containers, Slurm, systemd), versions 1 and 2.

A process is limited by its own group and all groups above it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

MEMBERSHIP = Path('/proc/self/cgroup')
MOUNT = Path('/sys/fs/cgroup')


GIB = 2**30
MOST_TIMES = 100  # content over this many times the file is a bomb, if it is large, too


class TooLargeError(ValueError):
    """A file that would take far more memory than it has bytes."""


def free_memory() -> int:
    """Return the free bytes of main memory, within the limits of containers; 0 if unknown."""
    try:
        lines = Path('/proc/meminfo').read_text(encoding='ascii').splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith('MemAvail'))
    except OSError:  # macOS tells the total only, Windows neither
        if 'SC_PHYS_PAGES' not in getattr(os, 'sysconf_names', ()):
            return 0
        return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2
    room = memory_room()
    return free if room is None else min(free, room)


def check_size(declared: int, path: Path) -> None:
    """Raise TooLargeError if content of so many bytes cannot honestly be in the file at `path`.

    That is over 1 GiB, over half of the free memory, and over MOST_TIMES times what the file takes
    on its disk.
    """
    limit = max(GIB, free_memory() // 2)
    stat = path.stat()
    # Files with holes take less than their size; some file systems do not tell.
    taken = min(stat.st_size, getattr(stat, 'st_blocks', 0) * 512 or stat.st_size)
    if declared > limit and declared > MOST_TIMES * taken:
        raise TooLargeError(
            f'its {taken:,} bytes stand for {declared:,} bytes in memory, over the limit of '
            f'{limit:,}'
        )


def memory_room() -> int | None:
    """Return the bytes that this process may still take within its groups, None without a limit.

    Files in the page cache count as used in a group, but make room: those not lately used are left
    out here.
    """
    rooms = []
    for group in _groups('memory'):
        limit = _number(group / 'memory.max') or _number(group / 'memory.limit_in_bytes')
        used = _number(group / 'memory.current') or _number(group / 'memory.usage_in_bytes')
        if limit is not None and used is not None:
            rooms.append(max(0, limit - max(0, used - _page_cache(group))))
    return min(rooms, default=None)


def available_cores() -> int:
    """Return the number of cores that this process may use: of its affinity, within its quota."""
    affinity = getattr(os, 'sched_getaffinity', None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    for group in _groups('cpu'):
        # 'QUOTA PERIOD' in microseconds; 'max' or -1 without a quota.
        quota, _, period = _text(group / 'cpu.max').partition(' ')
        if not quota:
            quota = _text(group / 'cpu.cfs_quota_us')
            period = _text(group / 'cpu.cfs_period_us')
        if quota.isdigit() and period.isdigit():
            cores = min(cores, int(quota) // int(period))
    return max(1, cores)


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's group and of those above it, for a controller."""
    for line in _text(MEMBERSHIP).splitlines():
        number, names, path = line.split(':', 2)
        if number == '0':
            roots = [MOUNT, MOUNT / 'unified']
        elif controller in names.split(','):
            roots = [MOUNT / names, MOUNT / controller]
        else:
            continue
        root = next((folder for folder in roots if (folder / 'cgroup.procs').exists()), None)
        if root is None:
            continue
        group = Path(root, path.lstrip('/'))
        # In a container the path may be the host's; the container's own group is the root then.
        yield root
        while group != root and root in group.parents:
            yield group
            group = group.parent


def _page_cache(group: Path) -> int:
    """Return the bytes of files not lately used in a group and those below it."""
    lines = (line.split() for line in _text(group / 'memory.stat').splitlines())
    sizes = {words[0]: int(words[1]) for words in lines if len(words) == 2}
    return sizes.get('total_inactive_file', sizes.get('inactive_file', 0))


def _number(path: Path) -> int | None:
    """Return the number in a file; None for 'max', or without the file."""
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding='ascii').strip()
    except OSError:
        return ''
