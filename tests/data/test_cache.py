"""--cache: cached items equal decoded ones, damaged ones are not used, and space is limited."""

import os
import pickle
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawing import data_set
from PIL import Image
from running import run_train, same_weights

import train
from utils.data import dataset as datasets
from utils.data.augmentation import Augmented
from utils.data.cache import placement
from utils.data.cache.placement import cache_path, cached, choose_kind
from utils.data.cache.stores import FileStore, MemoryStore, StoredItems, record_ends
from utils.data.dataloader import ShuffledBatchSampler, make_dataloader
from utils.data.dataset import SegmentationDataset
from utils.runtime.errors import UserError
from utils.runtime.files import user_cache

CPU = torch.device('cpu')
META = torch.device('meta')  # any machine has this device other than the CPU


def dataset_of(folder, **options):
    return SegmentationDataset(*data_set(folder, 5, **options), scale=0.5)


def same_items(a, b):
    return all(torch.equal(a[i][name], b[i][name]) for i in range(len(b)) for name in b[i])


@pytest.fixture
def decoded(monkeypatch):
    """Return the list of the images that were decoded, in order."""
    names, load = [], datasets.read_image
    monkeypatch.setattr(
        datasets,
        'read_image',
        lambda path, *a: (names.append(path), load(path, *a))[1],
    )
    return names


@pytest.mark.parametrize('kind', ['ram', 'disk', 'device'])
@pytest.mark.parametrize('colours', [1, 3])
def test_items_are_decoded_once_and_the_same(tmp_path, decoded, kind, colours):
    dataset = dataset_of(tmp_path, colours=colours, image_suffix='.jpg', size=(49, 35))
    expected = [dataset[i] for i in range(5)]
    decoded.clear()
    items, line = cached(dataset, kind, 2, 0, CPU)
    assert len(items) == 5
    for _ in range(3):
        assert same_items(items, expected)
    assert len(decoded) == 5
    assert line.startswith('images: decoded once, ')
    # The same memory format, so that what follows computes bit-equal results.
    assert expected[0]['image'].permute(1, 2, 0).is_contiguous()
    assert items[0]['image'].permute(1, 2, 0).is_contiguous()


def test_the_next_run_reads_the_items_on_disk(tmp_path, decoded):
    dataset = dataset_of(tmp_path)
    expected = [dataset[i] for i in range(5)]
    items, line = cached(dataset, 'disk', 1, 0, CPU)
    assert str(cache_path(dataset, user_cache('items'))) in line
    assert same_items(items, expected)
    decoded.clear()
    for kind in ('disk', 'auto'):
        items, line = cached(dataset, kind, 1, 0, CPU)
        assert line.startswith('images: read from ')
        assert same_items(items, expected)
    assert not decoded
    assert {p.name for p in tmp_path.iterdir()} == {'imgs', 'masks', 'user-cache'}


@pytest.mark.parametrize('damage', ['flip', 'zero', 'short', 'empty', 'noise'])
def test_damaged_items_are_decoded_again(tmp_path, decoded, damage):
    dataset = dataset_of(tmp_path)
    expected = [dataset[i] for i in range(5)]
    assert same_items(cached(dataset, 'disk', 1, 0, CPU)[0], expected)
    path, ends = cache_path(dataset, user_cache('items')), record_ends(dataset)
    content = bytearray(path.read_bytes())
    content = {
        'flip': content[: ends[2] - 9] + bytes([content[ends[2] - 9] ^ 1]) + content[ends[2] - 8 :],
        'zero': content[: ends[1] + 100] + bytes(50) + content[ends[1] + 150 :],
        'short': content[:-100],
        'empty': b'',
        'noise': os.urandom(len(content)),
    }[damage]
    path.write_bytes(content)
    decoded.clear()
    for _ in range(2):
        assert same_items(cached(dataset, 'disk', 1, 0, CPU)[0], expected)
    assert len(decoded) == (1 if damage in ('flip', 'zero') else 5)


