"""Timings of a card for dev/GPU.md: training steps and their parts, prediction, the programs.

On a CPU, tiny networks run through them once, to see that they work.
"""

import csv
import re
import sys
import time
from functools import cache, partial

import pytest
import torch
from conftest import ROOT
from device_steps import (
    CHANNELS,
    CPU,
    FULL,
    HEIGHT,
    HERE,
    ON_CARD,
    TINY,
    WIDTH,
    Trainer,
    batch,
    card_only,
    carvana_like,
    launch_seconds,
    median_seconds,
    original_step,
    pinned,
    tf32,
)
from devices import on_device
from test_device_programs import AMP, run
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import predict
import train
from unet import UNet
from utils.data.dataloader import to_device
from utils.inference.backends.selection import compiled
from utils.inference.logits import class_indices
from utils.inference.predictor import Predictor
from utils.runtime.memory import available_prediction_memory
from utils.runtime.precision import MixedPrecision

pytestmark = [pytest.mark.slow, pytest.mark.least(30)]
BATCHES = (1, 2) if TINY else (1, 2, 4, 8)
FILES = 6 if TINY else 256


@pytest.fixture(autouse=True)
def as_the_programs_run():
    """Use TF32 as torch does by default, and give memory back."""
    with tf32(True):
        yield
    if ON_CARD:
        torch.cuda.empty_cache()


def table(title, columns, rows):
    """Return a Markdown table; rows: cells by name."""
    lines = [f'| {title} | {" | ".join(columns)} |', '| --- ' * (len(columns) + 1) + '|']
    lines += [f'| {name} | {" | ".join(cells)} |' for name, cells in rows.items()]
    return '\n'.join(lines)


def ceilings():
    """Return the TFLOP/s of a bf16 matrix product and the GB/s of a copy, measured."""
    side, length = (256, 2**16) if TINY else (8192, 2**29)
    matrix = torch.randn(side, side, device=HERE, dtype=torch.bfloat16)
    product = median_seconds(lambda: matrix @ matrix)
    source = torch.randn(length, device=HERE)
    target = torch.empty_like(source)
    copied = median_seconds(lambda: target.copy_(source))
    return 2 * side**3 / product / 1e12, 2 * 4 * length / copied / 1e9


@cache
def step_flops():
    """Return the operations of a step for one image: three times the forward pass's, counted."""
    with torch.device('meta'), FlopCounterMode(display=False) as counter:
        UNet(3, 2, base_channels=CHANNELS)(torch.empty(1, 3, HEIGHT, WIDTH))
    return 3 * counter.get_total_flops()


def own_step(count, **options):
    """Return a step as train.py makes it, with the upload of pinned bytes, and its Trainer."""
    one = Trainer(**options)
    images, masks = batch(count, device=CPU)
    images = (255 * images).to(torch.uint8).contiguous(memory_format=torch.channels_last)
    item = dict(zip(('image', 'mask'), pinned(images, masks), strict=True))
    return (lambda: one.step(*to_device(item, HERE))), one


def timed_step(make, count, rate):
    """Return a cell of the table: images/s, milliseconds, share of the matrix rate, peak memory."""
    if ON_CARD:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    step = make()
    seconds = median_seconds(step)
    share = step_flops() * count / seconds / 1e12 / rate
    peak = f', {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB' if ON_CARD else ''
    return f'{count / seconds:.1f} ({1e3 * seconds:.1f} ms, {100 * share:.0f} %{peak})'


@pytest.mark.least(60)
def test_training_steps(record_property):
    rate, bandwidth = ceilings()
    ways = {
        "the original's loop": original_step,
        'fast': lambda count: own_step(count)[0],
        'classic': lambda count: own_step(count, recipe='classic')[0],
        'fast, float32 with TF32': lambda count: own_step(count, precision='fp32')[0],
    }
    rows = {
        name: [
            timed_step(partial(make, count), count, rate) if count < 4 or 'TF32' not in name else ''
            for count in BATCHES
        ]
        for name, make in ways.items()
    }
    text = (
        f'bf16 matrix products reach {rate:.3g} TFLOP/s, copies {bandwidth:.3g} GB/s. A step is '
        f'{step_flops() / 1e12:.3g} TFLOP an image. Images a second in training; in brackets a '
        "step's milliseconds, its share of that matrix rate, and peak memory.\n\n"
    )
    record_property('table', text + table('', [f'batch {count}' for count in BATCHES], rows))


def test_parts_of_a_step(record_property):
    step, one = own_step(2)
    for _ in range(3):
        step()
    images, masks = batch(2)

    def forward():
        with one.precision.autocast():
            return one.model(images)

    def with_backward():
        one.optimizer.zero_grad()
        one.criterion(forward(), masks).backward()

    logits = forward().detach().requires_grad_()
    finite = torch.zeros((), device=HERE)
    parts = {
        'forward': forward,
        'loss and its backward': lambda: one.criterion(logits, masks).backward(),
        'forward, loss, backward': with_backward,
        'clipping': lambda: torch.nn.utils.clip_grad_norm_(one.model.parameters(), 1.0),
        'guard': lambda: (one.guard.before_step(), one.guard.check(finite, finite)),
        'optimizer': one.optimizer.step,
        'whole step': step,
    }
    rows = {
        name: [f'{1e3 * seconds:.2f}' for seconds in (median_seconds(work), launch_seconds(work))]
        for name, work in parts.items()
    }
    record_property('table', table('fast at batch 2, ms', ['with the device', 'launched'], rows))


