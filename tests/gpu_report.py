"""A pytest plugin: writes what the checks of a card found as a section of dev/GPU.md.

Files in the folder of --report are written anew after each test, so that those of a run that is
ended from outside hold all that was done: gpu.md, and results.json with each test's seconds.

A test tells what it found by pytest's record_property('found', text), and a table of timings by
record_property('table', text). The mark `least(SECONDS)` names what must be left for it to begin.
"""

import functools
import json
import os
import platform
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
LEAST = 5.0  # seconds


def output_of(*command):
    """Return the first line that a program prints, '' where it is missing or fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ''
    return done.stdout.partition('\n')[0].strip() if done.returncode == 0 else ''


@functools.cache
def heading(device):
    """Return the first lines of the section: date, card, driver, torch, commit."""
    card = f'{platform.processor() or platform.machine()}, no card'
    if device == 'cuda' and torch.cuda.is_available():
        driver = output_of('nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader')
        card = f'{torch.cuda.get_device_name()}, driver {driver or "unknown"}'
    git = output_of('git', 'rev-parse', '--short', 'HEAD')
    commit = os.environ.get('COMMIT') or git or 'unknown'
    changed = ' with changes' if output_of('git', 'status', '--porcelain') else ''
    day = datetime.now(timezone.utc).strftime('%Y-%m-%d')
    return (
        f'## {day} {card}, torch {torch.__version__}, {os.cpu_count()} cores\n\n'
        f'Commit {commit}{changed}, `scripts/check_gpu.sh`.\n'
    )


def told(result):
    """Return what a test found, failures and reasons for skipping with a word before them."""
    text = {'failed': '**failed**: ', 'skipped': 'skipped: '}.get(result['status'], '')
    return text + (result['text'] or 'as expected')


def row(name, results):
    """Return a check's row of the first table; its cases that found the same share a text."""
    cases = {}
    for result in results:
        case = result['case'].replace("'", '').replace('-{}', '')
        cases.setdefault(told(result), []).append(case.translate(str.maketrans('', '', '{}')))
    if len(cases) == 1:
        texts = list(cases)
    else:
        texts = [f'{", ".join(names)}: {text}' for text, names in cases.items()]
    found = ' '.join('; '.join(texts).split()).replace('|', '/')
    return f'| {name} | {found} |'


def section(device, results):
    """Return the section of dev/GPU.md."""
    checks = {}
    for result in results:
        if not result['tables'] or result['status'] == 'failed':
            checks.setdefault(result['check'], []).append(result)
    rows = ['| check | found |', '| --- | --- |', *(row(*check) for check in checks.items())]
    tables = [table for result in results for table in result['tables']]
    return '\n'.join([heading(device), *rows, *(f'\n{table}' for table in tables)]) + '\n'


def reason(report):
    """Return why a test failed or was skipped, in one line."""
    if report.skipped:
        return str(report.longrepr[2]).removeprefix('Skipped: ')
    crash = getattr(report.longrepr, 'reprcrash', None)
    return (crash.message if crash else str(report.longrepr)).strip().partition('\n')[0][:300]


class GpuReport:
    """Collects results, and lets no test begin for which too little time is left."""

    def __init__(self, folder, device, seconds):
        self.folder, self.device, self.seconds = Path(folder), device, seconds
        self.folder.mkdir(parents=True, exist_ok=True)
        self.started, self.results = time.monotonic(), []

    def pytest_runtest_setup(self, item):
        mark = item.get_closest_marker('least')
        left = self.seconds - (time.monotonic() - self.started)
        if left < (mark.args[0] if mark else LEAST):
            pytest.skip(f'{max(0, left):.0f} s left of {self.seconds:g}')

    def pytest_runtest_logreport(self, report):
        if report.when != 'call' and report.passed:
            return
        name, _, case = report.nodeid.rpartition('::')[2].partition('[')
        found = [value for key, value in report.user_properties if key == 'found']
        self.results.append({
            'check': name.removeprefix('test_').replace('_', ' '),
            'case': case.removesuffix(']'),
            'status': report.outcome,
            'text': '; '.join(found) if report.passed else reason(report),
            'tables': [value for key, value in report.user_properties if key == 'table'],
            'seconds': round(report.duration, 1),
        })  # fmt: skip
        self.write()

    def pytest_collectreport(self, report):
        if report.failed:
            text = str(report.longrepr).strip().rpartition('\n')[2]
            failure = {'check': report.nodeid, 'case': '', 'status': 'failed', 'text': text}
            self.results.append(failure | {'tables': [], 'seconds': 0.0})

    def pytest_sessionfinish(self):
        self.write()

    def write(self):
        """Write both files, each in one move."""
        files = {
            'results.json': json.dumps(self.results, indent=1),
            'gpu.md': section(self.device, self.results),
        }
        for name, text in files.items():
            part = self.folder / f'.{name}'
            part.write_text(text, encoding='utf-8')
            part.replace(self.folder / name)
