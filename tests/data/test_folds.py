"""Groups by a regular expression, folds, and a fixed validation set."""

import os
import random
from types import SimpleNamespace

import pytest
from drawing import data_set
from running import run_train

import train
from utils.data.pairing.matching import Pair
from utils.data.splits import fold_ids, group_ids, split_ids, split_pairs
from utils.runtime.errors import UserError

# Patients of 1 to 12 pictures.
PATIENTS = [f'p{patient:02}_{k}' for patient in range(1, 13) for k in range(patient)]
REGEX = r'^(p\d+)_'


def patients(positions, ids=PATIENTS):
    return {ids[k][:3] for k in positions}


def test_the_group_is_the_first_capture_group_or_the_whole_match():
    assert group_ids(['a_1', 'b_1', 'a_2'], '^([a-z])_') == {'a': [0, 2], 'b': [1]}
    assert group_ids(['a_1', 'b_1', 'a_2'], r'\d') == {'1': [0, 1], '2': [2]}


def test_groups_are_never_divided_and_come_near_the_percentage():
    for seed in range(5):
        training, validation = split_ids(PATIENTS, 20, 'group', seed, REGEX)
        assert sorted(training + validation) == list(range(78))
        assert not patients(training) & patients(validation)
        assert abs(len(validation) - 15) <= 1  # of 78


def test_if_all_groups_are_too_large_the_smallest_is_validated_on():
    ids = [f'{name}{k}' for name, count in (('a', 9), ('b', 4), ('c', 7)) for k in range(count)]
    training, validation = split_ids(ids, 5, 'group', 0, '[a-z]')
    assert {ids[k][0] for k in validation} == {'b'}
    assert len(training) == 16


@pytest.mark.parametrize('method', ['group', 'random'])
@pytest.mark.parametrize('count', [2, 3, 5])
def test_every_image_is_in_the_validation_set_of_exactly_one_fold(method, count):
    regex = REGEX if method == 'group' else None
    folds = [fold_ids(PATIENTS, f'{k}/{count}', method, 7, regex) for k in range(1, count + 1)]
    assert sorted(k for _, validation in folds for k in validation) == list(range(78))
    for training, validation in folds:
        assert sorted(training + validation) == list(range(78))
        assert abs(len(validation) - 78 / count) < 2
        if method == 'group':
            assert not patients(training) & patients(validation)


def test_folds_do_not_depend_on_the_order_of_the_names_but_on_the_seed():
    shuffled = random.Random(1).sample(PATIENTS, len(PATIENTS))
    names = [PATIENTS[k] for k in fold_ids(PATIENTS, '2/5', 'group', 0, REGEX)[1]]
    others = [shuffled[k] for k in fold_ids(shuffled, '2/5', 'group', 0, REGEX)[1]]
    assert sorted(names) == sorted(others)
    # With groups of one size; otherwise the sizes decide which groups go together.
    parts = [fold_ids(PATIENTS, '2/5', 'random', seed)[1] for seed in (0, 1)]
    assert parts[0] != parts[1]


def test_a_regular_expression_that_makes_no_groups_is_an_error():
    with pytest.raises(UserError, match=r'--group-regex x .* 2 of 3 names: a, b\.'):
        split_ids(['a', 'b', 'x1'], 10, 'group', 0, 'x')
    with pytest.raises(UserError, match=r"--group-regex p .* 78 images into one group, 'p'"):
        split_ids(PATIENTS, 10, 'group', 0, 'p')
    with pytest.raises(UserError, match=r'--fold 1/5 makes 5 .* 2: a, b\.'):
        fold_ids(['a1', 'a2', 'b1'], '1/5', 'group', 0, '[a-z]')


def test_a_validation_set_of_which_no_pair_is_left_is_an_error():
    args = SimpleNamespace(fold=None, images='imgs', val_images='val', list=None, val_list=None)
    with pytest.raises(UserError, match=r'no pair of val .*--check'):
        split_pairs([Pair('a', None, None)], args)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ('--fold 0/5', "--fold: '0/5': expected K/N"),
        ('--fold 6/5', "--fold: '6/5': expected K/N"),
        ('--fold 1/1', 'with N of 2 or more'),
        ('--fold half', "--fold: 'half': expected K/N"),
        ('--group-regex (', "--group-regex: '(' is not a regular expression: "),
        ('--fold 1/5 -v 10', 'leave --validation out'),
        ('--group-regex a --split random', 'leave it or --group-regex out'),
        ('--val-images a', '--val-images and --val-masks belong together; give both'),
        ('--val-masks a', '--val-images and --val-masks belong together; give both'),
        ('--val-images a --val-masks b -v 10', 'leave --validation out'),
        ('--val-images a --val-masks b --fold 1/2', 'leave --fold out'),
        ('--val-images a --val-masks b --group-regex a', 'leave --group-regex out'),
        ('--val-images a --val-masks b --split random', 'leave --split random out'),
    ],
)
def test_wrong_and_contradicting_options_are_errors_at_once(capsys, options, message):
    with pytest.raises(SystemExit):
        train.get_args(options.split())
    assert message in capsys.readouterr().err


