"""scripts/make_demo_data.py: the files it writes, its masks, its mistakes."""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

SCRIPTS = Path(__file__).resolve().parents[2] / 'scripts'
sys.path.insert(0, str(SCRIPTS))

import demo_car  # noqa: E402
import demo_studio  # noqa: E402
import make_demo_data as demo  # noqa: E402

WIDTH, HEIGHT = 96, 64
WATCH_IMPORTS = """
import runpy, sys
try:
    runpy.run_path(sys.argv[1], run_name='__main__')
except SystemExit as end:
    print(end.code, sorted({'numpy', 'PIL'} & set(sys.modules)))
"""
NAME = re.compile(r'[0-9a-f]{12}_(0[1-9]|1[0-6])')


def write(folder, count=1, seed=0, workers=1, size=(WIDTH, HEIGHT), classes=2):
    args = argparse.Namespace(count=count, seed=seed, workers=workers, size=size, classes=classes)
    args.kind = 'cars'
    args.images, args.masks = folder / 'imgs', folder / 'masks'
    demo.main(args)
    return sorted(args.images.iterdir()), sorted(args.masks.iterdir())


def run(*arguments):
    command = [sys.executable, str(SCRIPTS / 'make_demo_data.py'), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """18 views: one whole car and two views of the next."""
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


def test_pictures_are_rgb_jpegs_of_the_size_asked_for(written):
    for path in written[0]:
        with Image.open(path) as picture:
            assert (picture.format, picture.mode, picture.size) == ('JPEG', 'RGB', (WIDTH, HEIGHT))


def test_masks_are_palette_gifs_of_zeros_and_ones(written):
    for path in written[1]:
        with Image.open(path) as mask:
            assert (mask.format, mask.mode, mask.size) == ('GIF', 'P', (WIDTH, HEIGHT))
            assert mask.getpalette()[:6] == [0, 0, 0, 255, 255, 255]
            assert np.unique(np.asarray(mask)).tolist() == [0, 1]


def test_the_files_are_the_same_whatever_the_number_of_processes(written, tmp_path):
    folders = '--images', tmp_path / 'imgs', '--masks', tmp_path / 'masks'
    done = run(*folders, '--count', 4, '--size', f'{WIDTH}x{HEIGHT}', '--workers', 2)
    assert done.returncode == 0, done.stderr
    assert re.match(
        r'4 images of 1 car \(96 x 64\) in \S+imgs, their masks in \S+masks, \d', done.stdout
    )
    again = [*(tmp_path / 'imgs').iterdir(), *(tmp_path / 'masks').iterdir()]
    assert len(again) == 8
    for path in again:
        alone = written[0][0].parents[1] / path.parent.name / path.name
        assert path.read_bytes() == alone.read_bytes()


def test_another_seed_gives_another_car_and_name(written, tmp_path):
    images, _ = write(tmp_path, seed=1)
    assert images[0].stem[:12] not in {path.stem[:12] for path in written[0]}
    first = demo_car.make_car(0, 0), demo_car.make_car(1, 0)
    assert first[0].length != first[1].length
    assert not np.array_equal(first[0].paint, first[1].paint)


def test_nothing_but_the_pictures_and_masks_is_left_behind(written):
    for paths, suffix in zip(written, ('.jpg', '.gif'), strict=True):
        assert {path.suffix for path in paths[0].parent.iterdir()} == {suffix}


def test_the_car_never_touches_the_border(views, written):
    masks = [np.asarray(mask) for _, mask, _ in views]
    for path in written[1]:
        with Image.open(path) as mask:
            masks.append(np.asarray(mask))
    for mask in masks:
        assert not mask[[0, -1]].any()
        assert not mask[:, [0, -1]].any()


def test_the_car_covers_a_plausible_share_of_the_picture(views):
    shares = [np.mean(np.asarray(mask) > 0) for _, mask, _ in views]
    assert min(shares) > 0.05
    assert max(shares) < 0.5


def test_the_mask_is_exactly_where_the_picture_differs_from_the_empty_studio(views):
    for picture, mask, empty in views:
        changed = (np.asarray(picture) != np.asarray(empty)).any(axis=2)
        grown = np.asarray(mask.filter(ImageFilter.MaxFilter(3))) > 0
        core = np.asarray(mask.filter(ImageFilter.MinFilter(3))) > 0
        assert not changed[~grown].any()
        assert changed[core].mean() > 0.98
        # a mask grown or shrunk by a pixel would fail: its rim is changed on the inside only
        inside = np.asarray(mask) > 0
        assert changed[inside].mean() > 0.97
        assert changed[grown & ~inside].mean() < 0.75


def test_written_pictures_are_light_outside_the_car_and_its_shadow(written):
    for image, mask in zip(*written, strict=True):
        with Image.open(image) as picture, Image.open(mask) as flat:
            pixels = np.asarray(picture.convert('L'))
            inside = np.asarray(flat) > 0
        waist = np.flatnonzero(inside.any(axis=1)).mean().astype(int)
        near = np.asarray(Image.fromarray(inside).filter(ImageFilter.MaxFilter(7)))
        assert pixels[:waist][~near[:waist]].min() > 150


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
    (image,), (mask,) = write(tmp_path, classes=4)
    twin = written[0][0].with_name(image.name), written[1][0].with_name(mask.name)
    assert image.read_bytes() == twin[0].read_bytes()
    with Image.open(mask) as four, Image.open(twin[1]) as two:
        four, two = np.asarray(four), np.asarray(two)
        shares = np.bincount(four.ravel()) / four.size
    assert np.array_equal(four > 0, two > 0)
    assert len(shares) == 4
    # Seen from the front: the body is the largest part, the windscreen over half as high as it.
    assert shares[1] > shares[2] > shares[3] > 0
    rows = [np.flatnonzero((four == k).any(axis=1)).mean() for k in (2, 1, 3)]
    assert rows == sorted(rows)  # windows over body over wheels


def test_files_that_are_there_already_are_kept_and_counted(tmp_path, capsys):
    (image,), (mask,) = write(tmp_path)
    first = mask.read_bytes()
    image.write_bytes(b'mine')
    mask.unlink()
    write(tmp_path)
    assert image.read_bytes() == b'mine'
    assert mask.read_bytes() == first
    assert '1 of 2 files were there already and are kept' in capsys.readouterr().out
    write(tmp_path)
    assert '2 of 2 files were there already and are kept' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--size', '640'], '--size 640: expected WxH in pixels'),
        (['--size=-3x9'], '--size -3x9: expected WxH in pixels'),
        (['--size', '20x10'], '--size 20x10: too small or too large; expected 48x32 to 8192x8192'),
        (['--size', '9000x9000'], '--size 9000x9000: too small or too large'),
        (['--count', '0'], '--count 0: expected 1 or more'),
        (['--count', 'many'], "argument --count: invalid int value: 'many'; see --help"),
        (['--seed', '-1'], '--seed -1: expected 0 or more'),
        (['--workers', '0'], '--workers 0: expected 1 or more'),
        (['--classes', '3'], 'argument --classes: invalid choice: 3'),
        (['--cuont', '3'], 'unrecognized arguments: --cuont 3; see --help'),
    ],
)
def test_a_wrong_argument_ends_in_one_line_and_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        demo.read_arguments(arguments)
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f'error: {message}')
    assert errors.count('\n') == 1


