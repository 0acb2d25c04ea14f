"""Images and masks are paired by name, and one report lists all problems."""

import pytest
from drawing import data_set, pair_files, scan_all
from PIL import Image

from utils.data.pairing import matching
from utils.data.pairing.matching import is_own_output, match_files
from utils.data.pairing.patterns import Listing, NamedFile
from utils.data.pairing.sets import match_sets
from utils.runtime.errors import UserError


def touch(folder, *names):
    folder.mkdir(exist_ok=True, parents=True)
    for name in names:
        Image.new('L', (2, 2)).save(folder / name)
    return folder


def names_of(pairs):
    return [(pair.id, pair.image.name, pair.mask.name) for pair in pairs]


@pytest.mark.parametrize('suffix', ['', '_mask', '.seg', ' label'])
def test_the_suffix_of_all_masks_is_found(tmp_path, suffix):
    images, masks = data_set(tmp_path, 3, suffix=suffix)
    assert names_of(pair_files(images, masks)) == [
        (f'disc0{i}', f'disc0{i}.png', f'disc0{i}{suffix}.png') for i in range(3)
    ]


def test_a_given_suffix_is_used(tmp_path):
    images = touch(tmp_path / 'imgs', 'a.png')
    masks = touch(tmp_path / 'masks', 'a.png', 'a_mask.png')
    assert names_of(pair_files(images, masks, '_mask')) == [('a', 'a.png', 'a_mask.png')]
    assert names_of(pair_files(images, masks)) == [('a', 'a.png', 'a.png')]


def test_odd_names_pair_literally(tmp_path):
    odd = ['x[1].png', 'a b.png', 'v1.2.3.png', 'größe.png', '汽车.png', '*.png']
    images, masks = touch(tmp_path / 'i', *odd), touch(tmp_path / 'm', *odd)
    assert sorted(pair.image.name for pair in pair_files(images, masks)) == sorted(odd)
    assert all(pair.image.name == pair.mask.name for pair in pair_files(images, masks))


def test_files_that_are_no_pictures_are_ignored(tmp_path):
    images, masks = data_set(tmp_path, 2)
    for name in ('Thumbs.db', '.DS_Store', 'notes.txt', '._disc00.png'):
        (images / name).write_bytes(b'x')
        (masks / name).write_bytes(b'x')
    (images / 'more').mkdir()
    assert len(pair_files(images, masks)) == 2


def test_numbers_without_leading_zeros_pair_in_linear_time(tmp_path, monkeypatch):
    # 1 is a prefix of 10, 100 …: each of their masks suggests a suffix.
    numbers = [str(n) for n in range(1, 20001)]
    files = [NamedFile(tmp_path / f'{number}.png', (number,)) for number in numbers]
    monkeypatch.setattr(matching, 'list_pictures', lambda folder, _: Listing(folder, files))
    assert len(pair_files(tmp_path, tmp_path / 'm')) == 20000


def test_masks_and_images_may_share_a_folder(tmp_path):
    folder = touch(tmp_path / 'all', 'a.png', 'b.png', 'a_mask.png', 'b_mask.png')
    assert [pair.id for pair in pair_files(folder, folder, '_mask')] == ['a', 'b']


def test_masks_without_an_image_are_ignored(tmp_path):
    images, masks = data_set(tmp_path, 2)
    touch(masks, 'other.png')
    assert len(pair_files(images, masks)) == 2


def test_all_problems_come_in_one_report(tmp_path):
    images = touch(tmp_path / 'i', 'a.png', 'b.png', 'c.png', 'c.jpg', 'd.png')
    masks = touch(tmp_path / 'm', 'a_mask.png', 'c_mask.png', 'd_mask.png', 'd_mask.gif')
    with pytest.raises(UserError) as caught:
        pair_files(images, masks)
    text = str(caught.value)
    assert text.startswith('3 problems with the data:\n2 more than one file of a name:\n')
    assert f'  {images}/c.jpg and {images}/c.png: ' in text
    assert f'  {masks}/d_mask.gif and {masks}/d_mask.png: ' in text
    assert f'1 without a mask:\n  {images}/b.png has no mask b_mask.*' in text
    assert 'a_mask.png, c_mask.png, d_mask.gif and 1 more' in text
    assert "--mask-suffix, here '_mask'" in text


def test_errors_of_missing_and_empty_folders_say_where_to_put_images(tmp_path):
    images, masks = data_set(tmp_path, 1)
    with pytest.raises(UserError, match=r'nowhere does not exist\. .*--images'):
        pair_files(tmp_path / 'nowhere', masks)
    (tmp_path / 'a.txt').touch()
    with pytest.raises(UserError, match=r'a\.txt is no picture by its name; expected a folder, a'):
        pair_files(tmp_path / 'a.txt', masks)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match=r'empty holds no pictures\. .*make_demo_data\.py'):
        pair_files(images, tmp_path / 'empty')


