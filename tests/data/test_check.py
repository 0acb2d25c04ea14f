"""train.py --check: contents and problems of a data set in one report."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from drawing import data_set
from PIL import Image
from running import run_train

from unet import UNet
from utils.data.consistency import find_duplicates
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


def test_a_good_data_set_is_described_and_nothing_is_written(folder, capsys):
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


def test_all_problems_are_reported_at_once_by_kind_and_with_names(folder, capsys):
    spoil(folder)
    text = report(capsys, '--json', 'report.json')
    content = json.loads((folder / 'report.json').read_text())
    problems = content['problems']
    expected = [
        ['imgs/disc00.png', 'mask disc00.'],
        ['imgs/disc01.jpg', 'imgs/disc01.png'],
        ['imgs/disc02.png', 'truncated'],
        ['imgs/disc03.png'],
        ['masks/disc03.png'],
        ['imgs/disc04.pgm', 'too large'],
        ['imgs/disc05.png', '48 x 32', 'masks/disc05.png', '20 x 10', '--resize-masks'],
        ['in colour (masks/disc06.png)'],
        ['disc07.npy', 'channels'],
    ]
    for texts in expected:
        found = [p['text'] for p in problems if all(text in p['text'] for text in texts)]
        assert len(found) == 1, texts
        assert found[0] in text
    for kind, count in Counter(problem['kind'] for problem in problems).items():
        assert f'{count} {kind}:\n' in text
    assert '\n9 problems\n' in text
    assert len(problems) == 9
    assert content['pairs'] == 18
    assert content['sizes'] == {'48 x 32': 15}
    values = [row['value'] for row in content['classes']]
    assert all(colour in values for colour in ([0, 0, 0], [255, 0, 0]))
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
    for part in ('1 mask values:\n', '3 distinct', '1 too small:\n', 'disc00.png (20 x 12)'):
        assert part in text


def test_training_stops_with_all_that_check_reports(folder, capsys):
    spoil(folder)
    _, _, listed = report(capsys).partition('1 channels:')
    assert run_train() == 2
    _, _, stopped = capsys.readouterr().err.partition('1 channels:')
    assert stopped == listed.replace('\n9 problems\n', '\n')


def test_an_error_of_options_comes_before_the_problems_of_the_data(folder, capsys):
    data_set(folder, 4)
    (folder / 'masks/disc02.png').unlink()
    model = UNet(1, 2, base_channels=4)
    checkpoint = Checkpoint(model_config(model), model.state_dict(), [0, 255], 1.0)
    save_checkpoint(checkpoint, Path('m.pth'))
    assert run_train('--load', 'm.pth', '--channels', '3') == 2
    err = capsys.readouterr().err
    assert err.startswith('error: --channels is 3 ')
    assert '\n1 problem with the data:\n' in err
    assert 'imgs/disc02.png' in err


@pytest.mark.slow
def test_training_without_the_bad_pairs_records_what_was_left_out(folder, capsys):
    images, _ = spoil(folder)
    (images / 'disc07.npy').unlink()
    assert run_train('-e', '1', '-v', '0') == 2
    capsys.readouterr()
    assert run_train('-e', '1', '-v', '0', '--skip-bad') == 0
    out = capsys.readouterr().out
    assert '12 images to train on' in out
    assert '8 problems' in out
    lines = (folder / 'checkpoints/left_out.txt').read_text().splitlines()
    assert len(lines) == 8
    assert any('disc05.png' in line for line in lines)
    assert load_checkpoint('checkpoints/last.pth').mask_values == [0, 255]
    assert run_train('--resume', '-e', '2') == 0


def test_a_set_of_bad_pairs_alone_leaves_nothing_to_train_on(folder, capsys):
    images, _ = data_set(folder, 2)
    for path in images.iterdir():
        path.write_bytes(b'')
    assert run_train('--skip-bad') == 2
    assert 'imgs/disc00.png' in capsys.readouterr().err


def test_images_on_both_sides_of_the_split_are_pointed_out(folder, capsys):
    images, _ = data_set(folder, 8)
    first = (images / 'disc00.png').read_bytes()
    for path in images.iterdir():
        path.write_bytes(first)
    text = report(capsys, code=0)
    assert 'note: 1 images to validate on are also trained on' in text
    assert run_train('-e', '1') == 0
    assert 'also trained on' in capsys.readouterr().out


def test_files_of_one_size_are_told_apart_by_content(tmp_path):
    names = [tmp_path / str(k) for k in range(4)]
    for path, content in zip(names, ('ab', 'ac', 'ac', 'abc'), strict=True):
        path.write_text(content * 5000)
    assert find_duplicates(names[:2], names[2:]) == [(names[1], names[2])]
    names[2].write_text('ac' * 4999 + 'ad')  # beyond the samples
    assert find_duplicates(names[:2], names[2:]) == []


def test_a_near_empty_class_is_pointed_out(folder, capsys):
    _, masks = data_set(folder, 2, size=(64, 48))
    mask = np.asarray(Image.open(masks / 'disc00.png')).copy()
    mask[0, 0] = 7
    Image.fromarray(mask).save(masks / 'disc00.png')
    assert 'note: class 7 is 0.016 % of the pixels' in report(capsys, code=0)


def test_errors_of_options_and_folders_stop_the_check(folder, capsys):
    data_set(folder, 2)
    with pytest.raises(SystemExit):
        run_train('--json', 'x.json')
    assert '--check' in capsys.readouterr().err
    assert run_train('--check', '--json', 'no/r.json') == 2
    assert 'no/r.json' in capsys.readouterr().err
    assert run_train('--check', images='nowhere') == 2
    assert 'nowhere ' in capsys.readouterr().err
    assert run_train('--check', '--snap-masks') == 2
    assert '--mask-values' in capsys.readouterr().err


def test_with_skip_bad_what_would_be_left_out_is_listed_and_the_rest_is_sound(folder, capsys):
    images, masks = data_set(folder, 8)
    (masks / 'disc00.png').unlink()
    (images / 'disc01.png').write_bytes(b'')
    Image.new('L', (20, 10)).save(masks / 'disc02.png')
    assert run_train('--check') == 2
    capsys.readouterr()
    text = report(capsys, '--skip-bad', '--json', 'r.json', code=0)
    assert 'imgs and masks: 5 pairs' in text
    assert 'left out for 3 problems:' in text
    assert all(name in text for name in ('disc00.png', 'disc01.png', 'disc02.png'))
    assert text.endswith('nothing else is wrong\n')
    content = json.loads((folder / 'r.json').read_text())
    assert (content['problems'], len(content['left_out'])) == ([], 3)
    assert [item['id'] for item in content['items']] == [f'disc{k:02}' for k in range(3, 8)]
    for path in sorted(masks.iterdir())[2:]:
        Image.new('L', (48, 32)).save(path)
    report(capsys, '--skip-bad', code=2)  # one value in all masks is not the fault of some


def test_nothing_left_is_a_problem(folder, capsys):
    images, _ = data_set(folder, 2)
    for path in images.iterdir():
        path.write_bytes(b'')
    assert 'no pair is left' in report(capsys, '--skip-bad')


def test_the_report_has_all_that_rebuilds_the_items(folder, capsys):
    data_set(folder, 5, values=(0, 1, 2))
    for path in list((folder / 'masks').iterdir()):
        values = np.asarray(Image.open(path))
        for k, name in ((1, 'cat'), (2, 'dog')):
            mask = Image.fromarray((values == k).astype(np.uint8) * 255)
            mask.save(path.with_name(f'{path.stem}-{name}.png'))
        path.unlink()
    (folder / 'masks/disc00-dog.png').unlink()
    run = ['--images', 'imgs/*.png', '--masks', 'masks/*-{class}.png', '--json', 'r.json']
    report(capsys, *run, code=0)
    content = json.loads((folder / 'r.json').read_text())
    first, second = content['items'][:2]
    assert first['masks'] == [{'path': 'masks/disc00-cat.png', 'page': None, 'class': 'cat'}]
    assert [mask['class'] for mask in second['masks']] == ['cat', 'dog']
    assert second | {'masks': [], 'split': ''} == {
        'id': 'disc01', 'image': 'imgs/disc01.png', 'page': None, 'masks': [], 'split': ''
    }  # fmt: skip
    splits = Counter(item['split'] for item in content['items'])
    assert splits == {'training': content['training'], 'validation': content['validation']}
    rows = [(row['index'], row['name'], row['values']) for row in content['classes']]
    assert rows == [(0, 'background', [0]), (1, 'cat', [1]), (2, 'dog', [2])]
    assert content['rule'] == 'imgs/*.png with masks/*-{class}.png'