def test_changed_files_and_settings_have_their_own_cache_files(tmp_path):
    dataset = dataset_of(tmp_path)
    path = cache_path(dataset, tmp_path)
    assert cache_path(dataset_of(tmp_path / 'elsewhere'), tmp_path) != path
    for options in ({'scale': 0.4}, {'scale': 0.5, 'channels': 1}):
        other = SegmentationDataset(tmp_path / 'imgs', tmp_path / 'masks', **options)
        assert cache_path(other, tmp_path).name.split('-')[0] != path.name.split('-')[0]
    dataset.masks = replace(dataset.masks, values=[0, 254])
    changed = [cache_path(dataset, tmp_path)]
    dataset.masks = replace(dataset.masks, values=[0, 255])
    os.utime(tmp_path / 'masks/disc03.png', ns=(1, 1))
    changed.append(cache_path(dataset, tmp_path))
    assert len({path, *changed}) == 3
    assert {p.name.split('-')[0] for p in changed} == {path.name.split('-')[0]}


def test_the_cache_of_an_earlier_state_is_removed(tmp_path, decoded):
    dataset = dataset_of(tmp_path)
    old = [cached(dataset, 'disk', 1, 0, CPU)[0][i]['mask'].clone() for i in range(5)]
    (tmp_path / 'masks/disc00.png').write_bytes((tmp_path / 'masks/disc01.png').read_bytes())
    items = cached(dataset_of_folder(tmp_path), 'disk', 1, 0, CPU)[0]
    assert torch.equal(items[0]['mask'], old[1])
    assert len(list(user_cache('items').iterdir())) == 1


def dataset_of_folder(folder):
    return SegmentationDataset(folder / 'imgs', folder / 'masks', scale=0.5)


def test_the_least_recently_used_cache_is_evicted_first(tmp_path, monkeypatch):
    sets = [dataset_of(tmp_path / name) for name in 'abc']
    paths = [cache_path(dataset, user_cache('items')) for dataset in sets]
    size = record_ends(sets[0])[-1]
    for dataset in (sets[0], sets[1]):
        cached(dataset, 'disk', 1, 0, CPU)
    os.utime(paths[1], (1, 1))
    monkeypatch.setattr(placement, 'available_disk', lambda path: 2 * size + 10)
    cached(sets[2], 'disk', 1, 0, CPU)
    assert [path.is_file() for path in paths] == [True, False, True]


def test_a_full_disk_only_ends_the_caching(tmp_path, capsys):
    dataset = dataset_of(tmp_path)
    store = FileStore(tmp_path / 'a.items', record_ends(dataset)[-1])
    items = StoredItems(dataset, store)
    first = items[0]['image'].clone()
    store.path.unlink()  # like a full disk: it can no longer be written
    assert same_items(items, [dataset[i] for i in range(5)])
    assert torch.equal(items[0]['image'], first)
    assert capsys.readouterr().out.count(str(store.path)) == 1


def test_an_image_whose_size_changes_during_the_run_is_not_cached(tmp_path):
    dataset = dataset_of(tmp_path)
    items = StoredItems(dataset, MemoryStore(record_ends(dataset)[-1], shared=False))
    data_set(tmp_path, 1, size=(30, 20))
    with pytest.raises(UserError, match=r'disc00\.png has changed since .* 30 x 20 .* had 48 x 32'):
        items[0]
    assert items[1]['image'].shape == (3, 16, 24)


@pytest.mark.parametrize('kind', ['ram', 'disk'])
def test_workers_fill_the_cache_that_all_processes_read(tmp_path, decoded, kind):
    dataset = dataset_of(tmp_path)
    expected = [dataset[i] for i in range(5)]
    items, _ = cached(dataset, kind, 2, 2, CPU)
    augmented = Augmented(items, 0, 'none')
    list(make_dataloader(augmented, ShuffledBatchSampler([0, 1, 2, 3, 4], 2, 0), 2, CPU))
    decoded.clear()
    assert same_items(items, expected)
    if kind == 'disk':  # spawned workers get it pickled
        assert same_items(pickle.loads(pickle.dumps(items)), expected)
    assert not decoded


def test_auto_takes_what_has_space():
    available = {'ram': lambda: 5, 'disk': lambda: 9}
    nowhere = Path('no-such-file')
    assert choose_kind(5, nowhere, 2, available) == ('ram', '')
    assert choose_kind(9, nowhere, 2, available) == ('disk', '')
    assert choose_kind(10, nowhere, 2, available)[0] == 'none'
    assert choose_kind(5, nowhere, 1, available)[0] == 'none'
    assert choose_kind(5, Path(__file__), 1, available) == ('disk', '')


@pytest.mark.parametrize('kind', ['ram', 'disk', 'device'])
def test_a_cache_that_does_not_fit_is_an_error(tmp_path, monkeypatch, kind):
    for name in ('available_memory', 'available_disk', 'available_device_memory'):
        monkeypatch.setattr(placement, name, lambda _: 2**10)
    with pytest.raises(UserError, match=rf'--cache {kind}: .*Use another --cache'):
        cached(dataset_of(tmp_path), kind, 2, 0, META)


