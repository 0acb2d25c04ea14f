"""curves.png is drawn from metrics.csv, with empty cells left out and one row alone visible."""

import numpy as np
import pytest
from drawing import data_set
from PIL import Image
from running import run_train

from utils.training import recorder
from utils.training.plots import draw_curves

HEADER = 'epoch,step,learning_rate,loss,dice_dataset,dice_per_image\n'
BLUE = (31, 119, 180)  # matplotlib's tab:blue, of the Dice over all pixels


def pixels_of(colour, path):
    picture = np.asarray(Image.open(path).convert('RGB')).astype(int)
    return int((np.abs(picture - colour).max(axis=2) < 12).sum())


@pytest.fixture
def draw(tmp_path):
    def drawn(text):
        (tmp_path / 'metrics.csv').write_text(HEADER + text)
        draw_curves(tmp_path / 'metrics.csv', tmp_path / 'curves.png')
        return tmp_path / 'curves.png'

    return drawn


def test_a_picture_of_three_panels_appears_and_lines_grow_with_the_run(draw):
    one = pixels_of(BLUE, draw('1,10,1e-3,0.9,0.5,0.4\n'))
    assert Image.open(draw('1,10,1e-3,0.9,0.5,0.4\n')).size == (800, 800)
    two = pixels_of(BLUE, draw('1,10,1e-3,0.9,0.5,0.4\n2,20,5e-4,0.5,0.9,0.9\n'))
    assert 0 < one < two


def test_without_a_validation_set_the_dice_panel_stays_empty(draw):
    with_dice = pixels_of(BLUE, draw('1,10,1e-3,0.9,0.5,0.4\n'))
    assert pixels_of(BLUE, draw('1,10,1e-3,0.9,,\n2,20,1e-3,0.8,,\n')) < with_dice


def test_training_leaves_a_picture_of_its_curves(folder, monkeypatch):
    data_set(folder, 4)
    monkeypatch.setattr(recorder, 'draw_curves', draw_curves)  # see conftest.py
    assert run_train('-e', '1') == 0
    assert Image.open(folder / 'checkpoints/curves.png').size == (800, 800)


def test_cells_that_are_no_numbers_and_missing_columns_are_left_out(draw, tmp_path):
    blue = pixels_of(BLUE, draw('1,1,0.1,0.5,0.4,\n1,2,0.1,0.5,half,\nx,y,z\n1,3,0.1,0.5,0.8,\n'))
    assert blue > 50
    (tmp_path / 'metrics.csv').write_text('epoch,loss\n1,0.5\n')
    draw_curves(tmp_path / 'metrics.csv', tmp_path / 'curves.png')
