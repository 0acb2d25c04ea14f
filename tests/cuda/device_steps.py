"""Batches, steps and data sets of the checks of a card: in Carvana's sizes, or in tiny ones."""

import os
import statistics
import time
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch
from devices import DEVICE, TINY
from PIL import Image, ImageDraw
from torch.nn import functional as F

from unet import UNet
from utils.runtime.precision import MixedPrecision
from utils.training.optimization.deep_supervision import DeepSupervision
from utils.training.optimization.guard import StepGuard
from utils.training.optimization.loss import segmentation_loss
from utils.training.optimization.recipes import RECIPES
from utils.training.step import TrainStep

HERE, CPU = torch.device(DEVICE), torch.device('cpu')
ON_CARD = HERE.type == 'cuda'
WIDTH, HEIGHT = (96, 64) if TINY else (959, 640)  # pixels of a Carvana image at scale 0.5
FULL = (2 * WIDTH, 2 * HEIGHT)
CHANNELS = 4 if TINY else 64

card_only = pytest.mark.skipif(not ON_CARD, reason='needs a CUDA card')


def wait():
    """Wait for the device."""
    if ON_CARD:
        torch.cuda.synchronize()


def relative(found, expected):
    """Return the norm of the difference by that of what is expected."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    return ((found - expected).norm() / expected.norm().clamp(min=1e-30)).item()


@contextmanager
def tf32(allowed):
    """Let convolutions use TF32, or not; torch lets them, the tests do not (conftest.py)."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def batch(count=2, height=HEIGHT, width=WIDTH, classes=2, device=HERE, seed=0):
    """Return random images and masks, of which an eighth is ignored."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, height, width, generator=generator)
    shape = (count, height, width)
    masks = torch.randint(0, max(2, classes), shape, generator=generator, dtype=torch.uint8)
    masks[:, : height // 8] = 255
    return images.to(device, memory_format=torch.channels_last), masks.to(device)


class Trainer:
    """A recipe's network and steps, as train.py makes them."""

    def __init__(self, recipe='fast', precision='bf16', device=HERE, classes=2, channels=CHANNELS,
                 rate=None, weights=None, compiled=None, **network):  # fmt: skip
        torch.manual_seed(0)
        chosen = RECIPES[recipe]
        self.model = UNet(3, classes, base_channels=channels, **(chosen.network | network))
        self.model.to(device, memory_format=torch.channels_last).train()
        self.optimizer = chosen.optimizer(self.model, rate or chosen.learning_rate)
        self.precision = MixedPrecision(device, precision != 'fp32', precision)
        self.guard = StepGuard(self.model)
        self.criterion = partial(
            segmentation_loss,
            class_weights=weights and torch.tensor(weights, device=device),
            per_class=chosen.dice_loss == 'per-class',
            dice=chosen.dice_loss != 'none',
        )
        self.train_step = TrainStep(
            compiled(self.model) if compiled else self.model,
            self.optimizer, self.precision, self.guard,
            torch.compile(self.criterion, dynamic=False) if compiled else self.criterion,
        )  # fmt: skip
        if chosen.deep_supervision and self.model.padding == 'same':
            self.train_step.supervision = DeepSupervision(self.model, self.criterion)

    def step(self, *parts):
        """Make a step of one batch; return its loss and gradient norm."""
        return self.train_step([parts], len(parts[0]))


def median_seconds(work, runs=2 if TINY else 8):
    """Return the median seconds of a run, the device waited for, after two warm-ups."""
    times = []
    for run in range(runs + 2):
        wait()
        started = time.perf_counter()
        work()
        wait()
        if run > 1:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def launch_seconds(work):
    """Return the seconds until the calls return, without waiting for the device."""
    work()
    wait()
    started = time.perf_counter()
    work()
    spent = time.perf_counter() - started
    wait()
    return spent


def carvana_like(folder, count, size=FULL, kinds=8):
    """Write JPEGs and GIF masks with Carvana's names; those after `kinds` are links to them."""
    for name in ('imgs', 'masks'):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)

    def files(k):
        stem = f'{k // 16:012x}_{k % 16 + 1:02d}'
        return folder / f'imgs/{stem}.jpg', folder / f'masks/{stem}_mask.gif'

    for k in range(count):
        if k >= kinds:
            for first, path in zip(files(k % kinds), files(k), strict=True):
                os.link(first, path)
            continue
        noise = (rng.random((size[1] // 4, size[0] // 4, 3)) * 120 + 60).astype(np.uint8)
        picture = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
        mask = Image.new('L', size)
        x, y = rng.uniform(0.1, 0.4, 2) * size
        box = (x, y, x + size[0] * 0.45, y + size[1] * 0.5)
        ImageDraw.Draw(mask).ellipse(box, fill=255)
        ImageDraw.Draw(picture).ellipse(box, fill=(200, 40, 40))
        image_file, mask_file = files(k)
        picture.save(image_file, quality=90)
        mask.convert('1', dither=Image.Dither.NONE).save(mask_file)
    return ['--images', str(folder / 'imgs'), '--masks', str(folder / 'masks')]


def pinned(*tensors):
    return [tensor.pin_memory() if ON_CARD else tensor for tensor in tensors]


def original_step(count):
    """Return a step of milesial/Pytorch-UNet's training in our words.

    float16 with a scaler, RMSprop, loss by one_hot and all classes' joint Dice, read three times.
    """
    model = UNet(3, 2, base_channels=CHANNELS)
    model.to(HERE, memory_format=torch.channels_last).train()
    optimizer = torch.optim.RMSprop(
        model.parameters(), lr=1e-5, weight_decay=1e-8, momentum=0.999, foreach=True
    )
    scaler = torch.amp.GradScaler(HERE.type, enabled=ON_CARD)
    dtype = torch.float16 if ON_CARD else torch.bfloat16
    images, masks = batch(count, device=CPU)
    images, masks = pinned(images.contiguous(), masks.clamp(max=1).long())

    def step():
        x = images.to(HERE, dtype=torch.float32, memory_format=torch.channels_last)
        y = masks.to(HERE, dtype=torch.long)
        with torch.autocast(HERE.type, dtype=dtype):
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            found = F.softmax(logits, dim=1).float().flatten(0, 1)
            truth = F.one_hot(y, 2).permute(0, 3, 1, 2).float().flatten(0, 1)
            sizes = found.sum() + truth.sum()
            loss = loss + 1 - (2 * (found * truth).sum() + 1e-6) / (sizes + 1e-6)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss.item() + loss.item() + loss.item()

    return step