def test_a_folder_that_is_a_file_ends_in_one_line_and_code_2(tmp_path):
    (tmp_path / 'imgs').write_text('a file')
    done = run('--images', tmp_path / 'imgs', '--masks', tmp_path / 'masks', '--count', 1)
    assert done.returncode == 2
    expected = f'error: --images {tmp_path}/imgs: there is a file of that name; name a folder\n'
    assert done.stderr == expected
    assert (tmp_path / 'imgs').read_text() == 'a file'


def test_a_folder_that_cannot_be_written_to_ends_in_one_line_and_code_2(
    tmp_path, monkeypatch, capsys
):
    def refuse(**_):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(tempfile, 'TemporaryFile', refuse)
    with pytest.raises(SystemExit) as caught:
        write(tmp_path)
    assert caught.value.code == 2
    expected = f'error: --images {tmp_path}/imgs: cannot write there (Permission denied); '
    assert capsys.readouterr().err == f'{expected}name another folder\n'


def test_a_disk_that_fills_up_ends_in_one_line_and_code_2(tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Image.Image, 'save', full)
    with pytest.raises(SystemExit) as caught:
        write(tmp_path)
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith('error: [Errno 28] No space left on device')
    assert errors.count('\n') == 1


def test_help_answers_without_numpy_or_pillow():
    command = [sys.executable, '-c', WATCH_IMPORTS, str(SCRIPTS / 'make_demo_data.py'), '--help']
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith('usage: ')
    assert done.stdout.endswith('\n0 []\n')
