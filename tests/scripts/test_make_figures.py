"""scripts/make_figures.py makes every picture of the documents, or names who does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from networks import brightness_network, save
from PIL import Image

from scripts import make_figures
from utils.masks.visualize import colour_mask
from utils.runtime.errors import UserError

DOCS = ROOT / 'docs'
PICTURES = {path.name for path in DOCS.iterdir() if path.suffix in ('.png', '.jpg', '.svg', '.gif')}


def test_every_picture_of_the_documents_is_listed_and_used():
    assert not PICTURES - {*make_figures.FIGURES, *make_figures.ELSEWHERE}
    assert not set(make_figures.FIGURES) - PICTURES
    assert set(make_figures.ONLY_NAMED) < set(make_figures.FIGURES)
    text = ''.join(path.read_text('utf-8') for path in [ROOT / 'README.md', *DOCS.glob('*.md')])
    assert not [name for name in PICTURES if name not in text]


@pytest.mark.parametrize(
    ('document', 'name', 'classes'),
    [('README.md', 'unseen_cars.jpg', 'two'), ('docs/data.md', 'four_classes.jpg', 'four')],
)
def test_captions_tell_the_epochs_of_the_networks(document, name, classes):
    text = ' '.join((ROOT / document).read_text('utf-8').split())
    caption = text.partition(f'{name})')[2].partition('* ')[0]
    epochs, _ = make_figures.NETWORKS[classes]
    words = {1: 'one epoch', 2: 'two epochs', 3: 'three epochs', 4: 'four epochs'}
    assert f'after {words[epochs]} of 80 images' in caption


@pytest.mark.parametrize(
    ('figure', 'classes', 'rows'), [('unseen_cars', 2, 3), ('four_classes', 4, 2)]
)
def test_sheets_of_unseen_cars_end_with_a_whole_row(tmp_path, monkeypatch, figure, classes, rows):
    monkeypatch.syspath_prepend(ROOT / 'scripts')
    monkeypatch.setattr(make_figures, 'SIZE', '96x64')
    save(tmp_path / 'a.pth', brightness_network(classes), mask_values=list(range(classes)))
    monkeypatch.setattr(make_figures, 'trained', lambda *_: tmp_path / 'a.pth')
    picture = getattr(make_figures, figure)(tmp_path)
    row = 213 + 8  # 320 pixels wide, with its margins
    assert picture.size == (3 * 328 + 8, rows * row + 8)
    truth = np.asarray(picture)[8 : 8 + 213, 8 + 328 : 2 * 328]
    for colour in colour_mask(np.arange(classes)[None])[0]:
        assert (truth == colour).all(axis=2).sum() > 20


def test_a_picture_that_cannot_be_made_stays_and_others_are_made(tmp_path, monkeypatch, capsys):
    def fail(work):
        raise UserError('no browser')

    figures = {'a.png': fail, 'b.jpg': lambda work: Image.new('RGB', (9, 8)), 'c.png': fail}
    monkeypatch.setattr(make_figures, 'FIGURES', figures)
    monkeypatch.setattr(make_figures, 'ONLY_NAMED', ('c.png',))
    monkeypatch.setattr(make_figures, 'ELSEWHERE', {'d.png': 'by hand'})
    (tmp_path / 'a.png').write_text('as before')
    assert make_figures.main(['--output', str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert err == 'error: a.png is as before: no browser\n'
    assert 'b.jpg: 9 x 8, 0 kB\n' in out
    assert 'd.png is not made here: by hand\n' in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.png', 'b.jpg']
    assert (tmp_path / 'a.png').read_text() == 'as before'
    assert make_figures.main(['--output', str(tmp_path), '--only', 'b.jpg']) == 0


def test_an_output_folder_that_is_missing_is_refused_at_once(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        make_figures.main(['--output', str(tmp_path / 'none')])
    assert ended.value.code == 2
    assert 'expected an existing folder' in capsys.readouterr().err


TINY = f"""
import sys
sys.path[:0] = [{str(ROOT / 'scripts')!r}, {str(ROOT)!r}]
from scripts import make_figures as figures
figures.SIZE, figures.CARS = '96x64', ['--count', '32', '--classes', '4']
figures.TRAINING = '--scale 1 --wandb disabled'.split()
figures.NETWORKS = {{'two': (1, 4), 'four': (1, 4)}}
figures.CELLS = '--epochs 1 --train 1 --test 1 --size 64x64'.split()
figures.CELL_TRAINING = '--base-channels 4'
sys.exit(figures.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(make_figures.FIGURES))
def test_each_figure_is_made_by_the_programs(tmp_path, name):
    if name == 'data_page.png' and not any(map(shutil.which, make_figures.BROWSERS)):
        pytest.skip('needs Chromium')
    command = [sys.executable, '-c', TINY, '--only', name, '--output', str(tmp_path)]
    environment = os.environ | {'HOME': str(tmp_path)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]
    picture = Image.open(Path(tmp_path, name))
    assert picture.width >= 4 * 64
    assert len(picture.convert('L').getcolors()) > 20
