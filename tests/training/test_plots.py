"""curves.png is drawn from metrics.csv, with empty cells left out and one row alone visible."""

import numpy as np
import pytest
from drawing import data_set
from matplotlib.figure import Figure
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


@pytest.mark.slow
def test_a_picture_of_three_panels_appears_and_lines_grow_with_the_run(draw):
    one = pixels_of(BLUE, draw('1,10,1e-3,0.9,0.5,0.4\n'))
    assert Image.open(draw('1,10,1e-3,0.9,0.5,0.4\n')).size == (800, 800)
    two = pixels_of(BLUE, draw('1,10,1e-3,0.9,0.5,0.4\n2,20,5e-4,0.5,0.9,0.9\n'))
    assert 0 < one < two


@pytest.mark.slow
def test_without_a_validation_set_the_dice_panel_stays_empty(draw):
    with_dice = pixels_of(BLUE, draw('1,10,1e-3,0.9,0.5,0.4\n'))
    assert pixels_of(BLUE, draw('1,10,1e-3,0.9,,\n2,20,1e-3,0.8,,\n')) < with_dice


def plotted(rows, monkeypatch, tmp_path):
    """The three panels, as matplotlib draws them, of (step, loss, Dice) with a rate of 0.001."""
    kept = []
    monkeypatch.setattr(Figure, 'savefig', lambda figure, *_, **__: kept.append(figure))
    text = ''.join(f'{k},{step},1e-3,{loss},{dice},\n' for k, (step, loss, dice) in enumerate(rows))
    (tmp_path / 'metrics.csv').write_text(HEADER + text)
    draw_curves(tmp_path / 'metrics.csv', tmp_path / 'curves.png')
    return kept[0].axes


def test_one_validation_is_a_large_dot_within_axes_from_0(monkeypatch, tmp_path):
    loss, dice, rate = plotted([(40, 0.2, 0.9)], monkeypatch, tmp_path)
    assert dice.lines[0].get_markersize() > 10
    assert loss.get_xlim() == (0, 80)
    assert loss.get_ylim()[0] == rate.get_ylim()[0] == dice.get_ylim()[0] == 0
    assert dice.get_title('right') == 'best 0.9000 at step 40, latest 0.9000'
    assert loss.get_title('right') == 'latest 0.2'


@pytest.mark.parametrize(('count', 'marker'), [(5, '.'), (500, 'None')])
def test_many_validations_are_a_line_without_dots_and_the_best_dice_is_told(
    monkeypatch, tmp_path, count, marker
):
    values = [(10 * k, 1 / k, 1 - abs(k - 4) / count) for k in range(1, count + 1)]
    _, dice, _ = plotted(values, monkeypatch, tmp_path)
    assert dice.lines[0].get_marker() == marker
    assert dice.get_title('right').startswith('best 1.0000 at step 40, latest ')
    assert dice.get_ylim()[1] <= 1.02


def test_panels_without_figures_say_so_and_a_loss_that_is_not_finite_is_left_out(
    monkeypatch, tmp_path
):
    loss, dice, _ = plotted([(1, 0.5, ''), (2, 'nan', ''), (3, 'inf', '')], monkeypatch, tmp_path)
    assert [text.get_text() for text in dice.texts] == ['no figures']
    assert dice.get_legend() is None
    assert loss.get_title('right') == 'latest 0.5'


@pytest.mark.slow
def test_training_leaves_a_picture_of_its_curves(folder, monkeypatch):
    data_set(folder, 4)
    monkeypatch.setattr(recorder, 'draw_curves', draw_curves)  # see conftest.py
    assert run_train('-e', '1') == 0
    assert Image.open(folder / 'checkpoints/curves.png').size == (800, 800)


@pytest.mark.slow
def test_cells_that_are_no_numbers_and_missing_columns_are_left_out(draw, tmp_path):
    blue = pixels_of(BLUE, draw('1,1,0.1,0.5,0.4,\n1,2,0.1,0.5,half,\nx,y,z\n1,3,0.1,0.5,0.8,\n'))
    assert blue > 50
    (tmp_path / 'metrics.csv').write_text('epoch,loss\n1,0.5\n')
    draw_curves(tmp_path / 'metrics.csv', tmp_path / 'curves.png')
