"""Train recipes on data sets with several seeds, score pictures never trained on, make a table.

    python scripts/benchmark_learning.py --set cells --count 4 --epochs 2 --seeds 0    # a minute
    python scripts/benchmark_learning.py --set cars cells classes --recipe fast classic
    python scripts/benchmark_learning.py --images imgs --masks masks --count 24 --objects \\
        --epochs 12 -- --base-channels 16 --scale 0.5

Demo sets are rendered, with others to score. Of a user's folders, the first --count
pictures in the order of their names (2 before 10) are trained on, and the others scored. Every run
is train.py and evaluate.py, with the commands in its .log. It adds a row to runs.csv as it ends,
and table.md is written anew. A row that is there for the same settings and commit is not run again;
a run that was cut off is. Options after -- go to train.py.
"""

import argparse
import csv
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from learning.sets import SETS, Data, call, digest, options_of, render, split
from learning.table import table

import train
from utils.runtime.cli import add_debug_option, number_in, run_program
from utils.runtime.files import append_csv, whole_file
from utils.runtime.locks import FolderLock, check_unlocked

ROOT = Path(__file__).resolve().parents[1]
OURS = ('--images', '--masks', '--list', '--recipe', '--seed', '--output', '--resume', '--check')
# What decides a run, from the data to its scores: a new commit of these makes new rows.
PROGRAMS = ('train.py', 'evaluate.py', 'unet', 'utils', 'scripts/make_demo_data.py', 'scripts/demo')
KEY = ('commit', 'set', 'recipe', 'options', 'machine', 'seed')


# fmt: off
def get_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; `options` of the result are those after --, for train.py."""
    argv = sys.argv[1:] if argv is None else argv
    end = argv.index('--') if '--' in argv else len(argv)
    parser = argparse.ArgumentParser(
        description='Train recipes on data sets, and tabulate scores of other pictures',
        usage='%(prog)s [options] [-- options of train.py]')
    add = parser.add_argument
    add('--set', nargs='+', choices=SETS, default=[], metavar='NAME',
        help=f'rendered sets, of {", ".join(SETS)} (default: cars, without --images)')
    add('--images', type=Path, metavar='DIR', help='folder of your own pictures')
    add('--masks', type=Path, metavar='DIR', help='folder of their masks')
    add('--count', type=number_in(int, 1), metavar='N',
        help='pictures to train on, validation included (default: those of the rendered set)')
    add('--size', metavar='WxH', help="of rendered pictures (default: the set's)")
    add('--objects', action='store_true',
        help='score objects of your own pictures, too, as --set cells does')
    add('--recipe', nargs='+', default=['fast'], metavar='NAME', help='of train.py (default: fast)')
    add('--seeds', type=number_in(int, 0), nargs='+', default=[0, 1, 2], metavar='N',
        help='default: 0 1 2')
    add('--epochs', type=number_in(int, 1), metavar='E', help="default: the set's, or train.py's")
    add('--output', type=Path, default=Path('checkpoints/learning'), metavar='DIR',
        help='where rendered sets, runs, runs.csv and table.md are (default: %(default)s)')
    add_debug_option(parser)
    args = parser.parse_args(argv[:end])
    args.options = argv[end + 1 :]
    given = [option.split('=')[0] for option in args.options if option.startswith('--')]
    for option in given:
        if any(name.startswith(option) for name in OURS):
            parser.error(f'{option} is set for each run; leave it out after --')
    if bool(args.images) != bool(args.masks) or (args.images and not args.count):
        parser.error('your own pictures need --images DIR, --masks DIR, and --count N')
    if args.images and (args.set or args.size):
        parser.error('--set and --size are of rendered pictures; leave them out with --images')
    args.set = args.set or ([] if args.images else ['cars'])
    for name, recipe in product(args.set or [None], args.recipe):  # its errors come before any work
        train.get_args(['--recipe', recipe, *shlex.split(options_of(name, args))])
    return args
# fmt: on


def commit() -> str:
    """Return the last commit of PROGRAMS, with a digest of changes that are not committed."""
    outputs = [
        subprocess.run(['git', *words, '--', *PROGRAMS], cwd=ROOT, capture_output=True).stdout
        for words in (['log', '-1', '--format=%h'], ['diff', 'HEAD'])
    ]
    name = outputs[0].decode().strip() or 'no git'
    return f'{name}+{digest(outputs[1])}' if outputs[1] else name


def machine() -> str:
    """Return the processor and the number of threads."""
    name, facts = platform.processor() or platform.machine(), Path('/proc/cpuinfo')
    if facts.exists() and (found := re.search(r'model name\s*: (.*)', facts.read_text('utf-8'))):
        name = found[1]
    return f'{name}, threads: {os.environ.get("OMP_NUM_THREADS") or os.cpu_count()}'


def train_and_score(key: dict, data: Data, run: Path) -> dict:
    """Train and score one run in its folder; return its row."""
    check_unlocked(run)
    shutil.rmtree(run, ignore_errors=True)  # what a run left that was cut off
    log = run.with_suffix('.log')
    log.unlink(missing_ok=True)
    begun, before = time.perf_counter(), os.times()
    call('train.py', *train_options(key, data), '--output', run, '--keep', 1, log=log)
    seconds, after = time.perf_counter() - begun, os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])  # of children; Windows does not count it
    best = run / 'best.pth'
    model = best if best.exists() else run / 'last.pth'  # the latter without a validation set
    options, threshold = ['--model', model], None
    if data.objects:
        options += ['--instances', '--threshold-sweep']
        call('evaluate.py', *data.train, *options, '--json', run / 'training.json', log=log)
        threshold = json.loads((run / 'training.json').read_text())['best_threshold_rand']
    call('evaluate.py', *data.test, *options, '--json', run / 'scores.json', log=log)
    row = key | figures(json.loads((run / 'scores.json').read_text()), threshold)
    row |= {'seconds': round(seconds, 1), 'cpu_seconds': round(cpu, 1) or None}
    last = read_rows(run / 'metrics.csv')[-1]
    trained = re.search(r'^(\d+) images to train on', log.read_text(), re.MULTILINE)
    row |= {'steps': last['step'], 'images': trained and int(trained[1]) * int(last['epoch'])}
    for path in set(run.glob('*.pth')) - {model}:  # gigabytes, over many runs
        path.unlink()
    return row | {'torch': json.loads((run / 'args.json').read_text())['torch']}


def train_options(key: dict, data: Data) -> list[str]:
    """Return the options of train.py for a run, but its folder."""
    chosen = ['--recipe', key['recipe'], '--seed', str(key['seed'])]
    return [*data.train, *chosen, *shlex.split(key['options'])]


def figures(scores: dict, threshold: float | None) -> dict:
    """Return the Dice of a run's pictures and, at the threshold, their adapted Rand F, thinned."""
    dice = [row['dice_dataset'] for row in scores['classes'] if row['share']]
    sweep = {row['threshold']: row for row in scores.get('threshold_sweep', [])}
    rand = sweep.get(threshold, {}).get('rand_thinned_per_image')
    found = {'dice': scores['dice_dataset'], 'lowest': min(dice)}
    found |= {'classes': ' '.join(f'{value:.3f}' for value in dice)}
    return found | {'rand': rand, 'threshold': threshold}


