"""What the page does when its components are used, without a browser."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from drawing import data_set
from networks import brightness_network, save
from PIL import Image

pytest.importorskip('gradio', reason='gradio is not installed: bash scripts/test.sh --app')

import gradio as gr

from utils.app.models import Models
from utils.app.page import Page, Shelf
from utils.app.results import Results
from utils.runtime.errors import UserError

SKIP = gr.skip()


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
    names += ['threshold', 'shown', 'facts']
    return SimpleNamespace(
        **dict(zip(names, page.draw(shelf, model, **view, truth=truth), strict=True))
    )


def test_uploads_replace_the_examples_and_return_when_they_are_removed(page):
    shelf = Shelf(page.examples)
    assert drawn(page, shelf).overlay is None
    taken, gallery, truth, *_ = page.take(['imgs/disc01.png', 'imgs/disc02.png'], 'two.pth', shelf)
    assert [source.name for source in taken.pictures] == ['disc01.png', 'disc02.png']
    assert taken.chosen == 0
    assert len(gallery['value']) == 2
    assert truth == SKIP  # a mask that was there before its picture stays
    assert page.take(['imgs/disc01.png'], 'two.pth', taken)[1]['visible'] is False
    back, gallery, truth, *_ = page.take(None, 'two.pth', taken)
    assert truth is None
    assert back.pictures == page.examples
    assert back.chosen is None
    assert len(gallery['value']) == 1


def test_the_chosen_picture_is_shown_with_its_figures_and_files(page):
    shelf, *_ = page.take(['imgs/disc01.png', 'imgs/disc02.png'], 'two.pth', Shelf())
    shelf, truth, *_ = page.choose(shelf, 'two.pth', SimpleNamespace(index=1))
    assert truth is None
    shown = drawn(page, shelf, threshold=0.4)
    assert 'disc02.png' in shown.status
    assert '48 x 32 pixels' in shown.status
    assert shown.overlay.size == shown.mask.size == shown.probability.size == (384, 256)
    assert 'share of pixels' in shown.classes
    assert 'Dice' not in shown.classes
    assert '_OUT.png?threshold=0.4' in shown.links
    assert not shown.errors_column['visible']
    scored = drawn(page, shelf, truth='masks/disc02.png')
    assert 'Dice' in scored.classes
    assert scored.errors_column['visible']


def test_errors_are_the_programs_messages_in_place_of_the_result(page):
    Path('text.png').write_text('none')
    shelf, *_ = page.take(['text.png', 'imgs/disc01.png'], 'two.pth', Shelf())
    shown = drawn(page, shelf)
    assert 'text.png cannot be read as a picture' in shown.status
    assert 'disc01.png' in shown.status
    assert shown.overlay
    Image.fromarray(np.full((32, 48), 7, np.uint8)).save('truth.png')
    shown = drawn(page, shelf, truth='truth.png')
    assert 'truth.png: mask value 7 is none of [0, 255]' in shown.status
    assert 'Dice' not in shown.classes
    assert shown.overlay
    shown = drawn(page, shelf, model='gone.pth')
    assert 'gone.pth' in shown.status
    assert shown.status.count('gone.pth') == 1
    assert 'role="alert"' in shown.status
    assert shown.overlay is None
    assert shown.links == shown.facts == ''


def test_pictures_dropped_while_a_model_cannot_be_read_are_predicted_by_the_next_one(page):
    files = ['imgs/disc01.png', 'imgs/disc02.png']
    shelf, gallery, *_ = page.take(files, 'gone.pth', Shelf())
    assert 'gone.pth' in shelf.notes[0]
    assert not gallery['visible']
    shelf, gallery, working, _ = page.describe(files, 'two.pth', shelf)
    assert len(gallery['value']) == 2
    assert 'disc01.png' in working
    shown = drawn(page, shelf)
    assert shown.overlay
    assert 'gone.pth' not in shown.status


def test_another_picture_beside_the_chosen_one_changes_neither_it_nor_its_mask(page):
    files = ['imgs/disc01.png', 'imgs/disc02.png']
    shelf, *_ = page.take(files, 'two.pth', Shelf())
    shelf, *_ = page.choose(shelf, 'two.pth', SimpleNamespace(index=1))
    shelf, gallery, truth, *_ = page.take(['imgs/disc00.png', *files], 'two.pth', shelf)
    assert shelf.source.name == 'disc02.png'
    assert gallery['selected_index'] == 2
    assert truth == SKIP
    shelf, _, truth, *_ = page.take(['imgs/disc00.png'], 'two.pth', shelf)
    assert truth is None


def test_many_messages_about_files_are_one(page):
    for k in range(9):
        Path(f'text{k}.png').write_text('none')
    files = [f'text{k}.png' for k in range(9)] + ['imgs/disc01.png'] * 30
    shelf, *_ = page.take(files, 'two.pth', Shelf())
    assert len(shelf.pictures) == 24
    assert len(shelf.notes) == 7
    assert shelf.notes[-2:] == (
        '4 more files cannot be used either.',
        'The last 6 of 30 pictures are left out, because the page takes 24 at a time. predict.py '
        'takes any number.',
    )


@pytest.mark.parametrize(('typed', 'taken'), [(None, 0.5), (5, 1), (-1, 0), (0.3, 0.3)])
def test_a_number_that_is_being_typed_is_within_its_slider(page, typed, taken):
    assert page.threshold.preprocess(typed) == taken


def test_a_model_of_three_classes_has_no_threshold_but_a_class_to_show(page):
    shelf, *_ = page.take(['imgs/disc01.png'], 'two.pth', Shelf())
    three = drawn(page, shelf, 'three.pth', shown=2)
    assert not three.threshold['visible']
    assert three.shown['visible']
    assert 'value' not in three.shown
    assert [title for title, _ in three.shown['choices']] == ['0', '1', '2']
    assert 'n_classes 3' in three.facts
    two = drawn(page, shelf, 'two.pth', shown=2)
    assert two.threshold['visible']
    assert not two.shown['visible']
    assert two.shown['value'] == 1


def test_a_model_file_that_was_replaced_is_what_the_page_tells_of(page):
    shelf, *_ = page.take(['imgs/disc01.png'], 'two.pth', Shelf())
    assert 'n_classes 2' in drawn(page, shelf).facts
    Path('three.pth').replace('two.pth')
    shown = drawn(page, shelf)
    assert 'n_classes 3' in shown.facts
    assert shown.shown['visible']


def test_an_old_version_of_a_file_is_never_taken_from_the_new_one(folder):
    save('a.pth', brightness_network(), mask_values=[0, 255])
    models = Models([Path('a.pth')], (None, 'cpu', False))
    version = models.version('a.pth')
    save('b.pth', brightness_network(3), mask_values=[0, 1, 2])
    Path('b.pth').replace('a.pth')
    with pytest.raises(UserError, match=r'a\.pth has changed since; choose the picture again'):
        models.load('a.pth', version)
    assert models.load('a.pth').predictor.model.n_classes == 3


def test_the_first_model_that_can_be_read_is_the_first_one(folder):
    Path('a.pth').write_text('none')
    save('b.pth', brightness_network(), mask_values=[0, 255])
    models = Models([Path('a.pth'), Path('b.pth')], (None, 'cpu', False))
    assert models.first_readable() == 'b.pth'
    made = Page(models, Results(models), [])
    made.build()
    assert made.model.value == 'b.pth'
    with pytest.raises(UserError, match=r'a\.pth'):
        Models([Path('a.pth'), Path('c.pth')], (None, 'cpu', False)).first_readable()


def test_a_choice_that_is_none_of_the_present_ones_is_no_error(page):
    assert page.shown.preprocess(7) == 7
    assert page.shown.preprocess(None) == 1


def test_no_event_waits_for_the_stream_of_the_queue(page):
    assert {event.queue for event in page.build().fns.values()} == {False}


def test_each_event_that_needs_a_drawing_gives_another_number(page):
    shelf, *_, number = page.take(None, 'two.pth', Shelf())
    numbers = {
        number,
        page.take(['imgs/disc01.png'], 'gone.pth', shelf)[-1],
        page.choose(shelf, 'two.pth', SimpleNamespace(index=0))[-1],
        page.describe(None, 'two.pth', shelf)[-1],
        page.describe(None, 'gone.pth', shelf)[-1],
        page.forget(shelf, 'two.pth', 'automatic', False)[-1],
    }
    assert len(numbers) == 6


def test_predicting_again_computes_anew(page):
    shelf, *_ = page.take(['imgs/disc01.png'], 'two.pth', Shelf())
    drawn(page, shelf)
    (request,) = page.results._kept
    page.forget(shelf, 'two.pth', 'automatic', False)
    assert not page.results._kept
    drawn(page, shelf, tta=True, tile='256')
    (other,) = page.results._kept
    assert (other.tile, other.mirrored) == (256, True)
    assert other != request
