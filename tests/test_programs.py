"""train.py, evaluate.py and predict.py on tiny data, from the command line to the files."""

import json

import numpy as np
import pytest
import torch
from devices import on_device
from drawing import data_set
from PIL import Image
from running import rows, run_train

import evaluate
import predict
from utils.data.splits import split_ids
from utils.inference.checkpoint import load_checkpoint


@pytest.mark.slow
@pytest.mark.parametrize(
    ('options', 'values', 'n_classes'),
    [
        (['-c', '1'], (0, 255), 1),
        ([], (0, 1), 2),
        ([], (0, 85, 170, 255), 4),
        (['--amp', '--bilinear'], (0, 255), 2),
        (['--recipe', 'classic', '-l', '1e-4'], (0, 255), 2),
    ],
)
def test_each_kind_of_network_trains_scores_and_predicts(folder, options, values, n_classes):
    data_set(folder, 10, values=values)
    assert run_train('-e', '2', '-b', '3', *options) == 0
    checkpoint = load_checkpoint('checkpoints/best.pth')
    assert checkpoint.model['n_classes'] == n_classes
    assert checkpoint.mask_values == list(values)
    assert checkpoint.scale == 1
    data = ['--images', 'imgs', '--masks', 'masks']
    assert evaluate.main(['-m', 'checkpoints/best.pth', *data, '--json', 's.json']) == 0
    scores = json.loads((folder / 's.json').read_text())
    assert len(scores['classes']) == max(2, n_classes)
    assert predict.main(['-m', 'checkpoints/best.pth', '-i', 'imgs/disc00.png']) == 0
    mask = np.asarray(Image.open('imgs/disc00_OUT.png'))
    assert mask.shape == (32, 48)
    assert set(np.unique(mask)) <= set(values)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    'options',
    [[], *(pytest.param(more, marks=SLOW) for more in (['--amp'], ['-c', '1'], ['-b', '1']))],
)
def test_training_learns(folder, options):
    data_set(folder, 12, size=(64, 48))
    settings = ['-e', '4', '-v', '20', '-l', '3e-3', '--base-channels', '8']
    assert run_train(*settings, *options) == 0
    dice = [float(row['dice_dataset']) for row in rows()]
    assert max(dice) > 0.95
    assert dice[-1] > dice[0]


def test_a_run_leaves_all_that_its_documentation_says(folder):
    data_set(folder, 8)
    assert run_train('-e', '2') == 0
    names = {path.name for path in (folder / 'checkpoints').iterdir()}
    assert names == {
        'checkpoint_epoch1.pth', 'checkpoint_epoch2.pth', 'best.pth', 'last.pth',
        'metrics.csv', 'args.json', 'samples.png',
    }  # fmt: skip
    assert [(row['epoch'], row['step']) for row in rows()] == [('1', '4'), ('2', '8')]
    assert all(0 <= float(row['dice_dataset']) <= 1 for row in rows())
    settings = json.loads((folder / 'checkpoints/args.json').read_text())
    assert settings['epochs'] == 2
    assert settings['torch'] == torch.__version__
    best = max(rows(), key=lambda row: float(row['dice_dataset']))
    found = load_checkpoint('checkpoints/best.pth').metrics['dice_dataset']
    assert found == pytest.approx(float(best['dice_dataset']))
    sheet = Image.open('checkpoints/samples.png')
    assert sheet.width == 3 * 320 + 4 * 8


def test_classic_validates_five_times_an_epoch(folder):
    data_set(folder, 11)
    assert run_train('-e', '1', '--recipe', 'classic') == 0
    assert [row['step'] for row in rows()] == ['2', '4', '6', '8', '10']


def test_the_score_of_training_is_the_score_of_evaluate(folder):
    data_set(folder, 10)
    assert run_train('-e', '1', '-v', '30') == 0
    run = load_checkpoint('checkpoints/best.pth')
    validation = folder / 'validation'
    names = [f'disc{i:02}' for i in range(10)]
    for sub in ('imgs', 'masks'):
        (validation / sub).mkdir(parents=True)
        for position in split_ids(names, 30, 'group', 0)[1]:
            (folder / sub / f'{names[position]}.png').rename(
                validation / sub / f'{names[position]}.png'
            )
    data = ['--images', 'validation/imgs', '--masks', 'validation/masks', *on_device()]
    for batch in ('1', '2', '3'):
        assert evaluate.main(
            ['-m', 'checkpoints/best.pth', *data, '-b', batch, '--json', 's.json', '--csv', 's.csv']
        ) == 0  # fmt: skip
        scores = json.loads((folder / 's.json').read_text())
        assert scores['images'] == 3
        assert scores['dice_dataset'] == pytest.approx(run.metrics['dice_dataset'], abs=1e-9)
        assert scores['dice_per_image'] == pytest.approx(run.metrics['dice_per_image'], abs=1e-9)
        assert len(rows('s.csv')) == 3 * 2


def test_batch_of_three_with_ten_images_loses_none(folder):
    data_set(folder, 10)
    assert run_train('-e', '1', '-b', '3', '-v', '0') == 0
    assert rows()[-1]['step'] == '4'  # 3 + 3 + 3 + 1


def test_without_validation_there_is_no_score_and_no_best(folder, capsys):
    data_set(folder, 4)
    assert run_train('-e', '1', '-v', '0') == 0
    assert not (folder / 'checkpoints/best.pth').exists()
    assert rows()[0]['dice_dataset'] == ''
    assert 'note: no validation set: no Dice and no best.pth' in capsys.readouterr().out
    assert predict.main(['-m', 'checkpoints/last.pth', '-i', 'imgs/disc00.png', '-n']) == 0


def test_one_image_trains_without_validation_and_says_so(folder, capsys):
    data_set(folder, 1)
    assert run_train('-e', '1') == 0
    out = capsys.readouterr().out
    assert '1 images to train on, 0 to validate on' in out
    assert 'no validation set' in out


def test_all_images_for_validation_is_refused(folder, capsys):
    data_set(folder, 4)
    assert run_train('-v', '100') == 2
    assert '--validation 100 leaves none of 4 images to train on' in capsys.readouterr().err
    assert not (folder / 'checkpoints').exists()


def test_images_of_three_sizes_train_in_one_batch(folder):
    for k, size in enumerate([(48, 32), (40, 40), (33, 50)]):
        names = [f'size{k}_{i}' for i in range(3)]
        data_set(folder, 3, size=size, names=names)
    assert run_train('-e', '1', '-b', '4') == 0
    assert (folder / 'checkpoints/best.pth').exists()


def test_grey_images_train_a_one_channel_network_that_predicts_colour_pictures_too(folder):
    data_set(folder, 4, colours=1)
    assert run_train('-e', '1') == 0
    assert load_checkpoint('checkpoints/best.pth').model['n_channels'] == 1
    Image.new('RGB', (48, 32), 'red').save('red.png')
    assert predict.main(['-m', 'checkpoints/best.pth', '-i', 'red.png', 'imgs/disc00.png']) == 0
