"""predict.py on stacks and volumes: out comes a file of as many pages, in the same place."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
import tifffile
from drawing import decode_rle
from launching import run_together
from networks import brightness_network, save
from PIL import Image

import predict
from utils.images.pages import Page
from utils.inference import results
from utils.inference.predictor import Predictor
from utils.runtime.errors import UserError

PAGES = 5


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model for grey images, a stack, and its pages as pictures of their own."""
    monkeypatch.chdir(tmp_path)
    save('MODEL.pth', brightness_network(2, 1), mask_values=[0, 1])
    write_stack('stack.tif')
    Path('single').mkdir()
    for k, page in enumerate(pages()):
        Image.fromarray(page).save(f'single/{k}.png')
    return tmp_path


def pages(count=PAGES, size=(24, 40)):
    """(count, H, W) uint8, a bright bar that moves from page to page, wider in the middle one."""
    stack = np.random.default_rng(0).integers(0, 60, (count, *size), dtype=np.uint8)
    for k, page in enumerate(stack):
        page[4:12, 5 * k : 5 * k + 6 + 5 * (k == count // 2)] = 220
    return stack


def write_stack(name, stack=None):
    first, *others = map(Image.fromarray, pages() if stack is None else stack)
    first.save(name, save_all=True, append_images=others)


def one_by_one(*options):
    """Masks of the single pictures (pages, H, W), as predict.py writes them."""
    assert predict.main(['-i', 'single', '-o', 'masks', '--overwrite', *options]) == 0
    return np.stack([np.asarray(Image.open(f'masks/{k}.png')) for k in range(PAGES)])


def by_pillow(name):
    with Image.open(name) as picture:
        found = []
        for k in range(picture.n_frames):
            picture.seek(k)
            found.append(np.array(picture))
        return np.stack(found), picture.mode


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ('output_format', 'mode', 'values'),
    [
        ('values', '1', [0, 1]),
        pytest.param('values', 'L', [0, 255], marks=slow),
        ('values', 'P', [0, 3]),
        pytest.param('values', 'RGB', [[0, 0, 0], [9, 8, 200]], marks=slow),
        pytest.param('values', 'I;16', [7, 700], marks=slow),
        pytest.param('index', 'P', [0, 255], marks=slow),
        pytest.param('color', 'RGB', [0, 255], marks=slow),
        ('overlay', 'RGB', [0, 255]),
        ('probabilities', 'I;16', [0, 255]),
    ],
)
def test_each_page_is_what_predict_writes_for_it_as_a_picture(folder, output_format, mode, values):
    save('MODEL.pth', brightness_network(2, 1), mask_values=values)
    options = ['--format', output_format, '-o']
    Path('masks').mkdir()
    masks = [f'masks/{k}.png' for k in range(PAGES)]
    inputs = [f'single/{k}.png' for k in range(PAGES)]
    assert predict.main(['-i', *inputs, *options, *masks]) == 0
    assert predict.main(['-i', 'stack.tif', *options, 'out.tif']) == 0
    expected = np.stack([np.asarray(Image.open(mask)) for mask in masks])
    found, found_mode = by_pillow('out.tif')
    assert found_mode == mode
    assert len(np.unique(found)) > 1
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(tifffile.imread('out.tif'), expected)


@pytest.mark.parametrize('output_format', ['index', pytest.param('color', marks=slow)])
def test_an_array_of_a_stack_has_an_axis_of_pages(folder, output_format):
    options = ['--format', output_format, '-o']
    assert predict.main(['-i', 'stack.tif', *options, 'stack.npy']) == 0
    inputs, arrays = ([f'{k}{end}' for k in range(PAGES)] for end in ('.png', '.npy'))
    assert predict.main(['-i', *(f'single/{name}' for name in inputs), *options, *arrays]) == 0
    expected = np.stack([np.load(name) for name in arrays])
    found = np.load('stack.npy')
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_probabilities_of_a_stack_are_an_array_by_default(folder):
    assert predict.main(['-i', 'stack.tif', '--format', 'probabilities']) == 0
    found = np.load('stack_OUT.npy')
    assert (found.shape, found.dtype) == (pages().shape, np.float32)
    np.testing.assert_array_equal(found > 0.5, one_by_one())


@pytest.mark.parametrize('count', [pytest.param(1, marks=slow), 3])
def test_batches_and_largest_components_are_of_pages(folder, count):
    expected = one_by_one('--largest-component')
    command = ['-i', 'stack.tif', '--largest-component', '--batch-size', str(count)]
    assert predict.main(command) == 0
    np.testing.assert_array_equal(by_pillow('stack_OUT.tif')[0], expected)


def test_a_batch_of_pages_is_one_step_of_the_network(folder, monkeypatch):
    seen, original = [], Predictor.predict_batch

    def spy(self, images):
        seen.append(len(images))
        return original(self, images)

    monkeypatch.setattr(Predictor, 'predict_batch', spy)
    assert predict.main(['-i', 'stack.tif', '--batch-size', '4']) == 0
    assert seen == [4, 1]


def test_a_stack_is_one_line_and_its_pages_are_counted(folder, capsys):
    assert predict.main(['-i', 'stack.tif']) == 0
    out = capsys.readouterr().out
    assert 'Predicting image stack.tif (5 pages) ... done: 0 ' in out
    assert out.count('Mask saved to stack_OUT.tif') == out.count('Predicting image') == 1
    assert '5 images of 1 file in' in out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            ['-i', 'stack.tif', '-o', 'mask.png'],
            'the 5 pages of stack.tif into mask.png; expected a name that ends in .tif, .tiff, ',
        ),
        (['-i', 'stack.tif', '-o', 'mask.nii.gz'], 'expected a name that ends in .tif, .tiff, .np'),
        (['-i', 'single/0.png', '-o', 'mask.nii'], 'cannot write mask.nii; expected a name that'),
        (['-i', 'single', 'stack.tif', '-o', 'old'], '1 of 6 masks exist already: old/stack.tif'),
    ],
)
def test_names_that_do_not_fit_are_refused_before_the_model_is_loaded(
    folder, capsys, monkeypatch, arguments, message
):
    Path('old').mkdir()
    Path('old/stack.tif').write_text('x')
    monkeypatch.setattr(Predictor, 'load', None)  # calling it would be a TypeError
    assert predict.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_stacks_and_pictures_of_a_folder_keep_their_kinds_and_existing_ones_are_kept(
    folder, capsys
):
    Path('stack.tif').rename('single/stack.tif')
    Path('out').mkdir()
    Path('out/0.png').write_text('old')
    for _ in range(2):
        assert predict.main(['-i', 'single', '-o', 'out', '--skip-existing']) == 0
        names = {path.name for path in Path('out').iterdir()}
        assert names == {*(f'{k}.png' for k in range(PAGES)), 'stack.tif'}
    assert 'nothing to do' in capsys.readouterr().out
    assert predict.main(['-i', 'single']) == 0
    capsys.readouterr()
    assert predict.main(['-i', 'single', '--overwrite', '-n']) == 0  # outputs are no inputs
    assert 'ignored: 0_OUT.png' in capsys.readouterr().out


