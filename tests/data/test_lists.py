"""Lists of pictures (--list): which pictures are used, and with which masks."""

import json

import numpy as np
import pytest
from drawing import NAMES, data_set
from PIL import Image

from utils.data.pairing.lists import match_listed
from utils.runtime.errors import UserError


@pytest.fixture
def folder(folder):
    """Return a folder with imgs/NAME.jpg and masks/NAME.png."""
    data_set(folder, len(NAMES), names=NAMES, image_suffix='.jpg')
    return folder


def save(path, *, mode='L', size=(4, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path)


def listed(folder, text, images='imgs', masks='masks', encoding='utf-8', name='list.txt'):
    """The matching of folders by a list with this text."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode(encoding))
    return match_listed(folder / images, folder / masks, None, folder / name)


def ids(matching):
    return sorted(pair.id for pair in matching.pairs)


@pytest.mark.parametrize(
    'text',
    ['a\nb c\nv1.2\n', 'a\r\nb c\r\nv1.2', '\n# all good ones\na\n\nb c\n v1.2 \n',
     'a.jpg\nb c.jpg\nv1.2.jpg', 'imgs/a.jpg\n./imgs/b c.jpg\nimgs/v1.2.jpg',
     '/home/her/data/imgs/a.jpg\n/home/her/data/imgs/b c.jpg\n/home/her/data/imgs/v1.2.jpg',
     'D:\\data\\imgs\\a.jpg\r\nD:\\data\\imgs\\b c.jpg\r\nD:\\data\\imgs\\v1.2.jpg\r\n',
     'a.tif\nb c.tif\nv1.2.tif', '"a.jpg"\n"b c.jpg"\n"v1.2.jpg"',
     'a  1\nb c -1\nv1.2  0\n', 'a 1 1 1\nb c 2 1 1\nv1.2 3 2 1\n',
     'image\na.jpg\nb c.jpg\nv1.2.jpg\n', 'id,z\na,12\nb c,3\nv1.2,8\n',
     'img,rle_mask\na.jpg,3 4 9 2\nb c.jpg,\nv1.2.jpg,1 1\n',
     'image_id;fold\na;1\nb c;2\nv1.2;1\n'],
)  # fmt: skip
def test_names_of_a_list_choose_pictures(folder, text):
    for encoding in ('utf-8', 'utf-8-sig', 'utf-16'):
        matching = listed(folder, text, encoding=encoding)
        assert (ids(matching), matching.problems) == (['a', 'b c', 'v1.2'], [])
        assert sorted(path.stem for path in matching.unlisted) == ['07', 'größe', 'unlisted']
        assert matching.rule.endswith('list.txt')


@pytest.mark.parametrize(
    'line',
    ['imgs/{}.jpg masks/{}.png', 'imgs/{}.jpg\tmasks/{}.png', 'imgs/{}.jpg,masks/{}.png',
     'imgs/{}.jpg, masks/{}.png', 'imgs/{}.jpg;masks/{}.png', '"imgs/{}.jpg","masks/{}.png"',
     '/SegNet/her/imgs/{}.jpg /SegNet/her/masks/{}.png', '{}.jpg {}.png', '{}.jpg,{}.png,train',
     '/imgs/{}.jpg   /masks/{}.png 1', 'D:\\x\\imgs\\{}.jpg D:\\x\\masks\\{}.png'],
)  # fmt: skip
@pytest.mark.parametrize('heading', ['', 'image,mask\n', 'image mask\n'])
def test_pairs_of_a_list_are_taken(folder, line, heading):
    text = heading + ''.join(f'{line.format(name, name)}\n' for name in NAMES[:4])
    matching = listed(folder, text)
    assert matching.problems == []
    assert [(p.id, p.image.name, p.mask.name) for p in matching.pairs] == sorted(
        (name, f'{name}.jpg', f'{name}.png') for name in NAMES[:4]
    )
    assert [path.stem for path in matching.unlisted] == ['07', 'unlisted']


def test_pairs_need_no_common_name_and_no_folder_of_images(tmp_path):
    for k in range(3):
        save(tmp_path / f'CamVid/train/shot{k}.png', mode='RGB')
        save(tmp_path / f'CamVid/trainannot/{9 - k}_labels.png')
    line = '/SegNet/CamVid/train/shot{}.png /SegNet/CamVid/trainannot/{}_labels.png\n'
    text = ''.join(line.format(k, 9 - k) for k in range(3))
    matching = listed(tmp_path, text, 'no', 'no', name='CamVid/lists/train.txt')
    assert [(p.id, p.mask.name) for p in matching.pairs] == [
        (f'train/shot{k}', f'{9 - k}_labels.png') for k in range(3)
    ]


def test_the_folder_of_a_name_decides_between_equal_names(tmp_path):
    for part in ('train', 'val'):
        save(tmp_path / f'{part}/1.png', mode='RGB')
        save(tmp_path / f'{part}annot/1.png')
    matching = listed(tmp_path, 'val/1.png valannot/1.png\n', 'train', 'trainannot')
    assert [p.image.parent.name for p in matching.pairs] == ['val']
    matching = listed(tmp_path, 'val/1.png\n', 'train', 'trainannot')
    assert matching.pairs == []
    assert 'val/1.png (line 1)' in matching.problems[0].text


@pytest.mark.parametrize(
    'name', ['train/x/1_img.png', 'x/1_img.png', 'x/1_img', 'x/1', '/old/x/1_img.jpg']
)
def test_lists_work_with_patterns(tmp_path, name):
    for city in 'xy':
        save(tmp_path / f'i/train/{city}/1_img.png', mode='RGB')
        save(tmp_path / f'm/train/{city}/1_labels.png')
    matching = listed(tmp_path, name, 'i/train/*/*_img.png', 'm/train/*/*_labels.png')
    assert (ids(matching), matching.problems) == (['x/1'], [])
    assert len(matching.unlisted) == 1


def test_lists_work_with_folders_in_folders_and_one_folder(tmp_path):
    for patient in ('p1', 'p2'):
        for folder in ('i', 'm'):
            save(tmp_path / folder / patient / '1.png')
    assert ids(listed(tmp_path, 'p2/1.png', 'i', 'm')) == ['p2/1']
    assert ids(listed(tmp_path, 'p2/1', 'i', 'm')) == ['p2/1']
    unclear = listed(tmp_path, '1', 'i', 'm')
    assert [p.kind for p in unclear.problems] == ['name of several pictures']
    for name in ('a', 'b', 'a_mask', 'b_mask'):
        save(tmp_path / f'all/{name}.png')
    assert ids(listed(tmp_path, 'b', 'all', 'all')) == ['b']


def test_pictures_without_masks_matter_only_if_a_list_names_them(folder):
    save(folder / 'imgs/0 none.jpg', mode='RGB')
    assert listed(folder, 'a\nb c').problems == []
    (problem,) = listed(folder, 'a\n0 none').problems
    assert problem.kind == 'without a mask'


def test_names_without_a_picture_are_one_problem(folder):
    text = 'a\nno1\nno2\nno3\nno4\n'
    (problem,) = listed(folder, text).problems
    assert 'list.txt names no1 (line 2), no2 (line 3), no3 (line 4) and 1 more' in problem.text
    assert '--images' in problem.text
    matching = listed(folder, 'imgs/a.jpg masks/no.png\nimgs/07.jpg masks/07.png')
    assert ids(matching) == ['07']
    assert 'masks/no.png (line 1)' in matching.problems[0].text
    assert '--masks' in matching.problems[0].text


def test_long_lines_are_split_in_linear_time(folder):
    numbers = '1' * 40 + ' 12' * 20_000
    matching = listed(folder, f'a.jpg {numbers} x\na.jpg {numbers}\n07.jpg {"1" * 60}x')
    assert {'07', 'a'} >= set(ids(matching))


def test_names_twice_and_numbers_behind_names_are_told(folder):
    matching = listed(folder, 'a 1\n07 -1\na 1\n')
    assert ids(matching) == ['07', 'a']
    assert any('1 pictures twice' in note for note in matching.notes)
    (note,) = [note for note in matching.notes if 'behind' in note]
    assert '(1: 2, -1: 1)' in note


@pytest.mark.parametrize(
    ('content', 'words'),
    [(b'', 'names no pictures'), (b'# nothing\n\n', 'names no pictures'),
     (b'\x89PNG\xff\xfe', 'no text'), (b'a\0b\nc', 'names a'), (None, 'cannot be read')],
)  # fmt: skip
def test_a_file_that_is_no_list_is_refused(folder, content, words):
    path = folder / 'list.txt'
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UserError) as error:
        matching = match_listed(folder / 'imgs', folder / 'masks', None, path)
        raise UserError(matching.problems[0].text)
    assert words in str(error.value)
    assert 'list.txt' in str(error.value)


def test_columns_that_are_unclear_are_refused(folder):
    with pytest.raises(UserError, match='3 columns that name pictures') as error:
        listed(folder, 'imgs/a.jpg imgs/07.jpg masks/a.png')
    assert 'image,mask' in str(error.value)
    matching = listed(folder, 'first,image,mask\nimgs/07.jpg,imgs/a.jpg,masks/a.png')
    assert [(p.image.name, p.mask.name) for p in matching.pairs] == [('07.jpg', 'a.png')]


def test_a_mask_twice_and_a_line_without_a_mask_are_problems(folder):
    matching = listed(folder, 'a.jpg,a.png\na.jpg,07.png\n07.jpg,07.png\nv1.2.jpg,\n')
    assert sorted(p.kind for p in matching.problems) == [
        'more than one file of a name', 'without a mask',
    ]  # fmt: skip
    assert any('line 4: v1.2.jpg has no mask' in p.text for p in matching.problems)


def test_equal_names_in_two_folders_stay_two_pairs(tmp_path):
    for place in ('a/train', 'b/train'):
        save(tmp_path / place / '1.png', mode='RGB')
        save(tmp_path / place / '1_m.png')
    matching = listed(tmp_path, 'a/train/1.png a/train/1_m.png\nb/train/1.png b/train/1_m.png',
                      'no', 'no')  # fmt: skip
    assert len({pair.id for pair in matching.pairs}) == 2


@pytest.mark.parametrize('first', ['video_frame', 'kid', 'midday'])
def test_a_missing_first_name_is_not_taken_for_a_header(folder, first):
    (problem,) = listed(folder, f'{first}\na\n').problems
    assert f'{first} (line 1)' in problem.text


@pytest.mark.parametrize('titles', ['ct_scan,infection', 'frame;truth', 'x y'])
def test_a_first_line_without_extensions_above_pictures_is_a_header(folder, titles):
    matching = listed(folder, f'{titles}\na.jpg,a.png\n07.jpg,07.png\n')
    assert ids(matching) == ['07', 'a']
    assert not matching.problems


def test_rows_without_a_mask_may_come_first(folder):
    text = 'image,mask\n' + ''.join(f'no{k}.jpg,\n' for k in range(60)) + 'a.jpg,07.png\n' * 60
    (pair,) = listed(folder, text).pairs
    assert (pair.id, pair.mask.name) == ('a', '07.png')


def test_a_stray_file_of_that_name_does_not_hide_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / 'i/x/1.png', mode='RGB')
    save(tmp_path / 'm/x/1.png')
    save(tmp_path / '1.png')
    assert ids(listed(tmp_path, '1.png', 'i', 'm')) == ['x/1']


def test_an_image_is_not_its_own_mask(folder):
    matching = listed(folder, 'a.jpg imgs/a.jpg\n07.jpg 07.png\n')
    assert ids(matching) == ['07']
    assert 'one file' in matching.problems[0].text


def test_lists_of_json_lines_name_pictures(folder):
    lines = [{'fpath_img': f'imgs/{n}.jpg', 'fpath_segm': f'masks/{n}.png', 'width': 48}
             for n in NAMES[:3]]  # fmt: skip
    assert ids(listed(folder, '\n'.join(map(json.dumps, lines)))) == ['a', 'b c', 'v1.2']


@pytest.mark.slow
def test_a_long_list_is_read_in_linear_time(tmp_path, monkeypatch):
    rows = [f'traincrop/{k:05}.jpg traincrop/{k:05}.png' for k in range(5000)]
    names = [name.partition('/')[2] for row in rows for name in row.split()]
    (tmp_path / 'traincrop').mkdir()
    monkeypatch.setattr('os.listdir', lambda folder: names if 'traincrop' in str(folder) else [])
    monkeypatch.setattr('os.path.samefile', lambda *_: False)
    matching = listed(tmp_path, '\n'.join(rows), 'traincrop', 'traincrop')
    assert len(matching.pairs) == 5000
    assert np.all([pair.image.stem == pair.mask.stem for pair in matching.pairs])
