"""What is printed reaches the terminal whatever names files have, and stops no work."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from devices import on_device
from drawing import data_set
from networks import brightness_network, save

import predict
from utils.evaluation.summary import quoted
from utils.inference import pipeline
from utils.inference.outputs.formats import save_result
from utils.masks.rle import write_submission
from utils.runtime.console import Console, forgiving_console
from utils.runtime.errors import first_few
from utils.runtime.files import append_csv

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ('text', 'shown'),
    [
        ('a\x1b]0;title\x07.png', r'a\x1b]0;title\x07.png'),
        ('line\nnext\tcolumn\r', 'line\nnext\tcolumn\r'),
        ('\x1b[A\x1b[2Bbar', '\x1b[A\x1b[2Bbar'),  # of progress bars
        ('größe 汽车', 'größe 汽车'),
        ('\x9b31mred', r'\x9b31mred'),
    ],
)
def test_control_characters_are_escaped_and_others_kept(text, shown):
    stream = io.StringIO()
    assert Console(stream).write(text) == len(text)
    assert stream.getvalue() == shown


def test_a_line_break_in_a_name_is_shown_on_one_line():
    assert first_few(['a\nb.png', 'c\td.png']) == r'a\nb.png, c\td.png'


@pytest.mark.parametrize('encoding', ['ascii', 'cp1252'])
def test_any_name_can_be_printed(encoding, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(raw, encoding=encoding))
    with forgiving_console():
        print('汽车', os.fsdecode(b'\xff.png'))
    assert raw.getvalue().split() == [rb'\u6c7d\u8f66', rb'\udcff.png']


@pytest.mark.slow
def test_a_reader_that_goes_away_stops_no_work(folder):
    data_set(folder, 6)
    save('m.pth', brightness_network(), mask_values=[0, 255])
    predict = f'"{sys.executable}" "{ROOT}/predict.py" -m m.pth -i imgs -o out/ --device cpu'
    done = subprocess.run(
        f'{predict} | true', shell=True, capture_output=True, text=True, timeout=120, check=True
    )
    assert len(list((folder / 'out').iterdir())) == 6
    assert done.stderr == ''


def test_a_mask_that_cannot_be_written_is_reported_at_the_end(folder, capsys, monkeypatch):
    data_set(folder, 3)
    save('m.pth', brightness_network(), mask_values=[0, 255])

    def full_disk(result, path):
        if 'disc01' in path.name:
            raise OSError(errno.ENOSPC, 'No space left on device', str(path))
        save_result(result, path)

    monkeypatch.setattr(pipeline, 'save_result', full_disk)
    assert predict.main('-m m.pth -i imgs -o out/'.split() + on_device()) == 1
    assert {path.name for path in (folder / 'out').iterdir()} == {'disc00.png', 'disc02.png'}
    error = capsys.readouterr().err
    assert '1 of 3 images could not be read or written:\nout/disc01.png cannot be written' in error
    assert 'No space left' in error


def test_names_that_are_no_text_keep_their_bytes_in_tables(folder):
    name = os.fsdecode(b'\xff.png')
    append_csv(folder / 'a.csv', [{'image': name, 'dice': 1.0}])
    write_submission([(name, '1 2')], folder / 's.csv')
    assert (folder / 'a.csv').read_bytes() == b'image,dice\r\n\xff.png,1.0\r\n'
    assert (folder / 's.csv').read_bytes() == b'img,rle_mask\n\xff.png,1 2\n'


@pytest.mark.parametrize(
    ('name', 'cell'), [('=1+1', "'=1+1"), ('-a', "'-a"), ('a-b', 'a-b'), ('5', '5')]
)
def test_a_name_like_a_formula_is_quoted_for_spreadsheets(name, cell):
    assert quoted(name) == cell