def damage(name, page):
    """Make a page of an uncompressed stack unreadable: its pixels are behind the file's end."""
    with tifffile.TiffFile(name, mode='r+b') as file:
        file.pages[page].tags['StripOffsets'].overwrite([10**6])


def test_a_page_that_cannot_be_read_makes_its_file_a_failure_and_no_other(folder, capsys):
    write_stack('single/bad.tif')
    damage('single/bad.tif', 3)
    assert predict.main(['-i', 'single', 'stack.tif', '-o', 'out', '--rle', 'runs.csv']) == 1
    err = capsys.readouterr().err
    assert '1 of 7 images could not be read' in err
    assert 'bad.tif:3 cannot be read' in err
    names = {path.name for path in Path('out').iterdir()}
    assert names == {*(f'{k}.png' for k in range(PAGES)), 'stack.tif'}
    assert not [line for line in Path('runs.csv').read_text().splitlines() if 'bad' in line]
    assert predict.main(['-i', 'single/bad.tif', '-o', 'bad.tif']) == 2
    assert 'bad.tif:3 cannot be read' in capsys.readouterr().err
    assert not Path('bad.tif').exists()


def test_pages_after_one_that_cannot_be_read_are_not_predicted(folder, capsys, monkeypatch):
    write_stack('bad.tif', pages(40))
    damage('bad.tif', 0)
    Image.open('single/0.png').save('good.png')
    seen, original = [], Predictor.predict_batch

    def spy(self, images):
        seen.append(len(images))
        return original(self, images)

    monkeypatch.setattr(Predictor, 'predict_batch', spy)
    assert predict.main(['-i', 'bad.tif', 'good.png', '-n']) == 1
    assert 'bad.tif:0 cannot be read' in capsys.readouterr().err
    assert 1 <= len(seen) <= 17  # those that eight threads had begun, and the picture


