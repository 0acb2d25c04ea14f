"""Pictures of the page: which are taken, which are refused and why, and what is shown of them."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from networks import brightness_network, save
from PIL import Image

from utils.app import pictures
from utils.app.examples import find_examples
from utils.app.pictures import (
    check_limits,
    shown_name,
    shown_picture,
    take_pictures,
    thumbnails,
    without_folder,
)
from utils.images.decoding import PILLOW_DECODE
from utils.images.pages import Page
from utils.inference.predictor import Predictor
from utils.runtime.errors import UserError


def picture(name, size=(40, 30), colour='red', **options):
    Image.new('RGB', size, colour).save(name, **options)
    return Path(name)


def test_examples_are_the_first_pictures_of_a_folder(folder):
    assert find_examples(None) == []
    Path('data/imgs').mkdir(parents=True)
    assert find_examples(None) == []
    for k in range(12):
        picture(f'data/imgs/{k:02}.png')
    assert [path.name for path in find_examples(None)] == [f'{k:02}.png' for k in range(8)]
    with pytest.raises(UserError, match='no such input file: nowhere'):
        find_examples(Path('nowhere'))
    Path('empty').mkdir()
    with pytest.raises(UserError, match='no images in empty'):
        find_examples(Path('empty'))


def test_files_that_are_no_pictures_are_named_and_the_others_taken(folder):
    uploads = folder / 'uploads'
    uploads.mkdir()
    good = picture(uploads / 'good.png')
    bad = uploads / 'notes.txt'
    bad.write_text('no picture')
    taken, messages = take_pictures([bad, good], 3)
    assert taken == [good]
    assert len(messages) == 1
    assert messages[0].startswith('notes.txt cannot be read as a picture')
    assert str(uploads) not in messages[0]


def test_pictures_of_too_many_pixels_are_refused_by_their_header(folder, monkeypatch):
    monkeypatch.setattr(pictures, 'MOST_PIXELS', 1000)
    large, small = picture('large.png', (40, 30)), picture('small.png', (40, 25))
    taken, messages = take_pictures([large, small], 3)
    assert taken == [small]
    (message,) = messages
    assert 'large.png has 40 x 30 pixels; expected at most 1,000' in message
    assert 'python predict.py -i large.png' in message
    check_limits(small)
    with pytest.raises(UserError, match='40 x 30'):
        check_limits(large)


def test_the_pages_of_a_stack_are_pictures_and_too_many_are_left_out(folder):
    tifffile.imwrite('stack.tif', np.zeros((30, 20, 32), np.uint8), photometric='minisblack')
    taken, messages = take_pictures([Path('stack.tif')], 1)
    assert taken == [Page(Path('stack.tif'), k) for k in range(24)]
    assert shown_name(taken[2]) == 'stack.tif, page 3'
    assert messages == [
        'The last 6 of 30 pictures are left out, because the page takes 24 at a time. predict.py '
        'takes any number.'
    ]


def test_a_message_names_files_without_the_folder_of_uploads():
    source = Page(Path('/tmp/unet-app-x/2f/a.tif'), 3)
    assert (
        without_folder(f'{source} is bad; replace {source}', source)
        == 'a.tif:3 is bad; replace a.tif:3'
    )


@pytest.mark.parametrize('decode', [None, PILLOW_DECODE])
def test_a_picture_is_shown_small_and_turned_as_the_network_sees_it(folder, decode):
    pixels = np.zeros((300, 400, 3), np.uint8)
    pixels[:, :200] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    Image.fromarray(pixels).save('turned.jpg', quality=95, exif=exif)
    options = {'decode': decode} if decode else {}
    predictor = Predictor(brightness_network(), 1.0, [0, 255], **options)
    shown = shown_picture(Path('turned.jpg'), predictor, 100)
    size, _ = predictor.read_file(Path('turned.jpg'))[1], None
    assert shown.size == ((100, 75) if decode else (75, 100))
    assert (size[0] > size[1]) == (shown.width > shown.height)
    light = np.asarray(shown.convert('L'))
    assert light[2, 2] > 250
    assert light[-3, -3] < 5


def test_thumbnails_stand_for_pictures_that_cannot_be_read(folder):
    save('m.pth', brightness_network(), mask_values=[0, 1])
    cut = picture('cut.png', (300, 200))
    cut.write_bytes(cut.read_bytes()[:-60])
    found = thumbnails(
        [picture('a.png', (480, 200)), cut, Path('gone.png')], Predictor.load('m.pth')
    )
    assert [name for _, name in found] == ['a.png', 'cut.png', 'gone.png']
    assert [image.size for image, _ in found] == [(240, 100), (240, 240), (240, 240)]
