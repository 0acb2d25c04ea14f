"""With fake CUDA tensors, no step and no prediction mixes devices or waits; needs no card.

A fake tensor has a device, a shape and a type, and no values: an operation on two devices fails as
on a card, and so does one that reads a value, for which a CPU waits on a card. What reads values by
design is left to a card: fp16's scaler, boundaries, statistics, the rows of resized strips.
"""

from functools import partial

import pytest
import torch
from devices import DEVICE
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from unet import UNet
from utils.data.augmentation import Augmented
from utils.evaluation import metrics
from utils.images.decoding import PILLOW_DECODE
from utils.inference import tiling
from utils.inference.predictor import Predictor
from utils.inference.tiling import Tiling, tiled_bands
from utils.masks.weight_map import from_bytes
from utils.runtime.precision import MixedPrecision
from utils.training.optimization import muon
from utils.training.optimization.deep_supervision import DeepSupervision
from utils.training.optimization.guard import StepGuard
from utils.training.optimization.loss import segmentation_loss, sum_totals
from utils.training.optimization.recipes import RECIPES
from utils.training.step import TrainStep, halve_resolution

pytestmark = [
    pytest.mark.slow,  # importing what fakes tensors takes seconds
    pytest.mark.skipif(torch.version.cuda is None, reason='this torch is built without CUDA'),
    pytest.mark.skipif(DEVICE != 'cpu', reason='needs no card'),
]
CARD = torch.device('cuda')
SIDE, VALID = 220, 36  # pixels of images; of their masks for a network without padding


@pytest.fixture
def fake(monkeypatch):
    """Compute with fake tensors, and autocast as if there were a card."""
    common = torch.cuda.amp.common
    monkeypatch.setattr(common, 'amp_definitely_not_available', lambda: False)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda *_, **__: True)
    # Fake tensors have no addresses.
    monkeypatch.setattr(muon, '_pointers', lambda *lists: [id(t) for part in lists for t in part])
    with FakeTensorMode() as mode:
        yield mode


def network(classes=2, **options):
    """A network of fake parameters, which Module.to could not move."""
    with CARD:
        return UNet(3, classes, base_channels=2, **options)


def on_card(*shape, dtype=torch.float32):
    return torch.zeros(*shape, dtype=dtype, device=CARD)


def backward_of(model):
    """Return a Tensor.backward that gives the parameters gradients of their shapes where it cannot.

    The engine of a torch that is built for CUDA looks for a driver. It works on one that is built
    for CPUs.
    """
    plain = torch.Tensor.backward

    def backward(loss):
        try:
            plain(loss)
        except RuntimeError as error:
            if 'hasPrimaryContext' not in str(error):
                raise
            for parameter in model.parameters():
                parameter.grad = torch.empty_like(parameter)

    return backward


def train_step(monkeypatch, recipe='fast', name='bf16', classes=2, weights=None, border=False,
               **options):  # fmt: skip
    """Compute two steps, the second one of two micro-batches, and return its loss."""
    chosen = RECIPES[recipe]
    model = network(classes, **(chosen.network | options)).train()
    monkeypatch.setattr(torch.Tensor, 'backward', backward_of(model))
    precision = MixedPrecision(CARD, name != 'fp32', name)
    precision.scaler = torch.amp.GradScaler('cuda', enabled=False)  # fp16's has to wait
    weights = None if weights is None else torch.tensor(weights, device=CARD)
    loss = partial(
        segmentation_loss, class_weights=weights,
        per_class=chosen.dice_loss == 'per-class', dice=chosen.dice_loss != 'none',
    )  # fmt: skip
    step = TrainStep(
        model, chosen.optimizer(model, 1e-3), precision, StepGuard(model), loss,
        sum_totals=partial(sum_totals, class_weights=weights),
    )  # fmt: skip
    if chosen.deep_supervision and model.padding == 'same':
        step.supervision = DeepSupervision(model, loss)
    side = VALID if model.padding == 'valid' else SIDE
    parts = [on_card(2, 3, SIDE, SIDE), on_card(2, side, side, dtype=torch.uint8)]
    if border:
        parts.append(from_bytes(on_card(2, side, side, dtype=torch.uint8)))
    step([tuple(parts)], 2)
    return step([tuple(parts)] * 2, 4)[0]


