"""The programs on a device: scores and masks of the CPU, little memory, --deterministic, ranks."""

import contextlib
import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import ROOT
from device_steps import FULL, ON_CARD, TINY, Trainer, batch, card_only, carvana_like
from devices import DEVICE, on_device
from PIL import Image
from running import same_weights

import evaluate
import predict
import train
from utils.runtime import distributed
from utils.training import step as step_module
from utils.training.optimization.parallel import Replica

AMP = ['--amp'] if ON_CARD else []  # half precision is slow on most CPUs
WORKERS = ['--workers', '2' if ON_CARD else '0']


def run(program, *words):
    """Run a program in this process, which saves its start; return what it printed."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        code = program.main([str(word) for word in words])
    assert code == 0, text.getvalue()[-900:]
    return text.getvalue()


def started(*words, environment=None):
    """Run Python with arguments in a process of its own; return its exit code and output."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=150,
        env=environment,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Return a data set, the options that name it, and a network trained on the device."""
    folder = tmp_path_factory.mktemp('trained')
    data = carvana_like(folder, 6 if TINY else 32, FULL, 32)
    options = ['--base-channels', '4' if TINY else '32', '-s', '0.5' if TINY else '0.25', *AMP]
    options += ['--wandb', 'disabled', '--output', folder / 'run', '-b', '2', *WORKERS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(folder / 'user-cache'))
        text = run(train, *data, *options, *on_device(), '-e', '1')
        assert f'Using device {DEVICE}' in text
        run(train, '--resume', folder / 'run/last.pth', '-e', '2' if TINY else '4')
    return folder, data, folder / 'run/best.pth'


@pytest.mark.slow
@pytest.mark.least(60)
def test_scores_agree_with_those_of_the_cpu(record_property, trained, tmp_path):
    """Measured on an H100: within 1e-5."""
    _, data, model = trained
    scores = []
    for device in (DEVICE, 'cpu'):
        report, page = tmp_path / f'{device}.json', tmp_path / f'page-{device}'
        run(evaluate, '-m', model, *data, '--device', device, '--threshold-sweep', *WORKERS,
            '--json', report, '--report', page)  # fmt: skip
        found = json.loads(report.read_text())
        names = ('dice_dataset', 'dice_per_image', 'boundary_f_per_image')
        scores.append([found[name] for name in names])
    off = max(abs(a - b) for a, b in zip(*scores, strict=True))
    record_property('found', f'Dice {scores[0][0]:.4f}, within {off:.1e}')
    assert off < 2e-3


@pytest.mark.slow
@pytest.mark.least(40)
def test_masks_of_predict_py_agree_with_those_of_the_cpu(record_property, trained, tmp_path):
    """Measured on an H100: in 99.9999 % of the pixels, with --amp in 99.997 %."""
    folder, _, model = trained
    base = ['-m', model, '-i', folder / 'imgs']
    for extra in (['--tta', 'flip', '--batch-size', '4'], ['--tile', '128']):
        run(predict, *base, '-o', f'{tmp_path}/other/', '--overwrite', *on_device(), *extra)
    run(predict, *base, '--rle', tmp_path / 's.csv', *AMP, *on_device())
    run(predict, *base, '-o', f'{tmp_path}/cpu/', '--device', 'cpu')
    agree = {}
    for name, extra in {'fp32': [], '--amp': AMP}.items():
        run(predict, *base, '-o', f'{tmp_path}/{name}/', *on_device(), *extra)
        pairs = ((path, tmp_path / 'cpu' / path.name) for path in (tmp_path / name).iterdir())
        same = [(np.asarray(Image.open(a)) == np.asarray(Image.open(b))).mean() for a, b in pairs]
        agree[name] = float(np.mean(same))
    told = ', '.join(f'{name} {100 * part:.4f} %' for name, part in agree.items())
    record_property('found', f'of the pixels: {told}')
    assert min(agree.values()) > 0.998


@pytest.mark.slow
@pytest.mark.least(60)
@pytest.mark.parametrize(
    'options',
    [
        [], ['--bilinear'], ['-c', '1'], ['--loss-weights', 'auto'],
        ['--recipe', 'paper', '--tile', '36'], ['--recipe', 'classic'],
    ],
    ids=' '.join,
)  # fmt: skip
def test_deterministic_runs_give_the_same_weights(tmp_path, options):
    data = carvana_like(tmp_path, 6, (96, 64), 6)
    settings = ['--wandb', 'disabled', '--base-channels', '4', '-s', '1', '-e', '1', *AMP]
    for name in ('a', 'b'):
        run(train, *data, *settings, *on_device(), '--deterministic', '--workers', 0, '--output',
            tmp_path / name, *options)  # fmt: skip
    assert same_weights(tmp_path / 'a/last.pth', tmp_path / 'b/last.pth')


LIMITED = """
import sys, torch, {program}
total = torch.cuda.get_device_properties(0).total_memory
torch.cuda.set_per_process_memory_fraction({gib} * 2**30 / total)
sys.exit({program}.main(sys.argv[1:]))
"""


@card_only
@pytest.mark.least(60)
def test_programs_go_on_where_memory_runs_out(record_property, tmp_path):
    data = carvana_like(tmp_path, 12, (959, 640), 4)
    settings = ['--wandb', 'disabled', '-e', 1, '-b', 4, '-s', 1, '--amp', '--workers', 2]
    code, text = started('-c', LIMITED.format(gib=5, program='train'), *data, *settings,
                         '--output', tmp_path / 'run')  # fmt: skip
    assert code == 0, text[-900:]
    assert 'activation checkpointing is on from here' in text
    code, text = started('-c', LIMITED.format(gib=1, program='predict'), '-m',
                         tmp_path / 'run/last.pth', '-i', tmp_path / 'imgs', '-o',
                         f'{tmp_path}/masks/')  # fmt: skip
    assert code == 0, text[-900:]
    how = 'by tiles' if 'tiles' in text else 'whole images'
    record_property('found', f'training in 5 GiB by checkpointing, prediction in 1 GiB: {how}')


@pytest.fixture
def one_rank(monkeypatch):
    """Join a process group of one rank that believes it is one of two, so that it communicates."""
    dist.init_process_group(
        'cpu:gloo,cuda:nccl' if ON_CARD else 'gloo',
        store=dist.HashStore(), rank=0, world_size=1, timeout=distributed.TIMEOUT,
    )  # fmt: skip
    for module in (distributed, step_module):
        monkeypatch.setattr(module, 'world_size', lambda: 2)
    yield
    monkeypatch.undo()
    dist.destroy_process_group()


@pytest.mark.slow  # 10 s, most of them the import of torch._dynamo by DistributedDataParallel
def test_a_group_of_one_rank_computes_what_a_process_alone_does(request):
    alone = Trainer('fast', 'fp32', channels=4)
    expected = alone.step(*batch(2, 64, 64))
    request.getfixturevalue('one_rank')
    assert distributed.all_reduce_max(3, 5) == [3, 5]
    assert distributed.broadcast_object({'a': 1}) == {'a': 1}
    together = Trainer('fast', 'fp32', channels=4, compiled=Replica)
    found = together.step(*batch(2, 64, 64))
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    for a, b in zip(alone.model.parameters(), together.model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)
    counts = torch.ones(3, dtype=torch.int64)
    distributed.all_reduce_sum([counts])
    assert counts.tolist() == [1, 1, 1]


@card_only
@pytest.mark.least(60)
def test_more_ranks_than_cards_are_one_message(trained):
    folder, _, model = trained
    count = torch.cuda.device_count() + 1
    code, text = started('-m', 'torch.distributed.run', f'--nproc-per-node={count}', 'predict.py',
                         '-m', model, '-i', folder / 'imgs', '--no-save')  # fmt: skip
    assert code != 0
    assert f'{count} processes on a machine with {count - 1} CUDA card' in text
