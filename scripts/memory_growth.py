"""Run a command, watch the memory of all its processes, and say whether it grows (Linux only).

    python scripts/memory_growth.py python train.py -e 200 -s 1 --base-channels 4
    python scripts/memory_growth.py python predict.py -m checkpoints/best.pth -i imgs/ -o masks/

Prints the median memory of each third of the time after a warm-up. The exit code is 1 if the last
is more than 20 MiB and more than 2 % above the first, else the command's.
"""

import argparse
import itertools
import statistics
import subprocess
import sys
import time
from pathlib import Path

MIB = 1 << 20
TOLERANCE = 20 * MIB, 0.02  # growth that is within either is noise


def process_tree(root: int, proc: Path = Path('/proc')) -> list[int]:
    """Return the ids of a process and of all its descendants that run now."""
    children: dict[int, list[int]] = {}
    for entry in proc.glob('[0-9]*'):
        try:
            # After the name, which may hold spaces and brackets: the state, then the parent's id.
            parent = int((entry / 'stat').read_text().rpartition(')')[2].split()[1])
        except OSError:  # no process, or one that has ended
            continue
        children.setdefault(parent, []).append(int(entry.name))
    tree = [root]
    for process in tree:
        tree += children.get(process, [])
    return tree


def memory_of(process: int, proc: Path = Path('/proc')) -> int:
    """Return the bytes of a process in main memory, 0 if it has ended.

    Memory that several processes share counts in equal parts, so that sums count it once. Pages of
    files count in full: their parts would change with other programs that use the same libraries.
    """
    try:
        shared = (proc / str(process) / 'smaps_rollup').read_text()
        files = (proc / str(process) / 'status').read_text()
    except OSError:
        return 0
    counted = ('Pss_Anon:', 'Pss_Shmem:', 'RssFile:')
    fields = [line.split() for line in (shared + files).splitlines() if line.startswith(counted)]
    return sum(int(kilobytes) << 10 for _, kilobytes, *_ in fields)


def watch(command: list[str], interval: float = 0.25) -> tuple[list[int], int]:
    """Run a command; return the bytes of its process tree over time, and its exit code."""
    sizes = []
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            sizes.append(sum(map(memory_of, process_tree(process.pid))))
            time.sleep(interval)
    return sizes, process.returncode


def medians_of_thirds(sizes: list[int], warm_up: float) -> list[float]:
    """Return the median of each third of the sizes, without the first part `warm_up`, 0 to 1."""
    kept = sizes[round(len(sizes) * warm_up) :]
    cuts = [round(len(kept) * third / 3) for third in range(4)]
    return [statistics.median(kept[low:high]) for low, high in itertools.pairwise(cuts)]


def grows(medians: list[float]) -> bool:
    """Whether the last median is above the first by more than the tolerance."""
    size, fraction = TOLERANCE
    return medians[-1] - medians[0] > max(size, fraction * medians[0])


def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Say whether the memory of a command grows')
    parser.add_argument('--warm-up', type=float, default=0.2, metavar='PART',
        help='part of the time to leave out at the start (default: %(default)s)')  # fmt: skip
    parser.add_argument('--interval', type=float, default=0.25, metavar='SECONDS',
        help='time between samples, which take 5 to 10 ms (default: %(default)s)')  # fmt: skip
    parser.add_argument('command', nargs=argparse.REMAINDER, help='the command and its options')
    args = parser.parse_args(argv)
    if not args.command:
        parser.error('which command? For example: python train.py -e 200')
    if not Path('/proc/self/smaps_rollup').exists():
        parser.error('needs /proc/PID/smaps_rollup, which Linux has')
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the program; return its exit code."""
    args = get_args(argv)
    sizes, code = watch(args.command, args.interval)
    if len(sizes) * (1 - args.warm_up) < 30:
        print(f'error: too short, {len(sizes)} samples in all: give it more to do', file=sys.stderr)
        return code or 2
    medians = medians_of_thirds(sizes, args.warm_up)
    listed = ', '.join(f'{median / MIB:.1f}' for median in medians)
    change = (medians[-1] - medians[0]) / MIB
    verdict = 'it grows' if grows(medians) else 'no growth'
    print(f'{listed} MiB, peak {max(sizes) / MIB:.1f}: {change:+.1f} MiB, {verdict}')
    return code or int(grows(medians))


if __name__ == '__main__':
    sys.exit(main())