@pytest.mark.parametrize(
    'options',
    [
        {}, {'name': 'fp32'}, {'name': 'fp16'}, {'classes': 1}, {'bilinear': True},
        {'classes': 5, 'weights': [1.0, 2, 3, 4, 5]}, {'norm': 'none', 'dropout': 0.5},
        {'padding': 'valid', 'border': True}, {'recipe': 'classic'},
        {'recipe': 'classic', 'name': 'fp32', 'classes': 1, 'weights': [1.0, 2]},
        {'recipe': 'paper'}, {'recipe': 'paper', 'border': True, 'weights': [1.0, 2]},
    ],
    ids=str,
)  # fmt: skip
def test_a_step_stays_on_the_card_and_waits_for_nothing(fake, monkeypatch, options):
    loss = train_step(monkeypatch, **options)
    assert loss.device.type == 'cuda'
    assert loss.shape == ()


def test_a_step_with_activation_checkpointing_stays_on_the_card(fake, monkeypatch):
    plain = UNet.train
    monkeypatch.setattr(UNet, 'train', lambda model: (model.use_checkpointing(), plain(model))[1])
    assert train_step(monkeypatch).device.type == 'cuda'


@pytest.mark.parametrize(
    ('plant', 'error', 'message'),
    [
        (lambda loss: loss + torch.ones(7), RuntimeError, 'devices'),
        (lambda loss: loss * (2 if loss > 1 else 1), DataDependentOutputException, 'scalar'),
    ],
)
def test_a_tensor_on_the_cpu_and_a_wait_are_found(fake, monkeypatch, plant, error, message):
    check = StepGuard.check
    planted = lambda guard, loss, norm: check(guard, plant(loss), norm)  # noqa: E731
    monkeypatch.setattr(StepGuard, 'check', planted)
    with pytest.raises(error, match=message):
        train_step(monkeypatch)


@pytest.mark.parametrize('decode', ['fast', PILLOW_DECODE])
@pytest.mark.parametrize('classes', [1, 2, 5])
def test_a_prediction_stays_on_the_card(fake, monkeypatch, classes, decode):
    monkeypatch.setattr(UNet, 'to', lambda model, *_, **__: model)
    monkeypatch.setattr(tiling, 'available_prediction_memory', lambda device: 2**33)
    precision = MixedPrecision(CARD, True, 'bf16')
    predictor = Predictor(network(classes), 0.5, list(range(max(2, classes))), precision, decode)
    predictor.mirrored = True
    image = torch.zeros(3, 100, 150, dtype=torch.uint8)  # from a file, so on the CPU
    found = [strip for strips in predictor.strips([(image, (301, 203))] * 2) for strip in strips]
    found += predictor._strips_by(image, (301, 203), None)
    found += tiled_bands(lambda tile: predictor._foreground(tile[None])[0], image, Tiling(64, 32))
    for outputs in found:
        assert outputs.device.type == predictor.class_indices(outputs[None]).device.type == 'cuda'


def test_counting_and_augmentation_stay_on_the_card(fake):
    predicted, truth = (on_card(2, 64, 64, dtype=torch.uint8) for _ in range(2))
    found = [
        metrics.count_pixels(predicted.long(), truth, 3),
        metrics.count_thresholds(on_card(64, 64), truth[0]),
        *halve_resolution(on_card(2, 3, 64, 64), truth),
    ]
    items = [{'image': on_card(3, 64, 64, dtype=torch.uint8), 'mask': truth[0]}]
    for kind in ('flip', 'elastic', 'full'):
        found += Augmented(items, 0, kind)[(1, 0)].values()
    assert {tensor.device.type for tensor in found} == {'cuda'}
