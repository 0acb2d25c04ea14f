"""Changed tables and caches are read, done again or refused with one message.

`pytest -m slow tests/training/test_mutated_tables.py` tries 5,000 files of each.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from drawing import data_set, pair_files, scan_all
from mutating import FUZZED, mutated_file

from utils.data.cache.stores import FileStore, StoredItems, record_ends
from utils.data.dataset import SegmentationDataset
from utils.masks.classes import MaskOptions, class_tables, requested_encoding
from utils.runtime.errors import UserError
from utils.runtime.files import user_cache
from utils.runtime.locks import _in_use
from utils.training.run_folder import check_output
from utils.training.tracking.table import keep_rows_until

CLASSES = [b'{"background": 0, "body": 128}', b'{\n  "a": [0, 0, 0],\n  "b": [0, 0, 255]\n}\n']
METRICS = [
    b'epoch,step,learning_rate,loss,dice_dataset,dice_per_image\r\n1,1,0.1,0.5,0.4,\r\n'
    b'1,2,0.1,0.25,0.5,0.5\r\n2,3,0.05,nan,0.5,0.5\r\n'
]
ARGS = [
    json.dumps({'run': 'a1b2', 'epochs': 5, 'images': 'imgs', 'mask_values': [0, 255]}).encode()
]
OWNER = [b'{"process": 77, "host": "a", "since": "2026-11-26 10:00"}']


def read_classes(path):
    requested_encoding(MaskOptions(), class_tables([path.parent]))


def resume_metrics(path):
    shutil.copy(path, 'kept.csv')
    keep_rows_until(Path('kept.csv'), 2)


def read_settings(path):
    check_output(path.parent, {'run': 'a1b2'})


def read_owner(path):
    raise _in_use(path.parent, path)


TABLES = {
    'classes.json': (read_classes, CLASSES),
    'metrics.csv': (resume_metrics, METRICS),
    'args.json': (read_settings, ARGS),
    'owner.json': (read_owner, OWNER),
}


def try_tables(name, seeds):
    work, contents = TABLES[name]
    Path('tables').mkdir()
    path, refused = Path('tables', name), 0
    for seed in seeds:
        path.write_bytes(mutated_file(contents[seed % len(contents)], 'text', seed, contents))
        try:
            work(path)
        except UserError as error:
            assert 'tables' in str(error) or '.csv' in str(error), (seed, str(error))
            refused += 1
        except Exception as error:
            raise AssertionError(f'seed {seed}: {path.read_bytes()[:300]}') from error
    return refused


@pytest.mark.parametrize('name', TABLES)
def test_changed_tables_are_read_or_refused_with_one_message(folder, name):
    assert try_tables(name, range(60)) > 5 or name == 'args.json'


@pytest.mark.slow
@pytest.mark.parametrize('name', TABLES)
def test_many_changed_tables_of_each_kind(folder, name):
    assert try_tables(name, range(FUZZED)) > FUZZED // 10 or name == 'args.json'


def try_scans(folder, seeds):
    """Change the remembered scan; the next one finds the same."""
    pairs = pair_files(*data_set(folder, 3))
    expected = scan_all(pairs)
    (path,) = user_cache('scans').glob('*.scan')
    content = path.read_bytes()
    for seed in seeds:
        path.write_bytes(mutated_file(content, 'text', seed))
        assert scan_all(pairs).metadata == expected.metadata, seed


def try_items(folder, seeds):
    """Change the file of decoded items; the same items come from it."""
    dataset = SegmentationDataset(*data_set(folder, 3), scale=0.5)
    expected = [dataset[k] for k in range(3)]
    path, size = folder / 'a.items', record_ends(dataset)[-1]
    sound = StoredItems(dataset, FileStore(path, size))
    assert all(torch.equal(sound[k]['image'], expected[k]['image']) for k in range(3))
    content = path.read_bytes()
    for seed in seeds:
        path.write_bytes(mutated_file(content, 'bmp', seed))
        items = StoredItems(dataset, FileStore(path, size))
        for k in range(3):
            assert all(torch.equal(items[k][name], expected[k][name]) for name in expected[k]), seed


@pytest.mark.parametrize('work', [try_scans, try_items])
def test_changed_caches_change_nothing(folder, work):
    work(folder, range(20))


@pytest.mark.slow
@pytest.mark.parametrize('work', [try_scans, try_items])
def test_many_changed_caches_change_nothing(folder, work):
    work(folder, range(FUZZED))
