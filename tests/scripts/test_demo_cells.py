"""scripts/make_demo_data.py --kind cells: what it writes, and cells that touch."""

import numpy as np
from PIL import Image, ImageFilter
from test_make_demo_data import demo, run  # which makes the scripts importable

import demo_cells  # isort: skip
from utils.masks.components import label_components


def write_cells(folder, seed=0):
    options = f'--kind cells --count 2 --size 96x64 --workers 1 --seed {seed}'.split()
    folders = ['--images', str(folder / 'imgs'), '--masks', str(folder / 'masks')]
    demo.main(demo.read_arguments(options + folders))
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob('*.png'))}


def test_cells_are_grey_pictures_with_masks_of_the_same_names_and_the_same_each_time(tmp_path):
    first = write_cells(tmp_path / 'a')
    names = ['imgs/cells_0000.png', 'imgs/cells_0001.png', 'masks/cells_0000.png']
    assert [str(name) for name in first] == [*names, 'masks/cells_0001.png']
    assert write_cells(tmp_path / 'b') == first
    assert write_cells(tmp_path / 'c', seed=1) != first
    with Image.open(tmp_path / 'a/masks/cells_0000.png') as mask:
        assert (mask.mode, mask.size, np.unique(mask).tolist()) == ('L', (96, 64), [0, 255])


def test_cells_touch_along_lines_that_are_little_darker_than_they_are():
    picture, mask = demo_cells.render_cells(0, 0, (256, 256))
    cells = label_components(mask)
    assert cells.max() > 60
    beside = ImageFilter.MaxFilter(5)
    grown = np.asarray(Image.fromarray(mask).filter(beside).filter(ImageFilter.MinFilter(9)))
    line = (grown > 0) & (mask == 0)  # background that cells enclose within two pixels
    assert line.sum() > 500
    assert 5 < picture[mask > 0].mean() - picture[line].mean() < 40


def test_classes_of_cells_are_refused():
    result = run('--kind', 'cells', '--classes', '4')
    assert result.returncode == 2
    assert result.stderr == 'error: --classes 4: cells have 2; leave it out\n'
