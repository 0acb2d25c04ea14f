"""train.py --check --report: a page on which wrong pairs and inverted masks are seen at once."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from drawing import data_set, disc
from pages import check_self_contained, sections, text_of
from PIL import Image
from running import run_train

from utils.data.report.figures import ALL_BYTES, Figures
from utils.data.report.page import embedded

SIZE = (96, 64)
WRONG, INVERTED = 'mask of another image?', 'mask looks inverted'


def make_page(*options, code=0):
    assert run_train('--check', '--report', 'page', *options) == code


def swap(first, second):
    both = first.read_bytes(), second.read_bytes()
    first.write_bytes(both[1])
    second.write_bytes(both[0])


def invert(path):
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


def ids(figures):
    return [re.match(r'[^ ·]+', text)[0] for text, _ in figures]


def test_swapped_masks_an_inverted_mask_and_an_empty_class_are_named_first(folder, capsys):
    _, masks = data_set(folder, 20, SIZE)
    swap(masks / 'disc03.png', masks / 'disc11.png')
    invert(masks / 'disc07.png')
    (folder / 'classes.json').write_text('{"ground": 0, "disc": 255, "bicycle": 9}')
    make_page()
    assert capsys.readouterr().out.endswith('report: page/index.html, with 4 suspicions\n')
    found = sections()
    assert sorted(ids(found[f'Suspicion: {WRONG}'])) == ['disc03', 'disc11']
    for text, pictures in found[f'Suspicion: {WRONG}']:
        assert f'the mask of {"disc11" if text.startswith("disc03") else "disc03"} fits' in text
        assert pictures == 2
    assert ids(found[f'Suspicion: {INVERTED}']) == ['disc07']
    assert {'disc03', 'disc11'} < {*ids(found['Outlines that fit the image least'])}
    headings = [*found]
    assert headings.index('Classes, with their share of the pixels') == 0
    assert headings[1:3] == [f'Suspicion: {INVERTED}', f'Suspicion: {WRONG}']
    text = text_of()
    assert text.index('No problem, but 4 suspicions') < text.index('Classes, with')
    assert 'bicycle: no mask has a pixel of it' in text


def test_nothing_is_suspected_of_a_sound_set(folder, capsys):
    data_set(folder, 20, SIZE)
    make_page()
    assert capsys.readouterr().out.endswith('report: page/index.html\n')
    assert 'Nothing is wrong, and nothing looks suspicious' in text_of()
    assert not [heading for heading in sections() if heading.startswith(('Susp', 'Problem'))]


def test_the_classes_rows_have_the_figures_of_the_report(folder):
    data_set(folder, 8, values=(0, 128, 255))
    (folder / 'classes.json').write_text('{"<ground>": 0, "rim": 128, "disc": 255, "sky": 7}')
    make_page('--json', 'report.json')
    page = Path('page/index.html').read_text()
    rows = json.loads(Path('report.json').read_text())['classes']
    assert [row['masks'] for row in rows] == [8, 8, 8, 0]
    for row in rows:
        share = f'{100 * row["share"]:.3g}'
        masks = f'in {row["masks"]} of 8 masks' if row['masks'] else 'in no mask'
        name = row['name'].replace('<', '&lt;').replace('>', '&gt;')
        assert re.search(rf'<td>{name} \(value {row["value"]}\).*?{share} %.*?{masks}', page)
    assert 'width: ' + f'{100 * rows[1]["share"]:.3g}%' in page


def test_odd_ones_are_the_emptiest_fullest_rarest_and_most_ignored(folder):
    _, masks = data_set(folder, 12, SIZE)
    for k, name in enumerate(sorted(path.name for path in masks.iterdir())):
        mask = np.zeros(SIZE[::-1], np.uint8)
        mask[5 : 7 + 2 * ((5 * k) % 12), 10:70] = 1  # heights of 2 to 24, in no order
        if k in (2, 8):
            mask[50:52, : k + 1] = 2
        mask[60:63, : 3 * (k == 4) + 2 * (k == 9)] = 255
        Image.fromarray(mask).save(masks / name)
    make_page('--ignore-value', '255')
    found = sections()
    assert ids(found['Emptiest masks']) == ['disc00', 'disc05', 'disc10']
    assert ids(found['Fullest masks']) == ['disc07', 'disc02', 'disc09']
    assert ids(found['Rarest class: 2']) == ['disc08', 'disc02']
    assert ids(found['Most pixels that do not count']) == ['disc04', 'disc09']
    assert '2 0.293 %' in found['Rarest class: 2'][0][0]  # 9 x 2 of 96 x 64 pixels
    shown = {name for name in found for name in ids(found[name]) if name}
    others = ids(found['Other pairs, chosen at random'])
    earlier = {name for head in found if 'random' not in head for name in ids(found[head])}
    assert not earlier & {*others}
    assert len(shown) <= 12 + len(found)


def test_values_that_a_note_doubts_are_shown(folder):
    from scenes import objects, rim, save_set

    masks = [rim(np.minimum(objects(k, 5), 3), 255) for k in range(8)]
    _, labels = save_set(folder, masks)
    names = sorted(path.stem for path in labels.iterdir())
    shares = [(mask == 255).mean() for mask in masks]
    make_page()
    figures = sections()['Does 255 mean not labelled?']
    assert ids(figures) == [names[k] for k in sorted(range(8), key=lambda k: (-shares[k], k))[:3]]
    assert all(f'value {100 * max(shares):.3g} %' in text for text, _ in figures[:1])


def test_names_and_problems_are_escaped_and_pairs_with_problems_are_shown(folder):
    names = ['<script>alert(1)', 'b&"c', *(f'd{k}' for k in range(8))]
    images, masks = data_set(folder, 10, names=names)
    Image.new('L', (20, 10)).save(masks / '<script>alert(1).png')
    (images / 'd1.png').write_bytes(b'')
    (masks / 'd2.png').unlink()
    make_page(code=2)
    page = Path('page/index.html').read_text()
    check_self_contained(page)
    assert '<script' not in page
    text = text_of()
    assert '3 problems' in text
    assert 'imgs/<script>alert(1).png is 48 x 32 but its mask masks/<script>alert(1).png' in text
    found = sections()
    (wrong,) = found['Problem: image and mask differ in size']
    assert 'image 48 x 32, mask 20 x 10, stretched' in wrong[0]
    assert wrong[1] == 2
    ((_, pictures),) = found['Problem: unreadable']
    assert pictures == 1  # of the mask, which is whole


def test_exchanged_folders_are_seen_as_the_files_are(folder):
    data_set(folder, 4, SIZE)
    (folder / 'imgs').rename('x')
    (folder / 'masks').rename('imgs')
    (folder / 'x').rename('masks')
    make_page(code=2)
    figures = sections()['Problem: too many mask values']
    assert [text[:6] for text, _ in figures] == ['disc00', 'disc01', 'disc02', 'disc03']
    assert [pictures for _, pictures in figures] == [2] * 4


def test_files_without_pairs_make_a_page_of_problems_alone(folder):
    data_set(folder, 3, names=['a', 'b', 'c'])
    for k, path in enumerate(sorted((folder / 'masks').iterdir())):
        path.rename(folder / f'masks/other{k}x.png')
    make_page(code=2)
    assert '3 without a mask' in text_of()
    assert not [figures for figures in sections().values() if figures]


def test_deep_images_joined_masks_and_a_validation_set_are_shown(folder):
    for side in ('', 'val_'):
        (folder / f'{side}imgs').mkdir()
        (folder / f'{side}masks/a').mkdir(parents=True)
        for k in range(3):
            pixels, mask = disc(k + 10 * len(side), SIZE)
            deep = pixels[..., 0].astype(np.uint16) * 7
            Image.fromarray(deep).save(folder / f'{side}imgs/{k}.png')
            Image.fromarray(mask.astype(np.uint8)).save(folder / f'{side}masks/a/{k}.png')
    options = ['--images', 'imgs/*.png', '--masks', 'masks/{class}/*.png']
    options += ['--val-images', 'val_imgs/*.png', '--val-masks', 'val_masks/{class}/*.png']
    make_page(*options)
    found = sections()
    texts = [text for figures in found.values() for text, _ in figures]
    assert any(text.startswith('validation/1 · validation') and ' a ' in text for text in texts)
    assert {pictures for figures in found.values() for _, pictures in figures} == {2}


def test_floats_without_a_common_range_are_shown_by_their_own(folder):
    data_set(folder, 4, SIZE)
    for k, path in enumerate(sorted((folder / 'imgs').iterdir())):
        pixels = disc(k, SIZE, colours=3 if k else 5)[0].astype(np.float32) * 9
        np.save(path.with_suffix('.npy'), pixels)
        path.unlink()
    make_page(code=2)
    assert '1 problem' in text_of()  # the images have different numbers of channels
    assert 'file as it is' not in Path('page/index.html').read_text()
    assert {pictures for figures in sections().values() for _, pictures in figures} == {2}


def test_a_copy_in_the_validation_set_is_shown_beside_its_original(folder):
    images, masks = data_set(folder, 8, SIZE)
    (folder / 'vi').mkdir()
    (folder / 'vm').mkdir()
    for k in range(8, 11):
        pixels, mask = disc(k, SIZE)
        Image.fromarray(pixels).save(folder / f'vi/v{k}.png')
        Image.fromarray(mask.astype(np.uint8)).save(folder / f'vm/v{k}.png')
    Image.open(images / 'disc05.png').save(folder / 'vi/v9.jpg', quality=90)
    (folder / 'vi/v9.png').unlink()
    Image.open(masks / 'disc05.png').save(folder / 'vm/v9.png')
    make_page('--val-images', 'vi', '--val-masks', 'vm')
    kind = 'Suspicion: image to validate on nearly equals one to train on'
    ((text, pictures),) = sections()[kind]
    assert text.startswith('validation/v9 · validation')
    assert text.endswith('disc05 · training')
    assert pictures == 2


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--report', 'page'], '--report writes the report of --check; add that, or leave'),
        (['--check', '--report', 'file'], 'file is a file; expected the name of a folder'),
        (['--check', '--report', 'none/page'], 'no folder none to write into'),
    ],
)
def test_a_page_that_cannot_be_made_is_refused_first(folder, capsys, options, message):
    (folder / 'file').touch()
    data_set(folder, 2)
    try:
        code = run_train(*options)
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert message in captured.err
    assert 'pairs' not in captured.out


def test_a_picture_keeps_within_its_bytes_and_all_within_five_megabytes():
    noise = np.random.default_rng(0).integers(0, 256, (420, 420, 3), np.uint8)
    html = embedded(Image.fromarray(noise), 'noise', 15_000)
    assert 2_000 < len(html) < 15_000 * 4 / 3 + 100
    figures = Figures(None, np.zeros((0, 0)), [])
    for count in (1, 40, 120):
        figures.share_bytes(count)
        assert 2 * count * figures.most_bytes <= ALL_BYTES
    assert ALL_BYTES * 4 / 3 < 4.5e6


def test_pairs_left_out_are_shown_too(folder):
    data_set(folder, 9)
    Image.new('L', (20, 10)).save('masks/disc02.png')
    make_page('--skip-bad')
    ((text, pictures),) = sections()['Left out: image and mask differ in size']
    assert text.startswith('disc02')
    assert pictures == 2
    assert 'Pairs left out for 1 problem' in text_of()


def test_of_many_bands_the_first_three_are_shown_as_colours(folder):
    data_set(folder, 4, SIZE)
    for k, path in enumerate(sorted((folder / 'imgs').iterdir())):
        pixels = disc(k, SIZE, colours=4)[0]
        pixels[..., 1:] = 0
        np.save(path.with_suffix('.npy'), pixels)
        path.unlink()
    make_page()
    data = re.search(r'jpeg;base64,([^"]*)', Path('page/index.html').read_text())[1]
    red, green, _ = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).mean(axis=(0, 1))
    assert red > green + 30


def test_of_very_many_pairs_some_are_measured_and_the_page_says_so(folder, monkeypatch):
    data_set(folder, 9)
    monkeypatch.setattr('utils.data.report.look.MOST_MEASURED', 4)
    make_page()
    assert '9 pairs' in text_of()
    assert 'suspicions are told from 3 of them' in text_of()  # each third one