def test_an_output_of_predict_among_the_images_is_recognised(tmp_path):
    touch(tmp_path / 'imgs', 'a.jpg', 'a_OUT.png')
    touch(tmp_path / 'masks', 'a.png')
    with pytest.raises(UserError, match=r'a_OUT\.png has no mask a_OUT\.\*.*output of predict\.py'):
        pair_files(tmp_path / 'imgs', tmp_path / 'masks')


def test_a_folder_of_masks_alone_is_an_error(tmp_path):
    touch(tmp_path, 'a_mask.png')
    with pytest.raises(UserError, match=r'masks only.* _mask'):
        pair_files(tmp_path, tmp_path, '_mask')


def test_outputs_of_predict_are_recognised_only_beside_their_input():
    stems = {'in/a', 'in/b_OUT', 'in/_OUT', 'in/c_OUT', 'in/c_VIZ', 'in/c'}
    assert sorted(stem for stem in stems if is_own_output(stem, stems)) == ['in/c_OUT', 'in/c_VIZ']


def test_folders_and_system_files_are_ignored_and_links_followed(tmp_path):
    images, masks = data_set(tmp_path, 3)
    for folder in (images, masks):
        for name in ('Thumbs.db', '.DS_Store', '._disc00.png', 'notes.txt', 'desktop.ini'):
            (folder / name).write_bytes(b'x')
        (folder / 'more').mkdir()
        (folder / 'folder.png').mkdir()  # the name of a picture
    (images / 'disc02.png').rename(tmp_path / 'elsewhere.png')
    (images / 'disc02.png').symlink_to(tmp_path / 'elsewhere.png')
    assert len(scan_all(pair_files(images, masks)).metadata) == 3


def test_a_folder_without_pictures_names_what_it_holds(tmp_path):
    images, masks = data_set(tmp_path / 'train', 1)
    with pytest.raises(UserError, match=r'train holds no pictures.* imgs/, masks/'):
        pair_files(tmp_path / 'train', masks)
    (images / 'disc00.png').rename(images / 'disc00.heic')
    with pytest.raises(UserError, match=r'holds no pictures.* disc00\.heic'):
        pair_files(images, masks)


def test_a_portable_bitmap_is_a_mask(tmp_path):
    images, masks = data_set(tmp_path, 2)
    for path in masks.iterdir():
        Image.open(path).convert('1').save(path.with_suffix('.pbm'))
        path.unlink()
    (masks / 'disc02.png').write_bytes((images / 'disc00.png').read_bytes())  # of no image
    pairs = match_files(images, masks).pairs
    assert [pair.mask.suffix for pair in pairs] == ['.pbm'] * 2
    assert {mask.mode for _, _, mask in scan_all(pairs).metadata} == {'1'}


def test_masks_of_which_some_have_a_suffix_and_others_the_name_of_their_image(tmp_path):
    images = touch(tmp_path / 'i', 'a.png', 'b.png', 'c.png', 'd.png')
    masks = touch(tmp_path / 'm', 'a_mask.png', 'b_mask.png', 'c.png')
    found = match_files(images, masks)
    assert [pair.mask.name for pair in found.pairs] == ['a_mask.png', 'b_mask.png', 'c.png']
    assert found.rule.endswith('/*_mask, 1 of them with masks of their own names')
    assert [problem.pairs for problem in found.problems] == [('d',)]
    assert len(match_files(images, masks, '_mask').pairs) == 2


def test_masks_named_like_the_whole_file_names_of_images_of_several_kinds(tmp_path):
    images = touch(tmp_path / 'i', 'a.jpg', 'b.jpg', 'c.png')
    masks = touch(tmp_path / 'm', 'a.jpg.png', 'b.jpg.png', 'c.png.png')
    found = match_files(images, masks)
    assert [pair.mask.name for pair in found.pairs] == ['a.jpg.png', 'b.jpg.png', 'c.png.png']


@pytest.mark.parametrize(
    ('name', 'advice'),
    [
        ('a.jpg.json', 'masks_from.py'),  # Supervisely
        ('a.xml', 'masks_from.py'),  # Aperio
        ('train.csv', 'masks_from.py'),  # run lengths
        ('a.dcm', 'NIfTI'),
        ('a.npz', '.npy'),
    ],
)
def test_files_of_other_kinds_have_advice(tmp_path, name, advice):
    images = touch(tmp_path / 'i', 'a.png', 'b.png')
    (tmp_path / 'm').mkdir()
    (tmp_path / 'm' / name).write_text('something else')
    for masks in (tmp_path / 'm', tmp_path / 'm' / name):
        with pytest.raises(UserError, match=advice):
            pair_files(images, masks)
    (images / name).write_text('something else')
    with pytest.raises(UserError, match=advice):
        pair_files(images, images)