def test_run_lengths_are_of_pages_by_file_and_page(folder):
    assert predict.main(['-i', 'stack.tif', '--rle', 'runs.csv']) == 0
    assert not Path('stack_OUT.tif').exists()
    with Path('runs.csv').open() as file:
        rows = [*csv.DictReader(file)]
    assert [row['img'] for row in rows] == [f'stack.tif:{k}' for k in range(PAGES)]
    expected = one_by_one()
    for row, mask in zip(rows, expected, strict=True):
        np.testing.assert_array_equal(decode_rle(row['rle_mask'], mask.shape[::-1]), mask)


def test_the_figure_of_a_stack_shows_the_page_with_most_foreground(folder, monkeypatch):
    shown = []

    def show(image, indices, title, path, background):
        shown.append((title, path.name, indices))

    monkeypatch.setattr(results, 'show_or_save', show)
    assert predict.main(['-i', 'stack.tif', '--viz']) == 0
    ((title, name, indices),) = shown
    assert (title, name) == ('stack.tif:2', 'stack_VIZ.png')
    np.testing.assert_array_equal(indices, by_pillow('stack_OUT.tif')[0][2])


def test_python_gets_an_array_of_all_pages_or_one_page(folder):
    predictor = Predictor.load('MODEL.pth')
    expected = one_by_one()
    np.testing.assert_array_equal(predictor.predict_file('stack.tif'), expected)
    np.testing.assert_array_equal(predictor.predict_file(Page(Path('stack.tif'), 3)), expected[3])
    page = predictor.predict_image(Page(Path('stack.tif'), 3))
    np.testing.assert_array_equal(page, expected[3])
    with pytest.raises(UserError, match='holds 5 pictures'):
        predictor.predict_image('stack.tif')


@pytest.mark.slow
def test_planes_are_channels_where_the_network_takes_so_many_and_else_pages(folder):
    stack = pages(3)
    tifffile.imwrite('planes.tif', stack, imagej=True, metadata={'axes': 'CYX'})
    assert predict.main(['-i', 'planes.tif']) == 0
    assert tifffile.imread('planes_OUT.tif').shape == stack.shape
    save('three.pth', brightness_network(2, 3), mask_values=[0, 1])
    assert predict.main(['-i', 'planes.tif', '-m', 'three.pth']) == 0
    assert np.asarray(Image.open('planes_OUT.png')).shape == stack.shape[1:]
    assert Predictor.load('three.pth').predict_file('planes.tif').shape == stack.shape[1:]


def test_a_compressed_picture_gives_a_png(folder):
    Image.fromarray(pages()[1]).save('one.pgm')
    Path('one.pgm.gz').write_bytes(gzip.compress(Path('one.pgm').read_bytes()))
    assert predict.main(['-i', 'one.pgm.gz']) == 0
    np.testing.assert_array_equal(Image.open('one_OUT.png'), one_by_one()[1])
    Path('gz').mkdir()
    Path('one.pgm.gz').rename('gz/one.pgm.gz')
    for options in ([], ['--overwrite']):  # the second time, one_OUT.png is no input
        assert predict.main(['-i', 'gz', *options]) == 0
    assert sorted(path.name for path in Path('gz').iterdir()) == ['one.pgm.gz', 'one_OUT.png']


def predict_on_two_ranks(rank):
    stacks = ['stack.tif', 'b.tif', 'c.tif']
    return predict.main(['-i', *stacks, '-o', 'out/', '--rle', 'runs.csv', '--device', 'cpu'])


@pytest.mark.slow
def test_ranks_divide_files_and_not_their_pages(folder):
    for name in ('b.tif', 'c.tif'):
        write_stack(name, pages()[::-1])
    run_together(predict_on_two_ranks, folder)
    expected = one_by_one()
    np.testing.assert_array_equal(by_pillow('out/stack.tif')[0], expected)
    np.testing.assert_array_equal(by_pillow('out/b.tif')[0], expected[::-1])
    np.testing.assert_array_equal(by_pillow('out/c.tif')[0], expected[::-1])
    names = [line.split(',')[0] for line in Path('runs.csv').read_text().splitlines()[1:]]
    assert len(names) == 3 * PAGES
