"""Progress is a bar in a terminal, and lines, few of them, in a log file."""

import contextlib
import os
import re
import struct
import threading

import pytest
from conftest import ROOT
from devices import on_device
from drawing import data_set
from networks import brightness_network, save
from running import run_train

import evaluate
import predict
from utils.data_loading import BasicDataset
from utils.runtime import console
from utils.runtime.console import progress, progress_bar

fcntl = pytest.importorskip('fcntl')  # not on Windows
termios = pytest.importorskip('termios')


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved: clock[0] is the time in seconds."""
    now = [1000.0]
    monkeypatch.setattr(console.time, 'monotonic', lambda: now[0])
    return now


@pytest.fixture
def every_line(monkeypatch):
    """Progress is due at once: as if each display were there for a minute."""
    monkeypatch.setattr(console, 'FIRST_LINE', 0.0)
    monkeypatch.setattr(console, 'NEXT_LINES', 0.0)


def test_lines_come_after_5_seconds_then_every_30_and_at_the_end(clock, capsys):
    for _ in progress(range(80), 'Reading', unit='img'):
        clock[0] += 1
    assert capsys.readouterr().err.splitlines() == [
        'Reading: 5/80 img [00:05<01:15,  1.00img/s]',
        'Reading: 35/80 img [00:35<00:45,  1.00img/s]',
        'Reading: 65/80 img [01:05<00:15,  1.00img/s]',
        'Reading: 80/80 img [01:20<00:00,  1.00img/s]',
    ]


def test_short_work_leaves_a_line_only_where_a_bar_would_stay(clock, capsys):
    for leave in (False, True):
        with progress_bar('Epoch 2/3', 8, 'img', leave=leave, initial=2) as bar:
            clock[0] += 2
            bar.update(6)
            bar.set_postfix_str('loss 0.5')
    assert capsys.readouterr().err == 'Epoch 2/3: 8/8 img [00:02<00:00,  3.00img/s, loss 0.5]\n'


def test_the_last_state_of_work_that_fails_is_printed(clock, capsys):
    with pytest.raises(ZeroDivisionError), progress_bar('Dividing', None) as bar:
        for k in (1, 1, 0):
            clock[0] += 20
            bar.update(1 // k)
    assert capsys.readouterr().err.splitlines() == [
        'Dividing: 1 it [00:20, 20.00s/it]',
        'Dividing: 2 it [01:00, 30.00s/it]',
    ]


@pytest.mark.slow
@pytest.mark.usefixtures('every_line')
def test_no_program_moves_the_cursor_in_a_log_file(folder, capsys):
    data_set(folder, 6)
    save('m.pth', brightness_network(), mask_values=[0, 255])
    assert run_train('-e', '1', '--output', 'run') == 0
    assert predict.main('-m m.pth -i imgs -o out/'.split() + on_device()) == 0
    assert evaluate.main('-m m.pth --images imgs --masks masks'.split() + on_device()) == 0
    BasicDataset('imgs', 'masks')
    output, error = capsys.readouterr()
    assert '\r' not in output + error
    last = {line.partition(' [')[0] for line in error.splitlines()}
    assert last >= {
        'Reading the data: 6/6 it', 'Epoch 1/1: 5/5 img', 'Evaluation: 1/1 batch',
        'Predicting: 6/6 img', 'Evaluation: 6/6 batch', 'Reading the masks: 6/6 it',
    }  # fmt: skip


def test_an_epoch_leaves_one_line(folder, capsys):
    data_set(folder, 6)
    assert run_train('-e', '2') == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(' [')[0] for line in lines] == [
        'Epoch 1/2: 5/5 img', 'Epoch 2/2: 5/5 img',
    ]  # fmt: skip
    assert all(', loss ' in line and ', data wait ' in line for line in lines)


@contextlib.contextmanager
def terminal():
    """Make standard error a terminal of 80 columns; yield the list of what it shows, at the end."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    blocks, states = [], []

    def read():
        with contextlib.suppress(OSError):  # at the end
            while block := os.read(ours, 2**16):
                blocks.append(block)

    reader = threading.Thread(target=read, daemon=True)  # what is not read blocks the writer
    reader.start()
    with os.fdopen(theirs, 'w') as stream, contextlib.redirect_stderr(stream):
        yield states
    reader.join(10)
    os.close(ours)
    shown = b''.join(blocks).decode().replace('\x1b[A', '')  # the cursor, one line up
    states += re.split(r'[\r\n]+', shown)


def test_a_terminal_gets_a_bar_that_fits(folder):
    data_set(folder, 6)
    with terminal() as states:
        assert run_train('-e', '1') == 0
        with progress_bar('Epoch 100/200', 100000, 'img', leave=True) as bar:
            bar.set_postfix_str('loss 0.500, data wait 100%')
            bar.update(12345)
    assert any(state.startswith('Epoch 1/1: 100%|') and '| 5/5 [' in state for state in states)
    assert any(state.startswith('Epoch 100/200:  12%|') for state in states)
    assert 70 < max(map(len, states)) <= 80


def test_every_progress_display_is_of_the_console_module():
    sources = [*ROOT.glob('*.py'), *ROOT.glob('scripts/*.py'), *ROOT.glob('utils/**/*.py')]
    bars = [
        path.name for path in sources if re.search(r'\b(tqdm|trange)\(', path.read_text('utf-8'))
    ]
    assert bars == ['console.py']
