"""What the page shows and offers is what predict.py writes and evaluate.py scores."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from drawing import data_set
from networks import brightness_network, save
from originals import sensitive_network
from PIL import Image

import evaluate
import predict
from utils.app import results as results_module
from utils.app import views
from utils.app.downloads import FILES
from utils.app.models import LoadedModel, Models
from utils.app.results import Results, View
from utils.masks.encoding import CLASS_COLOURS
from utils.runtime.errors import UserError

MASK, ARRAY, DEEP = FILES


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with pictures, masks, and models of one, two and four classes and the original's."""
    monkeypatch.chdir(tmp_path)
    data_set(tmp_path, 3, size=(96, 64))
    save('one.pth', brightness_network(1), 0.5, mask_values=[0, 255])
    save('two.pth', brightness_network(2), mask_values=[0, 255])
    four = brightness_network(4)
    with torch.no_grad():
        four.outc.conv.bias[:] = torch.tensor([0.0, 2.0, 1.0, -10.0])
    save('four.pth', four, mask_values=[0, 85, 170, 255])
    inverted = {'background': 1, 'names': ['cell', 'ground <b>']}
    save('inverted.pth', brightness_network(2), mask_values=[0, 1], mask_encoding=inverted)
    network = sensitive_network(2, Image.open('imgs/disc00.png'), 0.5)
    torch.save(network.state_dict(), 'original.pth')
    return tmp_path


def results_of(*names):
    models = Models([Path(name) for name in names], (None, 'cpu', False))
    return Results(models)


def written(results, request, kind, folder, view=View()):  # noqa: B008
    folder.mkdir(exist_ok=True)
    return results.write(results.link(request), kind, view, folder).read_bytes()


@pytest.mark.parametrize('model', ['one', 'two', 'four', 'inverted', 'original'])
def test_downloads_are_the_files_of_predict_byte_by_byte(folder, model):
    results = results_of(f'{model}.pth')
    picture = Path('imgs/disc00.png')
    command = ['-m', f'{model}.pth', '-i', str(picture), '--device', 'cpu']
    request = results.request(f'{model}.pth', picture)
    for threshold in (0.5, 0.8) if model != 'four' else (0.5,):
        options = ['-t', str(threshold)] if threshold != 0.5 else []
        assert predict.main([*command, '-o', 'p.png', *options]) == 0
        mask = written(results, request, MASK, folder / 'out', View(threshold))
        assert mask == Path('p.png').read_bytes()
    assert predict.main([*command, '--format', 'probabilities', '-o', 'p.npy']) == 0
    assert written(results, request, ARRAY, folder / 'out') == Path('p.npy').read_bytes()
    if model != 'four':
        assert predict.main([*command, '--format', 'probabilities', '-o', 'deep.png']) == 0
        assert written(results, request, DEEP, folder / 'out') == Path('deep.png').read_bytes()
    assert sorted(path.name for path in (folder / 'out').iterdir())[0] == 'disc00_OUT.png'


def test_tiles_and_mirror_images_are_those_of_predict(folder):
    results, command = results_of('original.pth'), ['-m', 'original.pth', '-i', 'imgs/disc00.png']
    picture, found = Path('imgs/disc00.png'), set()
    for tile, mirrored in [(0, False), (32, False), (0, True)]:
        options = ['--tile', '32'] * bool(tile) + ['--tta', 'flip'] * mirrored
        assert predict.main([*command, '-o', 'p.npy', '--format', 'probabilities', *options]) == 0
        request = results.request('original.pth', picture, tile, mirrored)
        found.add(written(results, request, ARRAY, folder / 'out'))
        assert Path('p.npy').read_bytes() in found
    assert len(found) == 3


