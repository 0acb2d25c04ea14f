"""make_demo_data.py --kind streets: 12 named values, thin things, the same files each time."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import rows

import train
from utils.inference.checkpoint import load_checkpoint

SCRIPTS = Path(__file__).resolve().parents[2] / 'scripts'
sys.path.insert(0, str(SCRIPTS))

import make_demo_data  # noqa: E402
from demo import streets  # noqa: E402
from demo.street_scenes import photograph_street  # noqa: E402

NAMES = 'sky building pole road pavement tree sign fence car pedestrian cyclist unlabelled'.split()
THIN = [NAMES.index(name) for name in ('pole', 'sign', 'fence', 'pedestrian', 'cyclist')]


def write(folder, more):
    options = f'--kind streets --workers 1 --images {folder}/imgs --masks {folder}/masks {more}'
    make_demo_data.render(make_demo_data.get_args(options.split()))


@pytest.fixture(scope='module')
def scenes():
    """Pictures (N, H, W, 3) and masks (N, H, W) of a few streets."""
    drawn = [photograph_street(0, index, (160, 120)) for index in range(8)]
    return [
        np.stack([np.asarray(image) for image in images]) for images in zip(*drawn, strict=True)
    ]


@pytest.mark.slow
def test_the_files_have_the_same_stem_and_depend_on_seed_and_number_alone(tmp_path):
    files = {}
    for name, more in (('a', '--count 2'), ('b', '--count 1'), ('c', '--count 1 --seed 1')):
        write(tmp_path / name, f'{more} --size 96x72')
        folders = tmp_path / name / 'imgs', tmp_path / name / 'masks'
        files[name] = {path.name: path.read_bytes() for at in folders for path in at.iterdir()}
    assert sorted(files['a']) == [
        'classes.csv', 'street_0000.jpg', 'street_0000.png', 'street_0001.jpg', 'street_0001.png'
    ]  # fmt: skip
    assert files['b'].items() < files['a'].items()
    assert all(
        files['c'][name] != files['b'][name] for name in ('street_0000.jpg', 'street_0000.png')
    )
    with Image.open(tmp_path / 'a/masks/street_0000.png') as mask:
        assert (mask.mode, mask.size) == ('P', (96, 72))
        assert mask.getpalette()[3:6] == [128, 0, 0]  # of CamVid's buildings


def test_the_default_size_is_half_that_of_camvid_and_classes_cannot_be_chosen(capsys):
    assert make_demo_data.get_args(['--kind', 'streets']).size == (240, 180)
    with pytest.raises(SystemExit):
        make_demo_data.get_args('--kind streets --classes 4'.split())
    assert '--classes 4: streets have 12; leave it out' in capsys.readouterr().err


@pytest.mark.slow
def test_shares_are_those_of_a_street(scenes):
    _, masks = scenes
    shares = np.bincount(masks.ravel(), minlength=12) / masks.size
    assert list(streets.CLASSES) == NAMES
    assert (shares > 0).all()
    assert shares[THIN].max() < 0.02
    assert shares[[NAMES.index(name) for name in ('building', 'road')]].min() > 0.15
    assert shares[NAMES.index('unlabelled')] < 0.02


@pytest.mark.slow
def test_colour_alone_does_not_tell_thin_things(scenes):
    """The most likely class of each colour, of 8 levels a channel, finds few of their pixels."""
    images, masks = scenes
    colours = (images // 32).astype(int) @ [64, 8, 1]
    table = np.zeros((512, 12))
    np.add.at(table, (colours.ravel(), masks.ravel()), 1)
    found = table.argmax(axis=1)[colours]
    for k in THIN:
        assert (found[masks == k] == k).mean() < 0.4


@pytest.mark.slow
def test_training_knows_the_names_and_leaves_the_unlabelled_out(folder, capsys):
    write(folder, '--count 4 --size 96x72')
    assert train.main('--images imgs --masks masks -s 1 --check'.split()) == 0
    said = capsys.readouterr().out
    assert [f'class {k} {name}: value {k}' in said for k, name in enumerate(NAMES)] == 11 * [
        True
    ] + [False]
    assert 'unlabelled' in said


@pytest.mark.slow
def test_no_class_of_a_street_is_left_unlearned(folder):
    """With 1 - Dice, and one rate at all widths, the thin ones ended at 0 (seed 0: mean 0.40)."""
    write(folder, '--count 100 --size 128x96')
    options = '-e 6 -s 1 -v 20 --base-channels 16 --wandb disabled --device cpu --amp'
    assert train.main(f'--images imgs --masks masks {options}'.split()) == 0
    classes = load_checkpoint('checkpoints/last.pth').metrics['classes']
    assert min(row['dice_dataset'] for row in classes) > 0.1
    assert float(rows()[-1]['dice_dataset']) > 0.47
