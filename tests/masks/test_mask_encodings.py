"""Every mask encoding: from files to a trained network and back, value for value."""

import json

import numpy as np
import pytest
import torch
from drawing import disc
from PIL import Image
from running import run_train

import evaluate
import predict
from utils.data.dataset import SegmentationDataset
from utils.images.arrays import read_array
from utils.images.decoding import open_picture
from utils.inference.checkpoint import load_checkpoint
from utils.inference.outputs.formats import format_mask, save_result
from utils.masks.encoding import MaskEncoding, load_mask, to_image
from utils.masks.values import mask_array
from utils.runtime.errors import UserError

SIZE = (24, 20)
QUICK = ['-e', '1', '-v', '0', '-b', '4', '--base-channels', '2', '--recipe', 'classic']
COLOURS = [[0, 0, 0], [0, 0, 255], [128, 64, 128]]


def palette_picture(classes):
    picture = Image.fromarray(classes.astype(np.uint8))
    picture.putpalette([9, 9, 9, 200, 0, 0, 0, 90, 200])
    return picture


def with_alpha(classes):
    alpha = np.full((*classes.shape, 1), 77, np.uint8)
    return Image.fromarray(np.concatenate([np.array(COLOURS, np.uint8)[classes], alpha], axis=2))


def grey(*values, dtype=np.uint8):
    return lambda classes: Image.fromarray(np.array(values, dtype)[classes])


def array(*values, dtype):
    return lambda classes: np.array(values, dtype)[classes]


# name: extension, (H, W) class indices -> what is saved, classes, mode written
ENCODINGS = {
    'grey 0 and 1': ('png', grey(0, 1), 2, '1'),
    'grey 0 and 255': ('png', grey(0, 255), 2, 'L'),
    'four greys': ('png', grey(0, 85, 170, 255), 4, 'L'),
    'from 1': ('png', grey(1, 2, 3, 4), 4, 'P'),
    'grey bmp': ('bmp', grey(0, 100, 200), 3, 'L'),
    '16 bits': ('png', grey(0, 300, 40000, dtype=np.uint16), 3, 'I;16'),
    '16 bits, small': ('tif', grey(0, 1, 2, dtype=np.uint16), 3, 'P'),
    'palette': ('png', palette_picture, 3, 'P'),
    'palette gif': ('gif', palette_picture, 3, 'P'),
    'RGB': ('png', lambda c: Image.fromarray(np.array(COLOURS, np.uint8)[c]), 3, 'RGB'),
    'RGBA': ('png', with_alpha, 3, 'RGB'),
    'grey in RGB': ('png', lambda c: grey(0, 255)(c).convert('RGB'), 2, 'L'),
    'one bit': ('png', lambda c: Image.fromarray(c.astype(bool)), 2, '1'),
    'bool array': ('npy', array(False, True, dtype=bool), 2, '1'),
    'uint8 array': ('npy', array(0, 9, 200, dtype=np.uint8), 3, 'L'),
    'int64 array': ('npy', array(0, 7, 4000, dtype=np.int64), 3, 'I;16'),
    'wide ids': ('npy', array(-3, 0, 70000, dtype=np.int32), 3, None),
    'colour array': ('npy', array(*COLOURS, dtype=np.uint8), 3, 'RGB'),
    'uint8 tensor': ('pt', array(0, 1, 2, dtype=np.uint8), 3, 'P'),
    'bool tensor': ('pth', array(False, True, dtype=bool), 2, '1'),
}

TRAINED = ('grey 0 and 255', 'palette', 'RGB', '16 bits', 'wide ids')  # the others' way is theirs


def save(content, path):
    if path.suffix == '.npy':
        np.save(path, content)
    elif path.suffix in ('.pt', '.pth'):
        torch.save(torch.from_numpy(content), path)
    else:
        content.save(path, **({'optimize': False} if path.suffix == '.gif' else {}))


