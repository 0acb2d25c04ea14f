"""Each option of train.py changes the outcome as its help says."""

import pytest
from drawing import data_set
from PIL import Image
from running import run_train, same_weights

from utils.inference.checkpoint import load_checkpoint


@pytest.mark.slow
@pytest.mark.parametrize(
    'options',
    [
        ['--seed', '1'],
        ['-l', '5e-3'],
        ['-b', '4'],
        ['--recipe', 'classic'],
        ['--dice-loss', 'joint'],
        ['--loss-weights', '1,4'],
        ['--loss-weights', 'auto'],
        ['--amp'],
        ['--augment', 'none'],
        ['--augment', 'flip'],
        ['-e', '2'],
        ['-v', '40'],
        ['--split', 'random', '-v', '40'],
        ['-s', '0.75'],
    ],
)
def test_options_change_the_weights(folder, options):
    data_set(folder, 8, size=(64, 48))
    assert run_train('-e', '1', '--output', 'a') == 0
    assert run_train('-e', '1', '--output', 'a2') == 0
    assert same_weights('a/last.pth', 'a2/last.pth')
    assert run_train('-e', '1', '--output', 'b', *options) == 0
    assert not same_weights('a/last.pth', 'b/last.pth')


@pytest.mark.slow
def test_model_options_make_another_network(folder):
    data_set(folder, 4)
    for options, expected in [
        (['--bilinear'], {'bilinear': True}),
        (['--base-channels', '6'], {'base_channels': 6}),
        (['--channels', '1'], {'n_channels': 1}),
        (['--classes', '1'], {'n_classes': 1}),
    ]:
        assert run_train('-e', '1', *options) == 0
        assert load_checkpoint('checkpoints/last.pth').model.items() >= expected.items()


@pytest.mark.slow
def test_split_random_is_another_split_than_by_car(folder, capsys):
    names = [f'{car:012x}_{view:02}' for car in range(3) for view in range(1, 5)]
    data_set(folder, 12, names=names)
    assert run_train('-e', '1') == 0
    assert '8 images to train on, 4 to validate on' in capsys.readouterr().out  # a whole car
    assert run_train('-e', '1', '--split', 'random') == 0
    assert '11 images to train on, 1 to validate on' in capsys.readouterr().out


@pytest.mark.slow
def test_workers_change_no_weight(folder):
    data_set(folder, 6)
    assert run_train('-e', '2', '--output', 'a') == 0
    assert run_train('-e', '2', '--output', 'b', '--workers', '2') == 0
    assert same_weights('a/last.pth', 'b/last.pth')


def test_mask_suffix_and_folders(folder):
    data_set(folder / 'x', 4, suffix='_seg')
    for path in sorted((folder / 'x/masks').iterdir()):
        Image.new('L', (48, 32)).save(path.with_name(path.name.replace('_seg', '')))
    assert run_train('-e', '1', images='x/imgs', masks='x/masks') == 2  # the empty masks are nearer
    assert run_train('-e', '1', '--mask-suffix', '_seg', images='x/imgs', masks='x/masks') == 0


def test_weights_for_another_number_of_classes_are_refused_before_anything_is_written(
    folder, capsys
):
    data_set(folder, 4)
    assert run_train('--loss-weights', '1,2,3') == 2
    assert '--loss-weights 1,2,3: expected auto, or 2 numbers' in capsys.readouterr().err
    assert not (folder / 'checkpoints').exists()
