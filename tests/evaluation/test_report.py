"""The page of evaluate.py --report: well-formed HTML that loads nothing."""

import base64
import io
import json
import os
import re

import numpy as np
import pytest
from drawing import data_set
from pages import Checked, check_self_contained
from PIL import Image
from test_scoring import DATA, network

import evaluate
from utils.evaluation.report import histogram, score_table
from utils.masks.encoding import IGNORE
from utils.masks.visualize import ERROR_COLOURS, error_map


@pytest.fixture(scope='module')
def folder_of_page(tmp_path_factory):
    """A folder with the page of four discs, one named with HTML's special characters."""
    folder = tmp_path_factory.mktemp('page')
    before = os.getcwd()  # noqa: PTH109
    os.chdir(folder)
    data_set(folder, 4, size=(64, 48), names=['a', 'b', '<b>&"c', 'd'])
    network()
    options = ['--report', 'r', '--threshold-sweep', '--worst', '2', '--json', 's.json']
    assert evaluate.main([*DATA, '-s', '0.5', *options]) == 0
    os.chdir(before)
    assert [path.name for path in (folder / 'r').iterdir()] == ['index.html']
    return folder


@pytest.fixture
def page(folder_of_page):
    return (folder_of_page / 'r/index.html').read_text(encoding='utf-8')


def test_the_page_is_well_formed_and_loads_nothing(page):
    for tag, attributes in check_self_contained(page).attributes:
        if tag == 'img':
            assert attributes['src'].startswith('data:image/png;base64,')
        if tag == 'svg':
            assert attributes['role'] == 'img'
            assert attributes['aria-label'] == 'Histogram of the Dice of 4 images'


def test_the_page_holds_the_figures_the_pictures_and_the_settings(page, folder_of_page):
    texts = Checked(page).texts
    scores = json.loads((folder_of_page / 's.json').read_text())
    for value in (
        scores['dice_dataset'], scores['dice_per_image'], scores['boundary_f_per_image'],
        scores['ceiling']['dice_dataset'], scores['threshold_sweep'][0]['dice_dataset'],
    ):  # fmt: skip
        assert f'{value:.4f}' in texts
    total = sum(scores['confusion'][0])
    first = scores['confusion'][0][0]
    assert f'{first:,} ({first / total:.1%})' in texts
    assert any(text.startswith('python evaluate.py -m m.pth --images imgs') for text in texts)
    assert 'n_channels 3, n_classes 2, bilinear False, base_channels 2' in texts
    headings = [text for text in texts if ': Dice 0.' in text]
    worst = [f'{row["image"]}: Dice {row["dice"]:.4f}' for row in scores['ranking']]
    assert headings == [*worst[:2], *worst[1:3]]  # two worst ones, and the two in the middle
    images = re.findall(r'alt="([^"]*)" src="data:image/png;base64,([^"]*)"', page)
    assert len(images) == 4 * 4
    assert [alt.rpartition(': ')[2] for alt, _ in images[:4]] == [
        'image', 'truth', 'prediction', 'errors'
    ]  # fmt: skip
    picture = Image.open(io.BytesIO(base64.b64decode(images[0][1])))
    assert picture.size == (360, 270)


def test_a_resumable_files_settings_are_on_the_page_and_nothing_scored_is_said(folder):
    from running import run_train

    data_set(folder, 4)
    assert run_train('-e', '1') == 0
    for path in (folder / 'masks').iterdir():
        Image.new('L', (48, 32)).save(path)
    model = ['-m', 'checkpoints/last.pth', *DATA[2:], '-t', '1', '--report', 'r']
    assert evaluate.main(model) == 0
    page = (folder / 'r/index.html').read_text(encoding='utf-8')
    text = ''.join(Checked(page).texts)
    assert 'recipe fast' in text
    assert 'epochs 1' in text
    assert 'No image has a foreground to score.' in text
    assert 'Worst images' not in text


def test_an_error_map_has_a_colour_for_each_kind_of_error():
    truth = np.array([[0, 1, 0, 1, 1, IGNORE]], np.uint8)
    predicted = np.array([[0, 1, 1, 0, 2, 1]], np.uint8)
    colours = np.asarray(error_map(truth, predicted))[0].tolist()
    names = ['right', 'too much', 'missed', 'another class', 'ignored']
    assert colours == [[0, 0, 0], *(list(ERROR_COLOURS[name]) for name in names)]


def test_a_histogram_begins_at_the_tenth_below_the_lowest():
    texts = re.findall(r'>([\d.]+)</text>', histogram([0.61, 0.99, 0.995]))
    axis = ['0.6', '0.64', '0.68', '0.72', '0.76', '0.8', '0.84', '0.88', '0.92', '0.96', '1']
    assert [text for text in texts if text in axis[:-1]] == axis[:-1]
    assert [text for text in texts if text not in axis] == ['2']
    assert texts.count('1') == 2  # the axis's end, and the one of 0.61


def test_a_table_escapes_and_shows_what_is_missing_as_a_dash():
    Checked(score_table(['<'], [['a & b', 0.12345, None]]))
    assert '<td>a &amp; b</td><td>0.1235</td><td>-</td>' in score_table(
        [], [['a & b', 0.12345, None]]
    )
