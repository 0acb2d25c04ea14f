"""Lists of pictures to train and to validate on, and those that lie beside the pictures."""

import json

import pytest
from drawing import NAMES, data_set
from running import run_train

import train
from utils.data.dataset import SegmentationDataset
from utils.data.pairing.sets import match_sets
from utils.runtime.errors import UserError


@pytest.fixture
def folder(folder):
    """Return a folder with imgs/NAME.jpg and masks/NAME.png."""
    data_set(folder, len(NAMES), names=NAMES, image_suffix='.jpg')
    return folder


IMAGES = ('--images', 'imgs', '--masks', 'masks')


def splits(folder, *options):
    """The ids of `--check`, by part of the split."""
    code = run_train('--check', '--json', 'report.json', '-s', '1', *options)
    report = json.loads((folder / 'report.json').read_text())
    assert code == (2 if report['problems'] else 0)
    parts = {'training': [], 'validation': []}
    for item in report['items']:
        parts[item['split']].append(item['id'].removeprefix('validation/'))
    return tuple(map(sorted, parts.values())), report


def test_a_validation_folder_has_its_own_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in ('t', 'v'):
        data_set(tmp_path / part, 3)
    (tmp_path / 'v.txt').write_text('disc01\n')
    places = (*IMAGES, '--val-images', 'v/imgs', '--val-masks', 'v/masks')
    (tmp_path / 't/imgs').rename(tmp_path / 'imgs')
    (tmp_path / 't/masks').rename(tmp_path / 'masks')
    found, _ = splits(tmp_path, *places, '--val-list', 'v.txt')
    assert found == (['disc00', 'disc01', 'disc02'], ['disc01'])
    (tmp_path / 'v.txt').write_text('disc07\ndisc01')
    _, report = splits(tmp_path, *places, '--val-list', 'v.txt')
    assert 'name their folder with --val-images' in report['problems'][0]['text']


@pytest.mark.parametrize('title', ['split', 'Subset', 'set'])
def test_a_column_that_divides_the_rows_is_heeded(folder, title):
    rows = [('a', 'train'), ('b c', 'train'), ('07', 'valid'), ('v1.2', 'test')]
    text = f'image_id,{title},sat_path,mask_path\n'
    text += ''.join(f'{n},{part},imgs/{n}.jpg,masks/{n}.png\n' for n, part in rows)
    (folder / 'm.csv').write_text(text)
    found, report = splits(folder, *IMAGES, '--list', 'm.csv', '--val-list', 'm.csv')
    assert found == (['a', 'b c'], ['07'])
    assert any(
        '(train 2, valid 1, test 1): the 2 to train on are taken' in n for n in report['notes']
    )
    assert sorted(SegmentationDataset('imgs', 'masks', lists=('m.csv', None)).ids) == ['a', 'b c']


def test_two_lists_are_the_split(folder, capsys):
    (folder / 't.txt').write_text('a\nb c\n')
    (folder / 'v.txt').write_text('07\n')
    found, report = splits(folder, *IMAGES, '--list', 't.txt', '--val-list', 'v.txt')
    assert found == (['a', 'b c'], ['07'])
    (note,) = [note for note in report['notes'] if 'left out' in note]
    assert 'neither t.txt nor v.txt names them: 3 (' in note
    assert 't.txt' in report['rule']
    assert (report['list'], report['val_list']) == ('t.txt', 'v.txt')
    assert 'v.txt' in report['rule']
    assert 't.txt' in capsys.readouterr().out


def test_one_list_is_split_and_a_list_to_validate_on_leaves_the_others_to_train_on(folder):
    (folder / 't.txt').write_text('\n'.join(NAMES[:4]))
    found, _ = splits(folder, *IMAGES, '--list', 't.txt', '-v', '25')
    assert [len(part) for part in found] == [3, 1]
    assert sorted(found[0] + found[1]) == sorted(NAMES[:4])
    found, _ = splits(folder, *IMAGES, '--val-list', 't.txt')
    assert found == (['07', 'unlisted'], sorted(NAMES[:4]))


def test_a_picture_in_both_lists_is_refused(folder, capsys):
    (folder / 't.txt').write_text('a\n07\n')
    (folder / 'v.txt').write_text('07.jpg\nv1.2.jpg')
    assert run_train('--check', *IMAGES, '--list', 't.txt', '--val-list', 'v.txt') == 2
    error = capsys.readouterr().err
    assert 'of t.txt, are also to validate on, of v.txt: 07.' in error
    with pytest.raises(SystemExit):
        train.get_args(['--val-list', 'v.txt', '--fold', '1/3'])
    assert '--val-list is the whole validation set' in capsys.readouterr().err


def test_lists_beside_the_pictures_are_proposed(folder):
    lists = folder / 'ImageSets/Segmentation'
    lists.mkdir(parents=True)
    (lists / 'train.txt').write_text('a\nb c\n')
    (lists / 'val.txt').write_text('07\n')
    _, report = splits(folder, *IMAGES)
    place = 'ImageSets/Segmentation'
    assert f'--list {place}/train.txt --val-list {place}/val.txt' in report['proposals']
    (folder / 'masks/unlisted.png').unlink()  # now the lists are needed
    with pytest.raises(UserError) as error:
        SegmentationDataset('imgs', 'masks', mask_suffix=None)
    assert f'--list {place}/train.txt --val-list {place}/val.txt pairs 3 of 3' in str(error.value)
    data = SegmentationDataset('imgs', 'masks', lists=(f'{place}/train.txt', f'{place}/val.txt'))
    assert data.ids == ['a', 'b c', 'validation/07']
    assert not any('--list' in note for note in data.notes())


@pytest.mark.parametrize('text', ['some words\nof a readme\n', 'other1\nother2\na\n', 'x,y\n1,2\n'])
def test_other_files_called_train_txt_are_not_proposed(folder, text):
    (folder / 'train.txt').write_text(text)
    assert match_sets((folder / 'imgs', folder / 'masks'), None, None).hints == []


def test_a_list_of_all_pictures_needs_no_note(folder):
    (folder / 'train.txt').write_text('\n'.join(NAMES), encoding='utf-8')
    assert match_sets((folder / 'imgs', folder / 'masks'), None, None).hints == []
