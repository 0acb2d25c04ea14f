"""scripts/make_demo_data.py: its files, its masks of cars and cells, its errors."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from running import rows

import predict
import train
from utils.inference.checkpoint import load_checkpoint
from utils.masks.components import label_components

SCRIPTS = Path(__file__).resolve().parents[2] / 'scripts'
sys.path.insert(0, str(SCRIPTS))

import make_demo_data  # noqa: E402
from demo import car as demo_car  # noqa: E402
from demo import cells as demo_cells  # noqa: E402
from demo import studio as demo_studio  # noqa: E402

WIDTH, HEIGHT = 96, 64
NAME = re.compile(r'[0-9a-f]{12}_(0[1-9]|1[0-6])')


def options(folder):
    return ['--images', str(folder / 'imgs'), '--masks', str(folder / 'masks')]


def write(folder, count=1, more='', size=f'{WIDTH}x{HEIGHT}'):
    command = f'--count {count} --size {size} --workers 1 {more}'.split()
    make_demo_data.render(make_demo_data.get_args([*command, *options(folder)]))
    return sorted((folder / 'imgs').iterdir()), sorted((folder / 'masks').iterdir())


def run(*arguments):
    command = [sys.executable, str(SCRIPTS / 'make_demo_data.py'), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def opened(paths):
    return [Image.open(path) for path in paths]


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """The files of 18 views: a whole car and two views of the next."""
    return write(tmp_path_factory.mktemp('demo'), count=18)


@pytest.fixture(scope='module')
def views():
    """Picture, mask and empty studio of every kind of car from two sides."""
    found = []
    for index in range(6):
        car = demo_car.make_car(3, index)
        for view in ((1, 8), (5, 11), (3, 9))[index % 3]:
            picture, parts = demo_studio.render_view(car, view, (240, 160))
            mask = Image.fromarray(np.uint8(parts > 0) * 255)
            angle = 2 * np.pi * (view - 1) / 16
            empty = demo_studio.studio(car, angle, (240, 160)).reduce(2)
            found.append((picture, mask, empty))
    return found


@pytest.mark.slow
def test_a_car_has_16_numbered_views_and_the_last_car_may_be_cut_short(written):
    images, masks = written
    stems = [path.stem for path in images]
    assert len(stems) == 18
    assert all(NAME.fullmatch(stem) for stem in stems)
    assert [path.name for path in masks] == [f'{stem}_mask.gif' for stem in stems]
    assert {path.suffix for path in images} == {'.jpg'}
    cars = {stem[:12] for stem in stems}
    views = sorted(sorted(stem[13:] for stem in stems if stem.startswith(car)) for car in cars)
    assert views == [['01', '02'], [f'{view:02d}' for view in range(1, 17)]]


@pytest.mark.slow
def test_images_are_rgb_jpegs_and_masks_palette_gifs_of_zeros_and_ones(written):
    for image, mask in zip(*map(opened, written), strict=True):
        assert (image.format, image.mode, image.size) == ('JPEG', 'RGB', (WIDTH, HEIGHT))
        assert (mask.format, mask.mode, mask.size) == ('GIF', 'P', (WIDTH, HEIGHT))
        assert mask.getpalette()[:6] == [0, 0, 0, 255, 255, 255]
        assert np.unique(np.asarray(mask)).tolist() == [0, 1]
    for paths in written:
        assert len(list(paths[0].parent.iterdir())) == 18  # and no temporary files


@pytest.mark.slow
def test_the_number_of_processes_changes_no_file(written, tmp_path):
    size = f'{WIDTH}x{HEIGHT}'
    done = run(*options(tmp_path), '--count', 4, '--size', size, '--workers', 2)
    assert done.returncode == 0, done.stderr
    assert re.match(r'4 images of 1 car \(96 x 64\) in \S+imgs.*masks', done.stdout)
    again = [*(tmp_path / 'imgs').iterdir(), *(tmp_path / 'masks').iterdir()]
    assert len(again) == 8
    for path in again:
        alone = written[0][0].parents[1] / path.parent.name / path.name
        assert path.read_bytes() == alone.read_bytes()


def test_another_seed_gives_another_car_and_name(written, tmp_path):
    images, _ = write(tmp_path, more='--seed 1')
    assert images[0].stem[:12] not in {path.stem[:12] for path in written[0]}
    first = demo_car.make_car(0, 0), demo_car.make_car(1, 0)
    assert first[0].length != first[1].length
    assert not np.array_equal(first[0].paint, first[1].paint)


@pytest.mark.slow
def test_the_car_covers_a_plausible_fraction_and_never_touches_the_border(views, written):
    inside = [np.asarray(mask) > 0 for _, mask, _ in views]
    assert min(map(np.mean, inside)) > 0.05
    assert max(map(np.mean, inside)) < 0.5
    for mask in [*inside, *map(np.asarray, opened(written[1]))]:
        assert not mask[[0, -1]].any()
        assert not mask[:, [0, -1]].any()


@pytest.mark.slow
def test_the_mask_is_exactly_where_the_picture_differs_from_the_empty_studio(views):
    for picture, mask, empty in views:
        changed = (np.asarray(picture) != np.asarray(empty)).any(axis=2)
        grown = np.asarray(mask.filter(ImageFilter.MaxFilter(3))) > 0
        core = np.asarray(mask.filter(ImageFilter.MinFilter(3))) > 0
        assert not changed[~grown].any()
        assert changed[core].mean() > 0.98
        # Fails for a mask that is a pixel too large or too small.
        inside = np.asarray(mask) > 0
        assert changed[inside].mean() > 0.97
        assert changed[grown & ~inside].mean() < 0.75


def test_images_are_light_outside_the_car_and_its_shadow(written):
    for image, mask in zip(*map(opened, written), strict=True):
        pixels, inside = np.asarray(image.convert('L')), np.asarray(mask) > 0
        waist = np.flatnonzero(inside.any(axis=1)).mean().astype(int)
        near = np.asarray(Image.fromarray(inside).filter(ImageFilter.MaxFilter(7)))
        assert pixels[:waist][~near[:waist]].min() > 150


@pytest.mark.slow
def test_the_mask_has_no_holes_but_under_rails_and_a_pixel_behind_a_mirror_or_wheel(views):
    for _, mask, _ in views:
        filled = mask.copy()
        ImageDraw.floodfill(filled, (0, 0), 128)
        holes = np.asarray(filled) == 0
        assert holes.sum() <= 40
        top = np.flatnonzero(np.asarray(mask).any(axis=1))[0]
        assert holes[top + 30 :].sum() <= 3


def test_parts_tell_body_windows_and_wheels_apart():
    car = demo_car.make_car(0, 0)
    canvas = demo_studio.Canvas(demo_studio.studio(car, 0.8, (120, 80)), 0.8)
    demo_studio.paint_car(canvas, car)
    assert set(np.unique(np.asarray(canvas.parts))) == {0, *map(int, demo_car.Part)}


def test_four_classes_are_studio_body_windows_and_wheels_of_the_same_cars(written, tmp_path):
    (image,), (mask,) = write(tmp_path, more='--classes 4')
    twin = written[0][0].with_name(image.name), written[1][0].with_name(mask.name)
    assert image.read_bytes() == twin[0].read_bytes()
    four, two = map(np.asarray, opened([mask, twin[1]]))
    assert np.array_equal(four > 0, two > 0)
    # Seen from the front: the body is the largest part, the windscreen over half as high as it.
    pixels = np.bincount(four.ravel())
    assert len(pixels) == 4
    assert pixels[1] > pixels[2] > pixels[3] > 0
    heights = [np.flatnonzero((four == k).any(axis=1)).mean() for k in (2, 1, 3)]
    assert heights == sorted(heights)  # windows over body over wheels


@pytest.mark.slow
def test_four_classes_are_learned_and_predicted_in_the_encoding_of_the_masks(folder):
    write(folder, 48, '--classes 4', '192x128')
    data = ['--images', 'imgs', '--masks', 'masks', '--wandb', 'disabled', '--device', 'cpu']
    assert train.main([*data, '-e', '6', '-s', '1', '--base-channels', '16']) == 0
    assert float(rows()[-1]['dice_dataset']) > 0.8  # the mean of the three foreground classes
    assert load_checkpoint('checkpoints/best.pth').masks.values == [0, 1, 2, 3]

    image = sorted((folder / 'imgs').iterdir())[0]
    assert predict.main(['-m', 'checkpoints/best.pth', '-i', str(image), '-o', 'mask.png']) == 0
    truth, found = opened([folder / 'masks' / f'{image.stem}_mask.gif', 'mask.png'])
    assert found.mode == truth.mode == 'P'
    assert found.getpalette()[:12] == truth.getpalette()[:12]
    assert (np.asarray(found) == np.asarray(truth)).mean() > 0.95
    assert set(np.unique(found)) == {0, 1, 2, 3}


def test_cells_are_grey_images_with_masks_of_the_same_names_and_the_same_each_time(tmp_path):
    files = {}
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        paths = write(tmp_path / name, 2, f'--kind cells --seed {seed}')
        assert [[path.name for path in group] for group in paths] == 2 * [
            ['cells_0000.png', 'cells_0001.png']
        ]
        files[name] = [path.read_bytes() for group in paths for path in group]
    assert files['a'] == files['b'] != files['c']
    (mask,) = opened([tmp_path / 'a/masks/cells_0000.png'])
    assert (mask.mode, mask.size, np.unique(mask).tolist()) == ('L', (WIDTH, HEIGHT), [0, 255])


@pytest.mark.slow
def test_cells_touch_along_lines_that_are_little_darker_than_they_are():
    picture, mask = map(np.asarray, demo_cells.render_cells(0, 0, (256, 256)))
    cells = label_components(mask)
    assert cells.max() > 60
    beside = ImageFilter.MaxFilter(5)
    grown = np.asarray(Image.fromarray(mask).filter(beside).filter(ImageFilter.MinFilter(9)))
    line = (grown > 0) & (mask == 0)  # background that cells enclose within two pixels
    assert line.sum() > 500
    assert 5 < picture[mask > 0].mean() - picture[line].mean() < 40


def test_other_pictures_in_the_folder_are_told_of(tmp_path, capsys):
    write(tmp_path)
    assert 'other files' not in capsys.readouterr().out
    write(tmp_path, more='--seed 1')
    assert (
        f'note: 1 other files are in {tmp_path / "imgs"}, and training' in capsys.readouterr().out
    )


def test_existing_files_are_kept_and_counted(tmp_path, capsys):
    (image,), (mask,) = write(tmp_path)
    first = mask.read_bytes()
    image.write_bytes(b'mine')
    mask.unlink()
    for kept in (1, 2):
        write(tmp_path)
        assert (image.read_bytes(), mask.read_bytes()) == (b'mine', first)
        assert f'{kept} of 2 files were there already' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ('--size 640', '--size 640: expected WxH in pixels'),
        ('--size=-3x9', '--size -3x9: expected WxH in pixels'),
        ('--size 20x10', '--size 20x10: too small or too large; expected 48x32 to 8192x8192'),
        ('--size 9000x9000', '--size 9000x9000: too small or too large'),
        ('--count 0', '--count 0: expected 1 or more'),
        ('--count many', "argument --count: invalid int value: 'many'"),
        ('--seed -1', '--seed -1: expected 0 or more'),
        ('--workers 0', '--workers 0: expected 1 or more'),
        ('--classes 3', 'argument --classes: invalid choice: 3'),
        ('--kind cells --classes 4', '--classes 4: cells have 2'),
        ('--cuont 3', 'unrecognized arguments: --cuont 3'),
    ],
)
def test_a_wrong_argument_ends_in_one_line_and_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        make_demo_data.get_args(arguments.split())
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f'error: {message}')
    assert errors.count('\n') == 1


def raises(error):
    def function(*_, **__):
        raise error

    return function


@pytest.mark.parametrize(
    ('where', 'name', 'error', 'words'),
    [
        (None, None, None, ['--images', 'imgs: there is a file of that name']),
        (tempfile, 'TemporaryFile', PermissionError(13, 'denied'), ['--images', 'imgs', 'denied']),
        (Image.Image, 'save', OSError(28, 'No space left on device'), ['No space left on device']),
    ],
)
def test_a_folder_that_cannot_be_written_to_ends_in_one_line_and_code_2(
    tmp_path, monkeypatch, capsys, where, name, error, words
):
    if error:
        monkeypatch.setattr(where, name, raises(error))
    else:
        (tmp_path / 'imgs').write_text('a file')
    with pytest.raises(SystemExit) as caught:
        write(tmp_path)
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith('error: ')
    assert errors.count('\n') == 1
    assert all(word in errors for word in words)
    assert error or (tmp_path / 'imgs').read_text() == 'a file'
