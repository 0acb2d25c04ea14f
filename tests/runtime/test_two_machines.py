"""Two machines, as network namespaces joined by a cable: they train as one, and end as one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import count

import pytest
from conftest import ROOT
from drawing import data_set
from running import SMALL, same_weights

from utils.inference.checkpoint import load_checkpoint

OPTIONS = ['--images', 'imgs', '--masks', 'masks', *SMALL, '-b', '1', '--augment', 'none']
NUMBERS = count()
pytestmark = pytest.mark.slow


def ip(*words, check=True):
    return subprocess.run(['ip', *words], check=check, capture_output=True, text=True)


@pytest.fixture
def machines():
    """Return the names of two namespaces; the end of the cable in each has its name, too."""
    if shutil.which('ip') is None or ip('netns', 'add', f'probe{os.getpid()}', check=False).stderr:
        pytest.skip('needs root on Linux, and ip, for network namespaces')
    ip('netns', 'delete', f'probe{os.getpid()}')
    number = next(NUMBERS)
    names = [f'unet{os.getpid()}{end}{number}' for end in 'ab']
    for name in names:
        ip('netns', 'add', name)
    try:
        ip('link', 'add', names[0], 'netns', names[0], 'type', 'veth',
           'peer', 'name', names[1], 'netns', names[1])  # fmt: skip
        for k, name in enumerate(names):
            ip('-n', name, 'address', 'add', f'10.83.0.{k + 1}/24', 'dev', name)
            ip('-n', name, 'link', 'set', name, 'up')
            ip('-n', name, 'link', 'set', 'lo', 'up')
        yield names
    finally:
        for name in names:
            power_off(name)
            ip('netns', 'delete', name)


def power_off(machine):
    for pid in ip('netns', 'pids', machine).stdout.split():
        os.kill(int(pid), signal.SIGKILL)


def unplug(machine):
    ip('-n', machine, 'link', 'set', machine, 'down')


def start(folder, options, machine=None, number=0):
    """Start torchrun: two processes here, or one on each machine."""
    place = ['--standalone', '--nproc-per-node=2']
    if machine:
        place = ['--nnodes=2', f'--node-rank={number}', '--nproc-per-node=1',
                 '--master-addr=10.83.0.1', '--master-port=29583']  # fmt: skip
    # Threads decide how sums are rounded.
    environment = os.environ | {'OMP_NUM_THREADS': '2'}
    if machine:  # by default gloo takes the address of the host's name
        environment['GLOO_SOCKET_IFNAME'] = machine
    within = ['ip', 'netns', 'exec', machine] if machine else []
    return subprocess.Popen(
        [*within, sys.executable, '-m', 'torch.distributed.run', *place, str(ROOT / 'train.py'),
         *OPTIONS, *options], cwd=folder, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_two_machines_train_the_weights_of_two_processes_of_one(folder, machines):
    data_set(folder, 8)  # 7 to train on: an uneven end
    here = start(folder, ['-e', '2', '--output', 'one'])
    assert here.wait(timeout=240) == 0, here.communicate()
    runs = [
        start(folder, ['-e', '2', '--output', 'two'], name, k) for k, name in enumerate(machines)
    ]
    for run in runs:
        assert run.wait(timeout=240) == 0, run.communicate()
    assert same_weights('one/last.pth', 'two/last.pth')
    assert 'batch size 1 x 2 processes' in runs[0].communicate()[0]


@pytest.mark.parametrize(
    ('end', 'lost'), [(power_off, 1), (power_off, 0), (unplug, 1)], ids=['second', 'first', 'cable']
)
def test_when_a_machine_is_lost_the_other_ends_with_a_message_within_a_minute(
    folder, machines, end, lost
):
    data_set(folder, 8)
    options = ['-e', '5000', '--save-minutes', '0']
    runs = [start(folder, options, name, k) for k, name in enumerate(machines)]
    deadline = time.monotonic() + 240
    while not (folder / 'checkpoints/checkpoint_epoch3.pth').exists():
        assert time.monotonic() < deadline
        assert [run.poll() for run in runs] == [None, None], runs[0].communicate()
        time.sleep(0.1)
    end(machines[lost])
    started = time.monotonic()
    _, errors = runs[1 - lost].communicate(timeout=120)
    assert time.monotonic() - started < 60
    assert runs[1 - lost].returncode != 0
    assert 'error: another of the 2 processes has ended or does not answer' in errors
    load_checkpoint('checkpoints/last.pth')