def read_rows(path: Path) -> list[dict]:
    """Return the rows of runs.csv, none if there is none."""
    if not path.exists():
        return []
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def write_table(path: Path) -> None:
    """Write table.md beside runs.csv."""
    with whole_file(path.with_name('table.md')) as part:
        part.write_text(table(read_rows(path)), encoding='utf-8')


def benchmark(args: argparse.Namespace) -> None:
    """Run what has no row yet, and write a row and the table after each run."""
    path, version, where = args.output / 'runs.csv', commit(), machine()
    sets = [render(name, args) for name in args.set] or [split(args)]
    done, runs = {tuple(row[name] for name in KEY) for row in read_rows(path)}, []
    for seed, data, recipe in product(args.seeds, sets, args.recipe):
        values = (version, data.name, recipe, data.options, where, str(seed))
        if values not in done:
            runs.append((dict(zip(KEY, values, strict=True)), data))
    checked = {(key['set'], key['recipe']): (key, data) for key, data in runs}
    for key, data in checked.values():
        call('train.py', *train_options(key, data), '--check', log=args.output / 'check.log')
    write_table(path)
    for number, (key, data) in enumerate(runs, 1):
        (args.output / 'runs').mkdir(exist_ok=True)
        row = train_and_score(key, data, args.output / 'runs' / digest(key))
        append_csv(path, [row])
        write_table(path)
        what = f'{data.name}, {key["recipe"]}, seed {key["seed"]}'
        print(f'{number} of {len(runs)}: {what}: Dice {row["dice"]:.4f}', flush=True)
    print(f'{args.output / "table.md"}: {len(runs)} runs were missing')


def locked(args: argparse.Namespace) -> None:
    """Run the benchmark, alone in its folder."""
    args.output.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(args.output)
    try:
        benchmark(args)
    finally:
        lock.release()


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    return run_program(locked, get_args(argv))


if __name__ == '__main__':
    sys.exit(main())
