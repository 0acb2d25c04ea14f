"""train.py --check: everything wrong with a data set in one report, grouped, with exit code 2."""

import json
from pathlib import Path

import numpy as np
import pytest
from drawing import data_set
from PIL import Image
from running import run_train

from unet import UNet
from utils.data.consistency import same_content
from utils.inference.checkpoint import Checkpoint, load_checkpoint, model_config, save_checkpoint


def report(capsys, *options, code=2):
    assert run_train('--check', *options) == code
    return capsys.readouterr().out


def spoil(folder):
    """Twelve good pairs, and one of each thing that can be wrong."""
    images, masks = data_set(folder, 20)
    (masks / 'disc00.png').unlink()
    Image.new('L', (48, 32)).save(images / 'disc01.jpg')
    (images / 'disc02.png').write_bytes((images / 'disc02.png').read_bytes()[:500])
    (images / 'disc03.png').write_bytes(b'')
    (masks / 'disc03.png').write_bytes(b'')
    (images / 'disc04.png').unlink()
    (images / 'disc04.pgm').write_bytes(b'P5 100000 100000 255\n0')
    Image.new('L', (20, 10)).save(masks / 'disc05.png')
    Image.new('RGB', (48, 32), 'red').save(masks / 'disc06.png')
    np.save(images / 'disc07.npy', np.zeros((32, 48, 5), np.uint8))
    (images / 'disc07.png').unlink()
    return images, masks


def test_a_data_set_in_order_is_described_and_nothing_is_written(folder, capsys):
    data_set(folder, 8, values=(0, 128, 255))
    (folder / 'classes.json').write_text('{"ground": 0, "rim": 128, "disc": 255}')
    text = report(capsys, code=0)
    assert 'imgs and masks: 8 pairs, 7 to train on, 1 to validate on' in text
    assert 'modes: RGB (8)' in text
    assert 'sizes: 48 x 32 (8)' in text
    assert 'mask kinds: grey (8)' in text
    assert 'class 1 rim: value 128, ' in text
    assert ' % of the pixels, in 8 masks' in text
    assert text.endswith('nothing is wrong\n')
    assert not (folder / 'checkpoints').exists()


def test_all_that_is_wrong_comes_at_once_grouped_and_with_names(folder, capsys):
    spoil(folder)
    text = report(capsys, '--json', 'report.json')
    for line in (
        '1 without a mask:\n  imgs/disc00.png has no mask disc00.*',
        '1 more than one file of a name:\n  imgs/disc01.jpg and imgs/disc01.png',
        '1 truncated:\n  imgs/disc02.png cannot be read',
        '2 unreadable:\n  imgs/disc03.png cannot be read',
        '  masks/disc03.png cannot be read',
        '1 too large:\n  imgs/disc04.pgm is too large',
        '1 image and mask differ in size:\n  imgs/disc05.png is 48 x 32 but its mask',
        '1 masks of different kinds:\n  masks are of different kinds: 1 in colour (masks/disc06',
        '1 channels:\n  images have different numbers of channels',
        '\n9 problems\n',
    ):
        assert line in text, line
    content = json.loads((folder / 'report.json').read_text())
    assert len(content['problems']) == 9
    assert content['pairs'] == 18
    assert content['sizes'] == {'48 x 32': 15}
    assert {row['value'] if isinstance(row['value'], int) else tuple(row['value'])
            for row in content['classes']} >= {(0, 0, 0), (255, 0, 0)}  # fmt: skip
    assert not (folder / 'checkpoints').exists()


def test_many_problems_of_a_kind_are_counted_and_three_are_shown(folder, capsys):
    images, _ = data_set(folder, 9)
    for path in sorted(images.iterdir())[:7]:
        path.write_bytes(b'')
    text = report(capsys)
    assert '7 unreadable:' in text
    assert text.count('cannot be read') == 3
    assert '  and 4 more' in text


def test_problems_of_the_whole_set_are_in_it_too(folder, capsys):
    data_set(folder, 2, size=(20, 12), values=(0, 1, 2))
    text = report(capsys, '-c', '2')
    assert '1 mask values:\n  masks hold 3 distinct values' in text
    assert '1 too small:\n  2 images are too small at scale 1: disc00.png (20 x 12)' in text