def test_a_folder_that_is_not_writable_is_an_error_only_if_asked_for(tmp_path, monkeypatch):
    dataset = dataset_of(tmp_path)
    (tmp_path / 'file').write_text('in the way')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    with pytest.raises(UserError, match=r'--cache disk: .* cannot be written: .* XDG_CACHE_HOME'):
        cached(dataset, 'disk', 2, 0, CPU)
    monkeypatch.setattr(placement, 'available_memory', lambda workers: 0)
    items, line = cached(dataset, 'auto', 2, 0, CPU)
    assert items is dataset
    assert 'decoded in each epoch (' in line
    assert 'cannot be written' in line


@pytest.mark.slow
@pytest.mark.parametrize('augment', [pytest.param('flip', marks=pytest.mark.slow), 'full'])
def test_caches_change_no_weight(folder, capsys, augment):
    data_set(folder, 6, image_suffix='.jpg', size=(70, 50))
    options = ['-e', '2', '-s', '0.5', '--augment', augment]
    assert run_train(*options, '--cache', 'none', '--output', 'none') == 0
    assert 'images: decoded in each epoch' in capsys.readouterr().out
    for kind in ['ram', 'disk', 'device', 'auto'] if augment == 'flip' else ['disk']:
        assert run_train(*options, '--cache', kind, '--output', kind) == 0
        assert same_weights('none/last.pth', f'{kind}/last.pth')
    if augment == 'flip':  # what --cache disk left is what auto finds
        assert 'images: read from' in capsys.readouterr().out


def test_a_resumed_run_may_use_another_cache(folder, capsys):
    data_set(folder, 4)
    assert run_train('-e', '1', '--cache', 'ram') == 0
    assert train.main(['--resume', '-e', '2', '--cache', 'disk']) == 0
    assert str(user_cache('items')) in capsys.readouterr().out


def test_images_of_more_than_8_bits_are_cached_as_floats(tmp_path):
    data_set(tmp_path, 3)
    for k, path in enumerate(sorted((tmp_path / 'imgs').iterdir())):
        pixels = np.random.default_rng(k).integers(0, 65536, (32, 48)).astype(np.uint16)
        Image.fromarray(pixels).save(path)
    dataset = SegmentationDataset(tmp_path / 'imgs', tmp_path / 'masks')
    stored = StoredItems(dataset, MemoryStore(record_ends(dataset)[-1], shared=False))
    for _ in range(2):  # decoded, then read
        for position in range(3):
            item, plain = stored[position], dataset[position]
            assert item['image'].dtype == torch.float32
            assert torch.equal(item['image'], plain['image'])
            assert torch.equal(item['mask'], plain['mask'])


def test_words_in_another_order_are_damage(tmp_path, decoded):
    dataset = dataset_of(tmp_path)
    expected = [dataset[i] for i in range(5)]
    assert same_items(cached(dataset, 'disk', 1, 0, CPU)[0], expected)
    path, ends = cache_path(dataset, user_cache('items')), record_ends(dataset)
    content = path.read_bytes()
    words = [content[k : k + 8] for k in range(ends[0], ends[1], 8)]
    first = next(k for k in range(1, len(words)) if words[k] != words[1])
    words[1], words[first] = words[first], words[1]
    path.write_bytes(content[: ends[0]] + b''.join(words) + content[ends[1] :])
    decoded.clear()
    assert same_items(cached(dataset, 'disk', 1, 0, CPU)[0], expected)
    assert len(decoded) == 1


def test_a_cache_that_is_truncated_under_a_run_is_decoded_again(tmp_path, decoded):
    dataset = dataset_of(tmp_path)
    items = cached(dataset, 'disk', 1, 0, CPU)[0]
    expected = [dataset[i] for i in range(5)]
    assert same_items(items, expected)
    os.truncate(cache_path(dataset, user_cache('items')), 100)
    assert same_items(items, expected)  # a map would have ended the process by SIGBUS


def test_only_the_user_may_read_decoded_images(tmp_path):
    dataset = dataset_of(tmp_path)
    user_cache('items').mkdir(parents=True, mode=0o755)
    assert same_items(cached(dataset, 'disk', 1, 0, CPU)[0], [dataset[i] for i in range(5)])
    path = cache_path(dataset, user_cache('items'))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