def make(folder, extension, encode, classes, count=3):
    """Images and masks; returns the class indices of the masks."""
    drawn = []
    for name in ('imgs', 'masks'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for k in range(count):
        image, indices = disc(k, SIZE, tuple(range(classes)))
        Image.fromarray(image).save(folder / f'imgs/{k}.png')
        save(encode(indices), folder / f'masks/{k}.{extension}')
        drawn.append(indices.astype(np.uint8))
    return drawn


def values_of(path):
    return mask_array(open_picture(path), path)


@pytest.mark.parametrize('name', ENCODINGS)
def test_masks_are_written_with_the_values_that_were_read(folder, name):
    extension, encode, classes, mode = ENCODINGS[name]
    drawn = make(folder, extension, encode, classes)
    dataset = SegmentationDataset('imgs', 'masks')
    masks = dataset.masks
    if name in TRAINED:
        assert run_train(*QUICK) == 0
        masks = load_checkpoint('checkpoints/last.pth').masks
    assert len(masks.values) == classes
    assert np.array_equal(dataset[0]['mask'].numpy(), drawn[0])
    if mode:
        written = to_image(drawn[0], masks)
        assert written.mode == mode
        save_result(written, folder / 'o.png')
    save_result(format_mask('values', masks, drawn[0], as_array=True), folder / 'o.npy')
    for target in ('o.png', 'o.npy') if mode else ('o.npy',):
        expected = values_of(folder / f'masks/0.{extension}')
        assert np.array_equal(values_of(folder / target), expected), target
    if name.startswith('palette'):
        original = Image.open(f'masks/0.{extension}').convert('RGB')
        assert np.array_equal(np.asarray(written.convert('RGB')), np.asarray(original))


@pytest.mark.slow
def test_predict_and_evaluate_need_no_option_for_any_encoding(folder, capsys):
    for name in ('wide ids', 'RGB', '16 bits'):
        extension, encode, classes, _ = ENCODINGS[name]
        make(folder / name, extension, encode, classes)
        data = ['--images', f'{name}/imgs', '--masks', f'{name}/masks']
        assert run_train(*QUICK, images=data[1], masks=data[3]) == 0
        assert evaluate.main(['-m', 'checkpoints/last.pth', *data, '--json', 's.json']) == 0
        target = f'{name}/o.npy' if name == 'wide ids' else f'{name}/o.png'
        picture = f'{name}/imgs/0.png'
        assert predict.main(['-m', 'checkpoints/last.pth', '-i', picture, '-o', target]) == 0
        known = load_checkpoint('checkpoints/last.pth').mask_values
        scored = json.loads((folder / 's.json').read_text())['classes']
        assert [row['value'] for row in scored] == known
        found = values_of(folder / target).reshape(SIZE[0] * SIZE[1], -1)
        assert {tuple(v) for v in found.tolist()} <= {tuple(np.atleast_1d(v)) for v in known}


def test_values_that_fit_no_picture_ask_for_an_array_before_any_work(folder, capsys):
    extension, encode, classes, _ = ENCODINGS['wide ids']
    make(folder, extension, encode, classes)
    assert run_train(*QUICK) == 0
    assert predict.main(['-m', 'checkpoints/last.pth', '-i', 'imgs/0.png']) == 2
    err = capsys.readouterr().err
    assert all(text in err for text in ('-3', '70000', '-o NAME.npy'))


@pytest.mark.slow
def test_16_bits_go_into_formats_that_hold_them(folder, capsys):
    extension, encode, classes, _ = ENCODINGS['16 bits']
    make(folder, extension, encode, classes)
    assert run_train(*QUICK) == 0
    call = ['-m', 'checkpoints/last.pth', '-i', 'imgs/0.png', '-o']
    assert predict.main([*call, 'o.jpg']) == 2
    err = capsys.readouterr().err
    assert all(text in err for text in ('16 bits', 'o.jpg', '.png'))
    for target in ('o.png', 'o.tif', 'o.npy'):
        assert predict.main([*call, target]) == 0
        assert set(np.unique(values_of(folder / target))) <= {0, 300, 40000}


@pytest.mark.slow
def test_every_form_of_output(folder):
    drawn = make(folder, 'png', grey(0, 100, 200), 3)
    assert run_train(*QUICK) == 0
    model = ['-m', 'checkpoints/last.pth', '-i', 'imgs/0.png']
    for form in ('values', 'index', 'color', 'overlay'):
        assert predict.main([*model, '--format', form, '-o', f'{form}.png']) == 0
    index = Image.open('index.png')
    assert index.mode == 'P'
    indices = np.asarray(index)
    assert set(np.unique(indices)) <= {0, 1, 2}
    assert np.array_equal(np.asarray(Image.open('values.png')), indices * 100)
    assert Image.open('color.png').mode == Image.open('overlay.png').mode == 'RGB'
    assert predict.main([*model, '--format', 'probabilities']) == 0
    soft = read_array(folder / 'imgs/0_OUT.npy')
    assert soft.shape == (*drawn[0].shape, 3)
    assert soft.sum(axis=2) == pytest.approx(np.ones(drawn[0].shape), abs=1e-5)
    assert np.array_equal(soft.argmax(axis=2), indices)
    assert predict.main([*model, '--format', 'index', '-o', 'i.npy']) == 0
    assert np.array_equal(read_array(folder / 'i.npy'), indices)


@pytest.mark.slow
def test_probabilities_of_a_foreground_fit_a_16_bit_picture_and_those_of_more_classes_do_not(
    folder, capsys
):
    make(folder / 'two', 'png', grey(0, 255), 2)
    make(folder / 'three', 'png', grey(0, 1, 2), 3)
    for name in ('two', 'three'):
        out = ['--output', name + '/c']
        assert run_train(*QUICK, *out, images=f'{name}/imgs', masks=f'{name}/masks') == 0
    call = ['-i', 'two/imgs/0.png', '--format', 'probabilities', '-o']
    assert predict.main(['-m', 'two/c/last.pth', *call, 'p.png']) == 0
    assert predict.main(['-m', 'two/c/last.pth', *call, 'p.npy']) == 0
    picture = np.asarray(Image.open('p.png'))
    assert picture / 65535 == pytest.approx(read_array(folder / 'p.npy'), abs=1e-5)
    for model, target in (('two', 'p.jpg'), ('three', 'p.png')):
        assert predict.main(['-m', f'{model}/c/last.pth', *call, target]) == 2
        assert target in capsys.readouterr().err


def test_the_colours_of_a_palette_that_hides_classes_are_ours():
    indices = np.array([[0, 1, 2]], np.uint8)
    picture = to_image(indices, MaskEncoding([0, 1, 2], palette=[7] * 9))
    assert np.asarray(picture).tolist() == [[0, 1, 2]]
    assert len({tuple(c) for c in np.asarray(picture.convert('RGB'))[0]}) == 3


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (np.full((20, 24), 0.5), r'm\.npy: .*float64'),
        (np.full((20, 24), np.nan), r'm\.npy: .*float64'),
        (np.zeros((20, 24, 5), np.uint8), r'm\.npy: .*\(20, 24, 5\).*argmax\(axis=2\)'),
        (np.zeros((20, 24, 3), np.int64), r'm\.npy: .*int64.*\(H, W, 3\) uint8'),
        (np.zeros((20, 24), complex), r'm\.npy: .*complex128'),
        (Image.new('F', (2, 2), 0.5), r'm\.tif: .*\bF\b'),
    ],
)
def test_files_that_cannot_hold_classes_are_named_with_their_type(tmp_path, content, message):
    path = tmp_path / ('m.tif' if isinstance(content, Image.Image) else 'm.npy')
    save(content, path)
    with pytest.raises(UserError, match=message):
        values_of(path)


@pytest.mark.parametrize('name', ['m.npy', 'm.tif'])
def test_floats_that_are_whole_numbers_are_classes(tmp_path, name):
    labels = np.arange(480).reshape(20, 24) % 3
    floats = labels.astype(np.float32)
    save(Image.fromarray(floats) if name == 'm.tif' else floats, tmp_path / name)
    assert np.array_equal(load_mask(tmp_path / name, MaskEncoding([0, 1, 2]), 1.0), labels)