def test_training_stops_with_all_that_check_reports(folder, capsys):
    spoil(folder)
    listed = report(capsys).partition('1 channels:')[2]
    assert run_train() == 2
    assert (
        capsys.readouterr().err
        == f'error: 9 problems with the data:\n1 channels:{listed}'.replace('\n9 problems\n', '\n')
    )


def test_a_mistake_beside_the_data_comes_before_the_datas(folder, capsys):
    data_set(folder, 4)
    (folder / 'masks/disc02.png').unlink()
    model = UNet(1, 2, base_channels=1)
    checkpoint = Checkpoint(model_config(model), model.state_dict(), [0, 255], 1.0)
    save_checkpoint(checkpoint, Path('m.pth'))
    assert run_train('--load', 'm.pth', '--channels', '3') == 2
    err = capsys.readouterr().err
    assert err.startswith('error: --channels is 3 but the weights to start from take 1. Leave')
    assert '\n1 problem with the data:\n1 without a mask:\n  imgs/disc02.png has no mask' in err


def test_training_without_the_bad_pairs_records_what_was_left_out(folder, capsys):
    images, _ = spoil(folder)
    (images / 'disc07.npy').unlink()
    assert run_train('-e', '1', '-v', '0') == 2
    capsys.readouterr()
    assert run_train('-e', '1', '-v', '0', '--skip-bad') == 0
    out = capsys.readouterr().out
    assert '12 images to train on' in out
    assert 'note: left out for 8 problems: ' in out
    lines = (folder / 'checkpoints/left_out.txt').read_text().splitlines()
    assert len(lines) == 8
    assert any('disc05.png is 48 x 32 but its mask' in line for line in lines)
    assert load_checkpoint('checkpoints/last.pth').mask_values == [0, 255]
    assert run_train('--resume', '-e', '2') == 0


def test_a_set_of_bad_pairs_alone_leaves_nothing_to_train_on(folder, capsys):
    images, _ = data_set(folder, 2)
    for path in images.iterdir():
        path.write_bytes(b'')
    assert run_train('--skip-bad') == 2
    assert 'no pair is left; left out for imgs/disc00.png cannot be read' in capsys.readouterr().err


def test_images_on_both_sides_of_the_split_are_pointed_out(folder, capsys):
    images, _ = data_set(folder, 8)
    first = (images / 'disc00.png').read_bytes()
    for path in images.iterdir():
        path.write_bytes(first)
    text = report(capsys, code=0)
    assert 'note: 1 images to validate on are also trained on, under another name' in text
    assert run_train('-e', '1') == 0
    assert 'also trained on' in capsys.readouterr().out


def test_files_of_one_size_are_told_apart_by_content(tmp_path):
    names = [tmp_path / str(k) for k in range(4)]
    for path, content in zip(names, ('ab', 'ac', 'ac', 'abc'), strict=True):
        path.write_text(content * 5000)
    assert same_content(names[:2], names[2:]) == [(names[1], names[2])]
    names[2].write_text('ac' * 4999 + 'ad')  # beyond the samples
    assert same_content(names[:2], names[2:]) == []


def test_a_near_empty_class_is_pointed_out(folder, capsys):
    _, masks = data_set(folder, 2, size=(64, 48))
    mask = np.asarray(Image.open(masks / 'disc00.png')).copy()
    mask[0, 0] = 7
    Image.fromarray(mask).save(masks / 'disc00.png')
    assert 'note: class 7 is 0.016 % of the pixels' in report(capsys, code=0)


def test_mistakes_in_options_and_folders_are_errors_as_ever(folder, capsys):
    data_set(folder, 2)
    with pytest.raises(SystemExit):
        run_train('--json', 'x.json')
    assert '--json writes the report of --check' in capsys.readouterr().err
    assert run_train('--check', '--json', 'no/r.json') == 2
    assert 'no/r.json cannot be written: no folder no ' in capsys.readouterr().err
    assert run_train('--check', images='nowhere') == 2
    assert 'nowhere does not exist' in capsys.readouterr().err
    assert run_train('--check', '--snap-masks') == 2
    assert '--snap-masks needs to know the values' in capsys.readouterr().err
