"""What the page does when its components are used, without a browser."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from drawing import data_set
from networks import brightness_network, save
from PIL import Image

pytest.importorskip('gradio', reason='gradio is not installed: bash scripts/test.sh --app')

from utils.app.models import Models
from utils.app.page import Page, Shelf
from utils.app.results import Results


@pytest.fixture
def page(folder):
    data_set(folder, 3, size=(48, 32))
    save('two.pth', brightness_network(), mask_values=[0, 255])
    save('three.pth', brightness_network(3), mask_values=[0, 1, 2])
    models = Models([Path('two.pth'), Path('three.pth'), Path('gone.pth')], (None, 'cpu', False))
    made = Page(models, Results(models), [Path('imgs/disc00.png')])
    made.build()
    return made


def drawn(page, shelf, model='two.pth', truth=None, **changes):
    """What the page shows, by the names of its components."""
    view = {
        'tile': 'automatic',
        'tta': False,
        'threshold': 0.5,
        'opacity': 0.5,
        'shown': 1,
    } | changes
    names = 'status overlay mask probability classes links errors_column errors'.split()
    return SimpleNamespace(
        **dict(zip(names, page.draw(shelf, model, **view, truth=truth), strict=True))
    )


def test_uploads_replace_the_examples_and_return_when_they_are_removed(page):
    shelf = Shelf(page.examples)
    assert drawn(page, shelf).overlay is None
    taken, gallery, truth, _ = page.take(['imgs/disc01.png', 'imgs/disc02.png'], 'two.pth')
    assert [source.name for source in taken.pictures] == ['disc01.png', 'disc02.png']
    assert taken.chosen == 0
    assert len(gallery['value']) == 2
    assert truth is None
    assert page.take(['imgs/disc01.png'], 'two.pth')[1]['visible'] is False
    back, gallery, *_ = page.take(None, 'two.pth')
    assert back.pictures == page.examples
    assert back.chosen is None
    assert len(gallery['value']) == 1


def test_the_chosen_picture_is_shown_with_its_figures_and_files(page):
    shelf, *_ = page.take(['imgs/disc01.png', 'imgs/disc02.png'], 'two.pth')
    shelf, truth, _ = page.choose(shelf, SimpleNamespace(index=1))
    assert truth is None
    shown = drawn(page, shelf, threshold=0.4)
    assert 'disc02.png' in shown.status
    assert '48 x 32 pixels' in shown.status
    assert shown.overlay.size == shown.mask.size == shown.probability.size == (48, 32)
    assert 'share of pixels' in shown.classes
    assert 'Dice' not in shown.classes
    assert '_OUT.png?threshold=0.4' in shown.links
    assert not shown.errors_column['visible']
    scored = drawn(page, shelf, truth='masks/disc02.png')
    assert 'Dice' in scored.classes
    assert scored.errors_column['visible']


def test_errors_are_the_programs_messages_in_place_of_the_result(page):
    Path('text.png').write_text('none')
    shelf, *_ = page.take(['text.png', 'imgs/disc01.png'], 'two.pth')
    shown = drawn(page, shelf)
    assert 'text.png cannot be read as a picture' in shown.status
    assert 'disc01.png' in shown.status
    assert shown.overlay
    Image.fromarray(np.full((32, 48), 7, np.uint8)).save('truth.png')
    shown = drawn(page, shelf, truth='truth.png')
    assert 'truth.png: mask value 7 is none of [0, 255]' in shown.status
    assert shown.overlay is None
    assert shown.links == ''
    shown = drawn(page, shelf, model='gone.pth')
    assert 'gone.pth' in shown.status
    assert 'role="alert"' in shown.status
    shelf, gallery, *_ = page.take(['imgs/disc01.png'], 'gone.pth')
    assert 'gone.pth' in shelf.notes[0]
    assert not gallery['visible']


def test_a_model_of_three_classes_has_no_threshold_but_a_class_to_show(page):
    threshold, shown, facts, _ = page.describe('three.pth')
    assert not threshold['visible']
    assert shown['visible']
    assert [title for title, _ in shown['choices']] == ['0', '1', '2']
    assert 'n_classes 3' in facts
    threshold, shown, *_ = page.describe('two.pth')
    assert threshold['visible']
    assert not shown['visible']
    assert page.describe('gone.pth')[2] == ''


def test_no_event_waits_for_the_stream_of_the_queue(page):
    assert {event.queue for event in page.build().fns.values()} == {False}


def test_each_event_that_needs_a_drawing_gives_another_number(page):
    shelf, *_, number = page.take(None, 'two.pth')
    numbers = {
        number,
        page.take(['imgs/disc01.png'], 'gone.pth')[-1],
        page.choose(shelf, SimpleNamespace(index=0))[-1],
        page.describe('two.pth')[-1],
        page.describe('gone.pth')[-1],
        page.forget(shelf, 'two.pth', 'automatic', False),
    }
    assert len(numbers) == 6


def test_predicting_again_computes_anew(page):
    shelf, *_ = page.take(['imgs/disc01.png'], 'two.pth')
    drawn(page, shelf)
    (request,) = page.results._kept
    page.forget(shelf, 'two.pth', 'automatic', False)
    assert not page.results._kept
    drawn(page, shelf, tta=True, tile='256')
    (other,) = page.results._kept
    assert (other.tile, other.mirrored) == (256, True)
    assert other != request