def masks_of(predictor, images):
    """Return the masks of one batch at full size, as predict.py makes them."""
    everyone = predictor.strips([(image, FULL) for image in images])
    return [[predictor.classify(strip) for strip in strips] for strips in everyone]


def test_prediction_on_the_device(record_property):
    torch.manual_seed(0)
    counts, rows = ((1, 4) if TINY else (1, 4, 8)), {}
    for name in ('fp32', 'bf16'):
        model = UNet(3, 2, base_channels=CHANNELS)
        predictor = Predictor(model, 0.5, [0, 255], MixedPrecision(HERE, name != 'fp32', name))
        predictor.use_backend('torch')
        network, whole = [], []
        for count in counts:
            shape = (count, HEIGHT, WIDTH, 3)
            images = torch.randint(0, 256, shape, dtype=torch.uint8).permute(0, 3, 1, 2)
            seconds = median_seconds(partial(predictor.predict_batch, images.to(HERE)))
            network.append(f'{count / seconds:.1f}')
            seconds = median_seconds(partial(masks_of, predictor, images))
            whole.append(f'{count / seconds:.1f}')
        rows |= {f'network, {name}': network, f'from upload to mask, {name}': whole}
    columns = [f'batch {count}' for count in counts]
    record_property('table', table('images a second in prediction', columns, rows))
    outputs = torch.rand(1, 1, HEIGHT, WIDTH, device=HERE)
    mask = torch.zeros(FULL[::-1], dtype=torch.uint8, device=HERE)
    parts = {
        'upsampling and deciding': lambda: class_indices(
            F.interpolate(outputs, FULL[::-1], mode='bilinear')
        ).to(torch.uint8),
        'download of a mask': mask.cpu,
        'asking for free memory': lambda: available_prediction_memory(HERE),
    }
    rows = {name: [f'{1e3 * median_seconds(work):.3f}'] for name, work in parts.items()}
    record_property('table', table("an image's other parts", ['ms'], rows))


@pytest.fixture(scope='module')
def many(tmp_path_factory):
    """Return a folder of FILES images and masks, and the options that name them."""
    folder = tmp_path_factory.mktemp('many')
    return folder, carvana_like(folder, FILES, FULL, min(FILES, 48))


@pytest.mark.least(100)
def test_programs_on_files(record_property, many, tmp_path):
    folder, data = many
    net = ['--base-channels', str(CHANNELS), '--wandb', 'disabled', *on_device(), *AMP]
    rows = {}
    for title, options in {
        '-b 2': ['-b', '2', '--cache', 'none', '-e', '1'],
        '-b 8': ['-b', '8', '--cache', 'ram', '-e', '2'],
        '-b 2 --cache device': ['-b', '2', '--cache', 'device', '-e', '2'],
    }.items():
        output = tmp_path / title.replace(' ', '')
        run(train, *data, *net, '--output', output, *options)
        with (output / 'metrics.csv').open(newline='', encoding='utf-8') as file:
            *_, last = csv.DictReader(file)
        wait = f'waits {100 * float(last["data_wait"]):.0f} % for data'
        rows[f'train.py --amp {title}'] = [f'{float(last["images_per_second"]):.1f}', wait]
    model = tmp_path / '-b8/last.pth'
    sys.path.insert(0, str(ROOT / 'scripts'))
    from benchmark_prediction import predict_like_original

    sources = sorted((folder / 'imgs').iterdir())[: 3 if TINY else 48]
    predictor = Predictor.load(model, None, on_device()[1])
    (tmp_path / 'original').mkdir()
    started = time.perf_counter()
    predict_like_original(predictor, sources, tmp_path / 'original')
    seconds = time.perf_counter() - started
    rows["predicting in the original's way"] = [f'{len(sources) / seconds:.1f}', '']
    for title, options in {
        'predict.py': [], 'predict.py --amp': AMP,
        'predict.py --amp --batch-size 4': [*AMP, '--batch-size', 4],
        'predict.py --amp --rle': [*AMP, '--rle', tmp_path / 's.csv'],
    }.items():  # fmt: skip
        where = [] if '--rle' in options else ['-o', f'{tmp_path}/{title.replace(" ", "")}/']
        text = run(predict, '-m', model, '-i', folder / 'imgs', *where, *on_device(), *options)
        rate = re.search(r'\(([\d.e+]+) images/s\)', text)
        rows[title] = [rate[1] if rate else '', '']
    record_property('table', table(f'{FILES} files', ['images a second', ''], rows))


@card_only
@pytest.mark.least(90)
def test_compiled_steps(record_property):
    rate, _ = ceilings()
    cells = []
    for count in (1, 8):
        torch._dynamo.reset()
        started = time.perf_counter()
        step, _ = own_step(count, compiled=lambda model: compiled(model, HERE))
        step()
        first = time.perf_counter() - started
        cells.append(f'{timed_step(lambda step=step: step, count, rate)}, first {first:.0f} s')
    rows = {'fast, --compile': cells}
    torch._dynamo.reset()
    model = UNet(3, 2, base_channels=CHANNELS)
    prediction = Predictor(model, 0.5, [0, 255], MixedPrecision(HERE, True, 'bf16'))
    prediction.use_backend('compile')
    image = torch.randint(0, 256, (1, 3, HEIGHT, WIDTH), dtype=torch.uint8).to(HERE)
    seconds = median_seconds(lambda: prediction.predict_batch(image))
    rows['prediction, --backend compile'] = [f'{1 / seconds:.1f}', '']
    record_property('table', table('images a second, compiled', ['batch 1', 'batch 8'], rows))
