"""Nobody waits for a copy before it is needed, and only what is needed is copied."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import brightness_network, save
from PIL import Image

import predict
from unet import UNet
from utils.inference import pipeline, tiling
from utils.inference.pipeline import PredictionPipeline
from utils.inference.predictor import Predictor
from utils.inference.tiling import Tiling
from utils.inference.transfer import Download, pinned, stacked, to_device
from utils.inference.work_list import Job

CPU = torch.device('cpu')


@pytest.fixture
def pictures(folder):
    """A network, and six pictures of noise, the third of another size."""
    save('MODEL.pth', brightness_network(), mask_values=[0, 255])
    rng = np.random.default_rng(0)
    Path('in').mkdir()
    for k, shape in enumerate([(40, 64), (40, 64), (32, 48), (40, 64), (40, 64), (40, 64)]):
        Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(f'in/{k}.png')
    return folder


def run(predictor, target='.png', **options):
    jobs = [
        Job(path, Path('out', path.stem + target), None) for path in sorted(Path('in').iterdir())
    ]
    return list(PredictionPipeline(predictor, **options).process(jobs, lambda _: 1))


@pytest.mark.parametrize('batch_size', [1, 2])
def test_the_next_batch_is_launched_before_this_one_is_waited_for(
    pictures, monkeypatch, batch_size
):
    """Each wait lasts until a later launch: if that came after the wait, none would end."""
    launched = threading.Condition()
    launches, waits = [], []
    forward, wait = Predictor.predict_batch, Download.wait

    def launch(predictor, images):
        with launched:
            launches.append(len(images))
            launched.notify_all()
        return forward(predictor, images)

    def waiting(download):
        with launched:
            own = waits.append(download) or len(waits)
            enough = min(6, (own - 1) // batch_size * batch_size + batch_size + 1)
            assert launched.wait_for(lambda: sum(launches) >= enough, timeout=20)
        return wait(download)

    monkeypatch.setattr(Predictor, 'predict_batch', launch)
    monkeypatch.setattr(Download, 'wait', waiting)
    monkeypatch.setattr(pipeline, 'share_of_cores', lambda: 1)
    assert len(run(Predictor.load('MODEL.pth', device='cpu'), batch_size=batch_size)) == 6
    assert len(waits) == sum(launches) == 6


def test_images_of_a_batch_are_decoded_at_the_same_time(pictures, monkeypatch):
    both, read = threading.Barrier(2, timeout=20), Predictor.read_file

    def meeting(predictor, path):
        both.wait()
        return read(predictor, path)

    monkeypatch.setattr(Predictor, 'read_file', meeting)
    monkeypatch.setattr(pipeline, 'share_of_cores', lambda: 2)
    assert len(run(Predictor.load('MODEL.pth', device='cpu'), batch_size=6)) == 6


@pytest.mark.parametrize('output_format', ['values', 'index', 'color', 'overlay', 'probabilities'])
def test_nothing_but_class_indices_comes_back_unless_probabilities_are_asked_for(
    pictures, monkeypatch, output_format
):
    added, add = [], Download.add

    def adding(download, strip):
        added.append((strip.dtype, len(strip)))
        add(download, strip)

    def forbidden(*_, **__):
        raise AssertionError('a copy that waits')

    monkeypatch.setattr(Download, 'add', adding)
    for name in ('cpu', 'item', 'tolist'):
        monkeypatch.setattr(torch.Tensor, name, forbidden)
    run(Predictor.load('MODEL.pth', device='cpu'), '.png', output_format=output_format)
    indices = [(torch.uint8, 1)] * 6
    floats = [(torch.float32, 1)] * 6 if output_format == 'probabilities' else []
    assert sorted(added, key=str) == sorted(indices + floats, key=str)


def test_memory_is_asked_for_once_a_size_and_again_later(pictures, monkeypatch):
    asked, now = [], [0.0]
    monkeypatch.setattr(tiling, 'available_prediction_memory', lambda _: asked.append(1) or 2**40)
    monkeypatch.setattr(tiling.time, 'monotonic', lambda: now[0])
    predictor = Predictor.load('MODEL.pth', device='cpu')
    image = np.zeros((40, 64, 3), np.uint8)
    for _ in range(50):
        predictor.predict_image(image)
    assert len(asked) == 1
    run(predictor)  # one more size
    assert len(asked) == 2
    now[0] = tiling.ASK_AGAIN + 1
    predictor.predict_image(image)
    assert len(asked) == 3


def test_smaller_tiles_are_remembered_when_memory_ran_out(folder, monkeypatch, capsys):
    monkeypatch.setattr(tiling, 'SIDES', (64,))
    monkeypatch.setattr(tiling, 'Tiling', lambda side: Tiling(side, 16))
    forward = UNet.forward

    def limited(model, x):
        if x.shape[2] * x.shape[3] > 64 * 64:
            raise RuntimeError(
                'CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling cublasCreate'
            )
        return forward(model, x)

    monkeypatch.setattr(UNet, 'forward', limited)
    predictor = Predictor(UNet(3, 2, base_channels=2), 1.0, [0, 1])
    for _ in range(3):
        predictor.predict_image(np.zeros((100, 100, 3), np.uint8))
    assert capsys.readouterr().out.count('out of memory') == 1


@pytest.mark.slow
@pytest.mark.parametrize(('classes', 'strip'), [(1, 700), (2, 2**24), (5, 700)])
def test_batches_and_single_images_give_the_same_masks_and_probabilities(
    pictures, monkeypatch, classes, strip
):
    monkeypatch.setattr(tiling, 'STRIP_PIXELS', strip)
    torch.manual_seed(0)
    values = list(range(max(2, classes)))
    save('MODEL.pth', UNet(3, classes, base_channels=2), 0.5, mask_values=values)
    command = ['-i', 'in', '-o', 'out/', '--overwrite', '--backend', 'torch', '--device', 'cpu']
    predictor = Predictor.load('MODEL.pth', device='cpu')
    predictor.use_backend('torch')
    for batch in ('1', '3'):
        assert predict.main([*command, '--batch-size', batch, '--format', 'index']) == 0
        assert predict.main([*command, '--batch-size', batch, '--format', 'probabilities']) == 0
        for path in sorted(Path('in').iterdir()):
            expected = predictor.predict_probabilities(path).permute(1, 2, 0).squeeze(2).numpy()
            found = np.load(f'out/{path.stem}.npy')
            assert found.dtype == np.float32
            assert np.abs(found - expected).max() <= (0 if batch == '1' else 1e-6)
            indices = np.asarray(Image.open(f'out/{path.stem}.png'))
            assert np.array_equal(indices, predictor.predict_file(path))


@pytest.mark.parametrize('rows', [[7], [3, 3, 1]])
def test_a_download_joins_strips_of_all_planes(rows):
    whole = torch.rand(3, 7, 5)
    download = Download(7)
    for strip in whole.split(rows, dim=1):
        download.add(strip)
    assert np.array_equal(download.wait(), whole.numpy())
    incomplete = Download(7)
    incomplete.add(whole[:, :3])
    with pytest.raises(ValueError, match='3 of 7 rows'):
        incomplete.wait()


def test_images_are_stacked_channels_last_and_stay_where_they_are_without_a_card():
    images = [torch.randint(0, 256, (6, 8, 3), dtype=torch.uint8).permute(2, 0, 1) for _ in '123']
    batch = stacked(images, CPU)
    assert torch.equal(batch, torch.stack(images))
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert to_device(batch, CPU).data_ptr() == batch.data_ptr()
    assert pinned(images[0], CPU) is images[0]