def test_a_file_is_never_its_own_mask(tmp_path):
    touch(tmp_path / 'd', 'a.png', 'b.png')
    with pytest.raises(UserError, match=r'no ending tells them apart'):
        pair_files(tmp_path / 'd', tmp_path / 'd')
    with pytest.raises(UserError, match=r'no ending tells them apart'):
        pair_files(tmp_path / 'd', tmp_path / 'd', '')


def test_the_ending_of_masks_in_the_images_folder_is_found(tmp_path):
    names = [f'{n}_{k}' for n in (1, 2) for k in (1, 10, 11)]
    folder = touch(tmp_path / 'd', *(f'{n}{s}.png' for n in names for s in ('', '_mask')))
    pairs = pair_files(folder, folder)
    assert [pair.id for pair in pairs] == sorted(names)
    assert all(pair.mask.stem == f'{pair.id}_mask' for pair in pairs)


def test_images_whose_names_begin_alike_are_not_taken_for_masks(tmp_path):
    names = ['cat', 'cat2']
    folder = touch(tmp_path / 'd', *(f'{n}{s}.png' for n in names for s in ('', '_mask')))
    assert [pair.id for pair in pair_files(folder, folder)] == names


@pytest.mark.parametrize('link', ['symlink_to', 'hardlink_to'])
def test_two_links_to_one_file_are_no_pair(tmp_path, link):
    images, masks = touch(tmp_path / 'i', 'a.png', 'b.png'), touch(tmp_path / 'm', 'b.png')
    getattr(masks / 'a.png', link)(images / 'a.png')
    with pytest.raises(UserError, match=r'i/a\.png and .*m/a\.png are one file'):
        pair_files(images, masks)


def test_endings_that_fit_as_well_are_refused_by_name(tmp_path):
    images = touch(tmp_path / 'i', 'a.png', 'b.png')
    masks = touch(tmp_path / 'm', *(f'{n}_{k}HO.png' for n in 'ab' for k in ('1st', '2nd')))
    with pytest.raises(UserError, match=r'--mask-suffix=_1stHO or --mask-suffix=_2ndHO'):
        pair_files(images, masks)
    assert len(pair_files(images, masks, '_2ndHO')) == 2
    both = touch(tmp_path / 'd', *(p.name for p in (*images.iterdir(), *masks.iterdir())))
    with pytest.raises(UserError, match=r'--mask-suffix=_1stHO or --mask-suffix=_2ndHO'):
        pair_files(both, both)
    assert [pair.id for pair in pair_files(both, both, '_1stHO')] == ['a', 'b']


def test_an_ending_goes_before_its_own_continuations(tmp_path):
    images = touch(tmp_path / 'i', 'a.png', 'b.png')
    masks = touch(tmp_path / 'm', *(f'{n}_mask{k}.png' for n in 'ab' for k in ('', '_colour')))
    assert [pair.mask.name for pair in pair_files(images, masks)] == ['a_mask.png', 'b_mask.png']


def test_nested_folders_pair_by_relative_path(tmp_path):
    for patient in ('p1', 'p2'):
        touch(tmp_path / 'i' / patient, 's1.png', 's2.png')
        touch(tmp_path / 'm' / patient, 's1_mask.png', 's2_mask.png')
    matching = match_sets((tmp_path / 'i', tmp_path / 'm'), None, None)
    assert [pair.id for pair in matching.pairs] == ['p1/s1', 'p1/s2', 'p2/s1', 'p2/s2']
    assert any("--group-regex '^[^/]+'" in line for line in matching.lines())


def test_the_rule_and_what_is_left_out_are_said(tmp_path):
    images = touch(tmp_path / 'i', 'a.png', 'b.png')
    masks = touch(tmp_path / 'm', 'a_m.png', 'b_m.png', 'c_m.png')
    (images / 'd.HEIC').write_bytes(b'x')
    lines = match_sets((images, masks), None, None).lines()
    assert lines[0] == f'pairs: {images}/* with {masks}/*_m'
    assert 'left out, of kinds that are not read: 1 (d.HEIC)' in lines[1]
    assert 'masks left out, as no image has their names: 1 (c_m.png)' in lines[2]


def test_jfif_is_jpeg(tmp_path):
    images, masks = data_set(tmp_path, 2, image_suffix='.jpg')
    for path in list(images.iterdir()):
        path.rename(path.with_suffix('.jfif'))
    assert len(pair_files(images, masks)) == 2