@pytest.mark.slow
def test_a_score_is_that_of_evaluate(folder):
    data = ['--images', 'imgs', '--masks', 'masks', '--device', 'cpu']
    for model in ('two', 'four', 'inverted'):
        if model == 'four':
            for mask in Path('masks').iterdir():
                Image.fromarray(np.asarray(Image.open(mask)) // 3).save(mask)  # 0 and 85
        if model == 'inverted':
            for mask in Path('masks').iterdir():
                Image.fromarray((np.asarray(Image.open(mask)) < 9).astype(np.uint8)).save(mask)
        assert evaluate.main(['-m', f'{model}.pth', *data, '--json', 's.json']) == 0
        expected = {
            r['image']: r['dice'] for r in json.loads(Path('s.json').read_text())['ranking']
        }
        results = results_of(f'{model}.pth')
        for name in ('disc00', 'disc02'):
            request = results.request(f'{model}.pth', Path(f'imgs/{name}.png'))
            drawing = results.draw(request, View(), Path(f'masks/{name}.png'))
            assert drawing.score.dice == pytest.approx(expected[name], abs=1e-12)
            assert drawing.score.errors.size == (384, 256)  # in larger pixels


def test_what_is_shown_follows_from_threshold_and_opacity(folder):
    results = results_of('two.pth')
    request = results.request('two.pth', Path('imgs/disc00.png'))
    drawn = results.draw(request, View(0.5, 0.5))
    small = (slice(None, None, 4),) * 2  # shown four times as large
    indices = np.asarray(drawn.mask)[small]
    assert drawn.size == (96, 64)
    assert drawn.shares == [pytest.approx((indices == k).mean()) for k in (0, 1)]
    assert 0.1 < drawn.shares[1] < 0.9
    assert np.array_equal(np.asarray(drawn.mask.convert('RGB'))[small], CLASS_COLOURS[indices])
    grey = np.asarray(drawn.probability).astype(int)[small]
    sure = abs(grey - 127.5) > 1
    assert ((grey > 127.5) == (indices == 1))[sure].all()
    assert results.draw(request, View(1.0)).shares == [1, 0]
    plain = np.asarray(results.draw(request, View(0.5, 0)).overlay)[small]
    image = np.asarray(Image.open('imgs/disc00.png'))
    assert (plain == image).all(axis=2).mean() > 0.8  # all but the yellow edges
    assert (np.asarray(drawn.overlay)[small] != image).any(axis=2).mean() > 0.1


def test_of_four_classes_each_has_its_probability_map(folder):
    results = results_of('four.pth')
    request = results.request('four.pth', Path('imgs/disc00.png'))
    maps = [np.asarray(results.draw(request, View(shown=k)).probability) / 255 for k in range(4)]
    assert np.allclose(sum(maps), 1, atol=0.01)
    assert maps[3].max() > 0.5 > maps[2].max()


def test_nothing_is_computed_again_for_another_view_or_a_download(folder, monkeypatch):
    calls = []
    predicted = LoadedModel.predict
    monkeypatch.setattr(LoadedModel, 'predict', lambda *a: calls.append(a[1:]) or predicted(*a))
    results = results_of('two.pth')
    request = results.request('two.pth', Path('imgs/disc00.png'))
    for threshold in (0.1, 0.5, 0.9):
        results.draw(request, View(threshold, threshold))
        written(results, request, MASK, folder / 'out', View(threshold))
    assert len(calls) == 1
    results.forget(request)
    results.draw(request, View())
    assert len(calls) == 2


def test_results_are_kept_up_to_a_size_and_the_last_one_always(folder, monkeypatch):
    results = results_of('two.pth')
    size = results.get(results.request('two.pth', Path('imgs/disc00.png'))).bytes
    assert size == 96 * 64 * (4 + 3)
    monkeypatch.setattr(results_module, 'KEPT_BYTES', 2 * size)
    for name in ('disc00', 'disc01', 'disc02', 'disc00'):
        results.get(results.request('two.pth', Path(f'imgs/{name}.png')))
    assert [key.source.stem for key in results._kept] == ['disc02', 'disc00']
    monkeypatch.setattr(results_module, 'KEPT_BYTES', 1)
    results.get(results.request('two.pth', Path('imgs/disc01.png')))
    assert [key.source.stem for key in results._kept] == ['disc01']


@pytest.mark.slow
def test_visitors_at_the_same_time_get_their_own(folder, monkeypatch):
    monkeypatch.setattr(results_module, 'KEPT_BYTES', 1)  # so that they disturb each other
    results = results_of('one.pth', 'two.pth', 'four.pth')
    requests = [
        results.request(f'{model}.pth', Path(f'imgs/disc0{k}.png'), mirrored=bool(k))
        for model in ('one', 'two', 'four')
        for k in range(3)
    ]

    def shown(request):
        drawing = results.draw(request, View())
        return tuple(drawing.shares), drawing.overlay.tobytes(), drawing.probability.tobytes()

    alone = list(map(shown, requests))
    assert len(set(alone)) == len(alone)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(shown, 4 * requests)) == 4 * alone


def test_links_name_files_of_this_page_only(folder):
    results = results_of('two.pth')
    request = results.request('two.pth', Path('imgs/disc00.png'))
    link = results.link(request)
    assert link == results.link(request)
    assert link != results_of('two.pth').link(request)  # of another start
    for name, kind in [('no-link', MASK), (link, '../../two.pth')]:
        with pytest.raises(UserError, match='no longer kept'):
            results.write(name, kind, View(), folder)


def test_a_mask_of_another_size_is_refused_with_both_sizes(folder):
    results = results_of('two.pth')
    Image.new('L', (50, 40)).save('small.png')
    request = results.request('two.pth', Path('imgs/disc00.png'))
    with pytest.raises(UserError, match=r'small\.png has 50 x 40 pixels and the picture 96 x 64'):
        results.draw(request, View(), Path('small.png'))


def test_the_tables_show_names_shares_and_dice_as_text(folder):
    results = results_of('inverted.pth')
    mask = (np.asarray(Image.open('masks/disc00.png')) < 9).astype(np.uint8)
    Image.fromarray(mask).save('truth.png')
    request = results.request('inverted.pth', Path('imgs/disc00.png'))
    drawing = results.draw(request, View(), Path('truth.png'))
    masks = results.models.load('inverted.pth').predictor.masks
    table = views.class_table(drawing, masks)
    assert 'cell' in table
    assert 'ground &lt;b&gt;' in table
    assert f'{100 * drawing.shares[1]:.2f} %' in table
    assert f'{drawing.score.dice:.4f}' in table
    model = results.models.load('inverted.pth')
    text = views.status('<a>.png', drawing, model)
    assert '&lt;a&gt;.png' in text
    assert '96 x 64 pixels at scale 1, predicted in 0.' in text
    assert views.message([]) == ''
    assert '&lt;i&gt;' in views.message(['<i>'])
