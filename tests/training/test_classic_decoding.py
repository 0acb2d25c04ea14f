"""The recipe classic trains, validates, predicts and scores on the original's preprocessing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from drawing import data_set
from originals import (
    differing,
    logits_at_full_size,
    original_mask,
    preprocessed,
    sensitive_network,
)
from PIL import Image
from running import run_train

import evaluate
import predict
import train
from utils.data.cache import placement
from utils.data.dataset import SegmentationDataset
from utils.images.decoding import DECODE_PATH, PILLOW_DECODE, PILLOW_NOTE
from utils.inference.checkpoint import load_checkpoint
from utils.training import data as training_data

SIZE = (97, 65)
SCALED = ['-e', '1', '-v', '34', '--recipe', 'classic', '-s', '0.5']


@pytest.fixture
def turned(folder):
    """JPEG images of odd size with an EXIF orientation, and masks drawn on the stored pictures."""
    images, masks = data_set(folder, 3, SIZE)
    exif = Image.Exif()
    exif[274] = 6
    for path in list(images.iterdir()):
        Image.open(path).save(path.with_suffix('.jpg'), exif=exif, quality=90)
        path.unlink()
    return images, masks


def test_items_are_the_originals_and_masks_are_not_turned_either(turned):
    images, masks = turned
    exif = Image.Exif()
    exif[274] = 6
    for path in masks.iterdir():  # as a program writes them that copies EXIF from the image
        Image.open(path).save(path, exif=exif)
    dataset = SegmentationDataset(images, masks, 0.5, decode=PILLOW_DECODE)
    for k, pair in enumerate(dataset.pairs):
        item = dataset[k]
        expected = preprocessed(Image.open(pair.image), 0.5).astype(np.float32)
        assert np.array_equal(item['image'].float().div_(255), expected)
        nearest = Image.open(pair.mask).resize((48, 32), Image.Resampling.NEAREST)
        assert np.array_equal(item['mask'], np.asarray(nearest) // 255)
        assert dataset.mask(k).shape == SIZE[::-1]


@pytest.mark.slow
def test_classic_trains_validates_and_records_it(turned, capsys, monkeypatch):
    datasets, make = [], training_data.SegmentationDataset

    def remembering(*args, **options):
        datasets.append(make(*args, **options))
        return datasets[-1]

    monkeypatch.setattr(training_data, 'SegmentationDataset', remembering)
    assert run_train(*SCALED) == 0
    assert capsys.readouterr().out.count(PILLOW_NOTE) == 1
    assert datasets[0].decode == PILLOW_DECODE
    for name in ('last', 'best', 'checkpoint_epoch1'):
        assert load_checkpoint(f'checkpoints/{name}.pth').decode == PILLOW_DECODE
    trained = load_checkpoint('checkpoints/best.pth')
    assert predict.main(['-m', 'checkpoints/best.pth', '-i', 'imgs/disc00.jpg', '-o', 'o.npy']) == 0
    assert capsys.readouterr().out.count(PILLOW_NOTE) == 1
    logits = logits_at_full_size(trained.build_model(), Image.open('imgs/disc00.jpg'), 0.5)
    assert differing(np.load('o.npy') // 255, logits, least_sure=0) == 0


def test_the_other_recipes_keep_the_fast_way(folder):
    data_set(folder, 3)
    assert run_train('-e', '1', '-v', '0') == 0
    assert load_checkpoint('checkpoints/last.pth').decode == DECODE_PATH


@pytest.mark.slow
def test_a_resumed_run_keeps_the_way_it_began_with(folder):
    data_set(folder, 3)
    assert run_train('-e', '1', '-v', '0', '--recipe', 'classic') == 0
    content = torch.load('checkpoints/last.pth')
    content['preprocessing']['decode'] = 'pillow, bicubic'  # of earlier versions: the fast way
    torch.save(content, 'checkpoints/last.pth')
    assert train.main(['--resume', '-e', '2', '--wandb', 'disabled']) == 0
    assert load_checkpoint('checkpoints/last.pth').decode == DECODE_PATH


def test_the_check_of_the_data_reads_them_as_the_recipe_does(turned, capsys):
    options = ['--check', '--images', 'imgs', '--masks', 'masks']
    assert train.main(options) == 2  # turned, the images do not fit their masks
    assert 'EXIF' in capsys.readouterr().out
    assert train.main([*options, '--recipe', 'classic']) == 0
    assert PILLOW_NOTE in capsys.readouterr().out


def test_caches_of_the_two_ways_are_two_files_and_neither_removes_the_other(folder):
    folders = data_set(folder, 3, SIZE, image_suffix='.jpg')
    cpu = torch.device('cpu')
    items, paths = {}, []
    for _ in range(2):
        for decode in (DECODE_PATH, PILLOW_DECODE):
            dataset = SegmentationDataset(*folders, 0.5, decode=decode)
            stored, _ = placement.cached(dataset, 'disk', 2, 0, cpu)
            found = [stored[k]['image'].clone() for k in range(3)]
            assert all(torch.equal(found[k], dataset[k]['image']) for k in range(3))
            items[decode] = found
            paths.append(placement.cache_path(dataset, Path()).name)
    assert not torch.equal(items[DECODE_PATH][0], items[PILLOW_DECODE][0])
    assert len(set(paths)) == 2
    assert paths[0].split('-')[0] != paths[1].split('-')[0]


@pytest.mark.slow
@pytest.mark.parametrize('n_classes', [1, 2])
def test_scores_of_a_file_without_a_record_are_of_the_originals_masks(turned, n_classes):
    images, masks = turned
    paths = sorted(images.iterdir())
    network = sensitive_network(n_classes, Image.open(paths[0]), 0.5)
    torch.save(network.state_dict() | {'mask_values': [0, 255]}, 'flat.pth')
    data = ['-m', 'flat.pth', '--images', str(images), '--masks', str(masks), '-s', '0.5']
    for at_scale in (False, True):
        both, sums = 0, 0
        for path in paths:
            truth = Image.open(masks / f'{path.stem}.png')
            if at_scale:
                truth = truth.resize((48, 32), Image.Resampling.NEAREST)
                logits = logits_at_scale(network, path)
            else:
                logits = logits_at_full_size(network, Image.open(path), 0.5)
            found, true = original_mask(logits) > 0, np.asarray(truth) > 0
            both, sums = both + (found & true).sum(), sums + found.sum() + true.sum()
        options = ['--json', 's.json', *(['--at-scale'] if at_scale else ['--report', 'r'])]
        assert evaluate.main([*data, *options]) == 0
        scores = json.loads(Path('s.json').read_text())
        # Within the pixels whose class depends on the order of a sum.
        assert scores['dice_dataset'] == pytest.approx(2 * both / sums, abs=1e-3)


@torch.inference_mode()
def logits_at_scale(network, path):
    images = torch.from_numpy(preprocessed(Image.open(path), 0.5))[None].float()
    return network(images)[0]