def counts(capsys, *options, code=0):
    assert run_train('--check', *options) == code
    return capsys.readouterr().out


def test_check_reports_the_split_that_options_make(folder, capsys):
    data_set(folder, 10, names=[f'p{k // 4}_{k}' for k in range(10)])  # patients of 4, 4 and 2
    assert '10 pairs, 9 to train on, 1 to validate on' in counts(capsys)
    text = counts(capsys, '--group-regex', 'p.')
    assert '10 pairs, 8 to train on, 2 to validate on' in text
    assert '3 groups of 2 to 4 images (p0, p1, p2), 2 to train on, 1 to validate on' in text
    assert '5 to train on, 5 to validate on' in counts(capsys, '--fold', '1/2')
    assert '6 to train on, 4 to validate on' in counts(
        capsys, '--fold', '1/3', '--group-regex', 'p.'
    )
    text = counts(capsys, '--group-regex', '_[1-9]', code=2)
    assert '1 split:\n  --group-regex _[1-9] does not match 1 of 10 names: p0_0' in text


def test_a_fixed_validation_set_must_have_the_encoding_of_the_training_set(folder, capsys):
    data_set(folder, 4)
    data_set(folder / 'val', 3, size=(40, 32))
    fixed = ('--val-images', 'val/imgs', '--val-masks', 'val/masks')
    text = counts(capsys, *fixed)
    assert '7 pairs, 4 to train on, 3 to validate on' in text
    assert 'note: 3 images to validate on' not in text  # they differ in size
    (folder / 'val/masks/disc01.png').unlink()
    text = counts(capsys, *fixed, code=2)
    assert 'val/imgs/disc01.png has no mask disc01.*' in text
    assert run_train('-e', '1', *fixed) == 2
    err = capsys.readouterr().err
    assert 'val/imgs/disc01.png has no mask disc01.*' in err
    assert 'disc00.png, disc02.png' in err
    assert run_train('-e', '1', *fixed, '--skip-bad') == 0
    assert '4 images to train on, 2 to validate on' in capsys.readouterr().out
    data_set(folder / 'val', 3, values=(0, 7, 255))
    assert run_train('-e', '1', *fixed, '-c', '2') == 2
    assert 'masks hold 3 distinct values' in capsys.readouterr().err


def test_wrong_folders_of_a_fixed_validation_set_are_errors(folder, capsys):
    data_set(folder, 2)
    assert run_train('--val-images', 'no', '--val-masks', 'masks') == 2
    assert 'error: no does not exist' in capsys.readouterr().err
    assert run_train('--val-images', 'imgs', '--val-masks', 'masks') == 2
    assert '--images and --val-images are both imgs' in capsys.readouterr().err


def test_files_of_one_name_size_and_time_in_both_sets_are_told_apart(folder, capsys):
    for name, values in (('a', (0, 255)), ('b', (0, 7))):
        data_set(folder / name, 3, values=values)
    for path in (*folder.rglob('*.png'),):
        other = folder / ('b' if 'a' in path.parts else 'a') / path.relative_to(folder).parts[1]
        size = max(path.stat().st_size, (other / path.name).stat().st_size)
        path.write_bytes(path.read_bytes().ljust(size, b'\0'))
        os.utime(path, (0, 0))
    for _ in range(2):  # the second time from the cache of the scan
        assert run_train('--check', '--val-images', 'b/imgs', '--val-masks', 'b/masks',
                         images='a/imgs', masks='a/masks') == 0  # fmt: skip
        text = capsys.readouterr().out
        assert 'value 7, ' in text
        assert 'in 3 masks' in text


@pytest.mark.slow
@pytest.mark.parametrize('options', [
    ['--group-regex', 'p.'], ['--fold', '2/2'], ['--fold', '1/3', '--group-regex', 'p.'],
    ['--val-images', 'val/imgs', '--val-masks', 'val/masks'],
])  # fmt: skip
def test_a_resumed_run_keeps_its_split(folder, capsys, options):
    data_set(folder, 6, names=[f'p{k // 2}_{k}' for k in range(6)])
    data_set(folder / 'val', 2, size=(40, 32))
    assert run_train('-e', '1', *options) == 0
    assert '5 images to train on, 1 to validate on' not in capsys.readouterr().out
    assert train.main(['--resume', '-e', '2']) == 0
    assert 'resuming after step' in capsys.readouterr().out
    assert train.main(['--resume', '-e', '3', '--fold', '1/2']) == 2
    assert '--fold is 1/2, was ' in capsys.readouterr().err
