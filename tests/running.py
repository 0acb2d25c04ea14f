"""Run train.py and read what it wrote."""

import csv
import json
from pathlib import Path

import torch
from devices import training_on_device

import train
from utils.inference.checkpoint import load_checkpoint

SMALL = ['--base-channels', '4', '-s', '1', '--wandb', 'disabled', *training_on_device()]


def run_train(*options, images='imgs', masks='masks'):
    return train.main(['--images', images, '--masks', masks, *SMALL, *options])


def weights(path):
    return load_checkpoint(path).weights


def same_weights(a, b):
    a, b = weights(a), weights(b)
    return all(torch.equal(a[k], b[k]) for k in a)


def rows(path='checkpoints/metrics.csv'):
    with Path(path).open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


# Columns of metrics.csv that two equal runs do not share: of the clock and of the machine's memory.
MEASURED = ('images_per_second', 'data_wait', 'seconds', 'peak_memory_mib')


def learned(run):
    """The rows of a run's metrics.csv without what was measured of the machine."""
    return [
        {name: value for name, value in row.items() if name not in MEASURED}
        for row in rows(Path(run, 'metrics.csv'))
    ]


def checked(capsys, *options):
    """What --check says of imgs and masks: its text and its report."""
    run_train('--check', '--json', 'report.json', *options)
    return capsys.readouterr().out, json.loads(Path('report.json').read_text())
