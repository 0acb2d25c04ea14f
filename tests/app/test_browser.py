"""The page in a real browser: what a visitor does, and what the page shows and gives."""

import re
import signal
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from browsing import Server, find_chromium, started_browser
from drawing import data_set
from networks import brightness_network, save
from PIL import Image

import predict
from utils.app.pictures import MOST_BYTES

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A folder of pictures, masks and two models."""
    find_chromium()
    folder = tmp_path_factory.mktemp('page')
    data_set(folder, 4, size=(96, 64))
    (folder / 'models').mkdir()
    save(folder / 'models/best.pth', brightness_network(), mask_values=[0, 255])
    names = {'names': ['road', 'sky', 'car <b>']}
    save(folder / 'models/three.pth', brightness_network(3), mask_values=[0, 1, 2],
         mask_encoding=names)  # fmt: skip
    return folder


@pytest.fixture(scope='module')
def server(data):
    with Server(data, '-m', 'models', '--images', 'imgs') as started:
        yield started


@pytest.fixture(scope='module')
def open_page():
    with started_browser() as opened:
        yield opened


@pytest.fixture
def visitor(open_page, server):
    opened = open_page(server.address)
    yield opened
    opened.context.close()
    assert opened.faults == []


def predicted(data, folder, picture, *options):
    """The bytes of the mask that predict.py writes."""
    target = folder / 'p.png'
    command = ['-m', str(data / 'models/best.pth'), '-i', str(data / f'imgs/{picture}.png')]
    assert predict.main([*command, '-o', str(target), '--device', 'cpu', *options]) == 0
    return target.read_bytes()


def test_a_dropped_picture_is_predicted_and_its_files_are_those_of_predict(
    visitor, data, tmp_path, server
):
    visitor.drop(data / 'imgs/disc01.png')
    visitor.wait_for('96 x 64 pixels at scale 1, predicted in')
    pictures = {visitor.picture(label) for label in ('Overlay', 'Mask', 'Probability')}
    assert len(pictures) == 3
    indices = np.asarray(Image.open(data / 'masks/disc01.png')) > 0
    assert abs(visitor.shares()[1] - 100 * indices.mean()) < 3
    content, name = visitor.download('mask')
    assert name == 'disc01_OUT.png'
    assert content == predicted(data, tmp_path, 'disc01')
    content, name = visitor.download('probabilities (.npy)')
    (tmp_path / name).write_bytes(content)
    assert np.load(tmp_path / name).shape == (64, 96)
    elsewhere = {
        url for url in visitor.requests
        if urlsplit(url).scheme not in ('data', 'blob') and not url.startswith(server.address)
    }  # fmt: skip
    assert elsewhere == set()
    assert len(visitor.requests) > 20


def test_sliders_act_without_computing_again(visitor, data, tmp_path):
    visitor.drop(data / 'imgs/disc00.png')
    visitor.wait_for('predicted in')
    visitor.picture('Overlay')
    took = re.search('predicted in .*', visitor.page.inner_text('body'))[0]
    before = visitor.shares()
    assert min(before) > 5
    visitor.set('Threshold', 1)
    visitor.wait_for('100.00 %')
    assert visitor.download('mask', 'threshold=1')[0] == predicted(
        data, tmp_path, 'disc00', '-t', '1'
    )
    visitor.set('Threshold', 0.9)
    assert visitor.download('mask', 'threshold=0.9')[0] == predicted(
        data, tmp_path, 'disc00', '-t', '0.9'
    )
    seen = visitor.picture('Overlay')
    visitor.set('Opacity', 0)
    visitor.page.wait_for_function(
        'seen => ![...document.images].some(image => image.getAttribute("src") === seen)', arg=seen
    )
    assert re.search('predicted in .*', visitor.page.inner_text('body'))[0] == took


def test_a_true_mask_gives_dice_and_errors_until_another_picture_is_chosen(visitor, data):
    visitor.drop(data / 'imgs/disc00.png', data / 'imgs/disc01.png')
    visitor.wait_for('disc00.png')
    visitor.wait_for('predicted in')
    visitor.drop_mask(data / 'masks/disc00.png')
    visitor.wait_for('Dice')
    visitor.wait_for('mean, without the background')
    (dice, *_) = re.findall(r'background\s+([\d.]+)', visitor.page.inner_text('body'))
    assert 0.95 < float(dice) <= 1
    visitor.picture('Errors')
    visitor.page.locator('.thumbnail-item').nth(1).click()
    visitor.page.get_by_text('mean, without the background').first.wait_for(state='hidden')
    visitor.wait_for('disc01.png: 96 x 64')


def test_an_example_is_predicted_by_a_click(visitor, data):
    visitor.page.locator('.thumbnail-item').nth(2).click()
    visitor.wait_for('disc02.png: 96 x 64')
    visitor.picture('Mask')


def test_another_model_has_its_classes_and_no_threshold(visitor, data):
    visitor.drop(data / 'imgs/disc01.png')
    visitor.wait_for('predicted in')
    visitor.page.get_by_label('Model').click()
    visitor.page.get_by_role('option', name='three.pth').click()
    visitor.wait_for('car <b>')
    assert visitor.page.get_by_text('Threshold').count() == 0
    visitor.wait_for('Class of the probability map')
    assert len(visitor.shares()) == 3


def test_a_wrong_file_is_a_message_and_the_next_picture_works(visitor, data, tmp_path):
    wrong = tmp_path / 'notes.txt'
    wrong.write_text('no picture')
    visitor.drop(wrong)
    visitor.wait_for('notes.txt cannot be read as a picture')
    assert str(Path('/unet-app')) not in visitor.page.inner_text('body')
    cut = tmp_path / 'cut.png'
    cut.write_bytes((data / 'imgs/disc01.png').read_bytes()[:-2000])
    visitor.drop(cut)
    visitor.wait_for('cut.png cannot be read as a picture')
    visitor.drop(data / 'imgs/disc01.png')
    visitor.wait_for('disc01.png: 96 x 64')
    assert visitor.page.get_by_text('cannot be read').count() == 0
    visitor.drop_mask(wrong)
    visitor.wait_for('notes.txt cannot be read as a picture')


def test_a_file_of_too_many_bytes_is_refused_with_the_limit(visitor, server, tmp_path):
    large = tmp_path / 'large.png'
    with large.open('wb') as file:
        file.truncate(MOST_BYTES + 1)
    visitor.drop(large)
    visitor.wait_for('exceed the maximum allowed size of 100.0 Mb: "large.png"')
    assert not list(server.uploads.rglob('large.png'))


def test_two_visitors_at_once_get_their_own_pictures(open_page, server, data, tmp_path):
    first, second = open_page(server.address), open_page(server.address)
    for turn in range(4):
        names = ('disc00', 'disc03') if turn % 2 else ('disc02', 'disc01')
        for visitor, name in zip((first, second), names, strict=True):
            visitor.drop(data / f'imgs/{name}.png')
        for visitor, name in zip((second, first), names[::-1], strict=True):
            visitor.wait_for(f'{name}.png: 96 x 64')
            content, file = visitor.download('mask')
            assert file == f'{name}_OUT.png'
            assert content == predicted(data, tmp_path, name)
    for visitor in (first, second):
        visitor.context.close()


def test_the_folder_of_uploads_is_removed_by_sigterm(open_page, data, tmp_path):
    with Server(data, '-m', 'models/best.pth') as started:
        visitor = open_page(started.address)
        visitor.drop(data / 'imgs/disc01.png')
        visitor.wait_for('predicted in')
        left = [path.name for path in started.uploads.rglob('*')]
        assert 'disc01.png' in left
        assert started.end() == 128 + signal.SIGTERM
        visitor.context.close()
    assert not list(started.temporary.iterdir())
    assert 'Traceback' not in Path(started.output.name).read_text()


def large_picture(path, size, seed):
    noise = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size).save(path, quality=90)


def test_twenty_uploads_in_a_row_grow_no_memory(visitor, server, tmp_path):
    def show(k):
        large_picture(tmp_path / f'{k}.jpg', (2400, 1800), k)
        visitor.drop(tmp_path / f'{k}.jpg')
        visitor.wait_for(f'{k}.jpg: 2400 x 1800')
        return server.memory()

    before = max(map(show, range(100, 108)))  # one has 20 MiB, so that KEPT_BYTES are full
    after = [show(k) for k in range(200, 220)]
    print(f'{before:.0f} MiB, then {[round(value) for value in after]}')
    assert np.mean(after[-5:]) < before + 60


def test_twelve_megapixels_are_shown_in_about_the_time_of_predict(visitor, data, tmp_path):
    ours, theirs = [], []
    for k in range(3):
        name = f'large{k}.jpg'
        large_picture(tmp_path / name, (4000, 3000), k)
        started = time.perf_counter()
        command = ['-m', str(data / 'models/best.pth'), '-i', str(tmp_path / name)]
        assert predict.main([*command, '--device', 'cpu']) == 0  # torch is there already
        theirs.append(time.perf_counter() - started)
        started = time.perf_counter()
        visitor.drop(tmp_path / name)
        visitor.wait_for(f'{name}: 4000 x 3000')
        visitor.picture('Overlay')
        ours.append(time.perf_counter() - started)
    print(f'page {ours} s, predict.py {theirs} s')
    # A start of predict.py takes seconds more. Others may use the machine, hence the slack.
    assert min(ours) < 1.2 * min(theirs) + 3
