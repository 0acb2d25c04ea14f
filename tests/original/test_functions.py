"""evaluate, predict_img, mask_to_image and others give what the original's give."""

import argparse
import inspect

import numpy as np
import pytest
import torch
from drawing import data_set
from networks import brightness_network
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader

import hubconf
import train
from evaluate import evaluate
from predict import get_output_filenames, mask_to_image, predict_img
from unet import UNet
from unet.unet_parts import DoubleConv, Down, OutConv, Up
from utils.data_loading import BasicDataset
from utils.dice_score import dice_coeff, dice_loss, multiclass_dice_coeff
from utils.utils import plot_img_and_mask

CPU = torch.device('cpu')


class Fixed(torch.nn.Module):
    """A network whose logits are its images, one channel a class."""

    def __init__(self, n_classes):
        super().__init__()
        self.n_channels = self.n_classes = n_classes

    def forward(self, x):
        return x


def sensitive_network(images, n_classes):
    """Return a network whose logits for the images have mean 0 and standard deviation 1."""
    torch.manual_seed(0)
    net = UNet(images.shape[1], n_classes, base_channels=4).eval()
    with torch.no_grad():
        std, mean = torch.std_mean(net(images), dim=(0, 2, 3))
        net.outc.conv.weight /= std.view(-1, 1, 1, 1)
        net.outc.conv.bias.sub_(mean).div_(std)
    return net


def dice(a, b):
    return (2 * (a & b).sum() + 1e-6) / (a.sum() + b.sum() + 1e-6)


def batches_of(sizes, n_classes):
    """Batches of random logits and masks; class 1 is in no mask of the first batch."""
    rng = np.random.default_rng(0)
    for k, size in enumerate(sizes):
        logits = rng.normal(size=(size, n_classes, 9, 7)).astype(np.float32)
        masks = rng.integers(0, max(2, n_classes), (size, 9, 7))
        masks[masks == (1 if k == 0 else -1)] = 0
        yield {'image': torch.from_numpy(logits), 'mask': torch.from_numpy(masks)}


@pytest.mark.parametrize('n_classes', [1, 2, 4])
def test_evaluate_is_the_mean_over_batches_of_the_mean_dice(n_classes):
    net, batches = Fixed(n_classes), list(batches_of([2, 2, 1], n_classes))
    expected = []
    for batch in batches:
        logits, masks = batch['image'].numpy(), batch['mask'].numpy()
        predicted = logits.argmax(1) if n_classes > 1 else (logits[:, 0] > 0).astype(int)
        scores = [
            dice(p == k, m == k)
            for p, m in zip(predicted, masks, strict=True)
            for k in range(1, max(2, n_classes))
        ]
        expected.append(np.mean(scores))
    score = evaluate(net, batches, CPU, False)
    assert score.item() == pytest.approx(np.mean(expected), abs=1e-6)
    assert net.training


def test_evaluate_scores_the_items_of_basic_dataset(tmp_path):
    loader = DataLoader(BasicDataset(*data_set(tmp_path, 3), scale=0.5), batch_size=1)
    assert evaluate(brightness_network(), loader, CPU, amp=False).item() > 0.9
    assert 0.9 < float(evaluate(brightness_network(), loader, CPU, amp=True)) < 1


def test_classes_absent_from_both_score_1_and_no_batch_scores_0():
    batch = {'image': torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1), 'mask': torch.zeros(1, 1, 1)}
    assert evaluate(Fixed(3), [batch], CPU, False).item() == 1
    assert evaluate(Fixed(3), [], CPU, False).item() == 0


@pytest.mark.parametrize(('n_classes', 'index'), [(1, 2), (2, 2), (3, -1), (3, 255)])
def test_evaluate_refuses_class_indices_out_of_range(n_classes, index):
    batch = {'image': torch.zeros(1, n_classes, 2, 2), 'mask': torch.full((1, 2, 2), index)}
    net = Fixed(n_classes)
    with pytest.raises(AssertionError, match=r'class indices .*; expected 0 to'):
        evaluate(net, [batch], CPU, False)
    assert net.training


@pytest.mark.parametrize('mode', ['RGB', 'L', '1'])
@pytest.mark.parametrize('n_classes', [1, 2, 3])
def test_predict_img_upsamples_logits_and_then_decides(n_classes, mode):
    rng = np.random.default_rng(1)
    picture = Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)).convert(mode)
    pixels = torch.from_numpy(BasicDataset.preprocess(None, picture, 0.5, is_mask=False))[None]
    net = sensitive_network(pixels.float(), n_classes).train()
    mask = predict_img(net, picture, CPU, scale_factor=0.5, out_threshold=0.48)
    assert not net.training
    assert (mask.dtype, mask.shape) == (np.int64, (50, 70))
    with torch.no_grad():
        logits = net(pixels.float())
        logits = F.interpolate(logits, (50, 70), mode='bilinear', align_corners=False)[0]
    expected = logits.argmax(0) if n_classes > 1 else logits[0].sigmoid() > 0.48
    assert np.array_equal(mask, expected.numpy().astype(int))
    assert len(np.unique(mask)) > 1


def test_predict_img_takes_the_images_full_size_and_a_probability_of_a_half_by_default():
    picture = Image.fromarray(np.repeat([[120], [140]], 20, axis=0).repeat(32, 1).astype(np.uint8))
    mask = predict_img(brightness_network(1, 1), picture, CPU)
    assert mask.dtype == np.int64
    assert np.array_equal(mask[:18], np.zeros((18, 32)))
    assert np.array_equal(mask[22:], np.ones((18, 32)))


@pytest.mark.parametrize(
    ('values', 'mode', 'expected'),
    [
        ([0, 1], '1', [[False, True, False]]),
        ([0, 255], 'L', [[0, 255, 0]]),
        ([5, 3, 9], 'L', [[5, 3, 9]]),
        ([[0, 0, 0], [9, 8, 7], [255, 0, 1]], 'RGB', [[[0, 0, 0], [9, 8, 7], [255, 0, 1]]]),
    ],
)
def test_mask_to_image_has_the_mode_of_the_values(values, mode, expected):
    indices = np.array([[0, 1, 2]])  # 2 has no value in the first two cases
    image = mask_to_image(indices, values)
    assert image.mode == mode
    assert np.asarray(image).tolist() == expected
    if len(values) == 3:
        scores = np.eye(3)[indices].transpose(2, 0, 1)
        assert np.array_equal(np.asarray(mask_to_image(scores, values)), np.asarray(image))


def test_a_predicted_mask_becomes_a_picture():
    mask = predict_img(brightness_network(), Image.new('RGB', (32, 20), 'white'), CPU)
    for form in (mask, torch.from_numpy(mask)):
        assert mask_to_image(form, [0, 1]).getcolors() == [(640, 255)]


def test_output_filenames_are_as_given_or_stand_beside_the_inputs():
    args = argparse.Namespace(input=['a.jpg', './b/c.d.png'], output=None)
    assert get_output_filenames(args) == ['a_OUT.png', './b/c.d_OUT.png']
    args.output = ['x.png', 'y.png']
    assert get_output_filenames(args) == ['x.png', 'y.png']


def test_the_plot_has_a_panel_for_the_image_and_each_class_and_is_shown(monkeypatch):
    plt = pytest.importorskip('matplotlib.pyplot')
    plt.switch_backend('agg')
    shown = []
    monkeypatch.setattr(plt, 'show', lambda: shown.append(plt.gcf()))
    plot_img_and_mask(Image.new('RGB', (3, 2)), np.array([[0, 2, 2], [0, 0, 2]]))
    (figure,) = shown
    image, *classes = [axis.get_images()[0].get_array() for axis in figure.axes]
    assert image.shape == (2, 3, 3)
    assert [panel.sum() for panel in classes] == [3, 0, 3]
    plt.close(figure)


def test_hubs_network_is_carvanas_and_other_scales_have_no_weights():
    net = hubconf.unet_carvana()
    assert (net.n_channels, net.n_classes, net.bilinear) == (3, 2, False)
    with pytest.raises(RuntimeError, match=r'scale 0\.5 and 1\.0, not 0\.7'):
        hubconf.unet_carvana(pretrained=True, scale=0.7)
    assert hubconf.unet_carvana(pretrained=False, scale=0.7).n_classes == 2


def test_blocks_of_the_network_take_the_originals_arguments():
    x = torch.zeros(1, 4, 8, 8)
    assert DoubleConv(4, 6)(x).shape == (1, 6, 8, 8)
    assert DoubleConv(4, 6, 5).double_conv[0].out_channels == 5
    assert DoubleConv(4, 6, mid_channels=5).double_conv[3].in_channels == 5
    assert Down(4, 6)(x).shape == (1, 6, 4, 4)
    assert OutConv(4, 2)(x).shape == (1, 2, 8, 8)
    skip = torch.zeros(1, 2, 17, 16)
    assert Up(6, 3)(torch.zeros(1, 4, 8, 8), skip).shape == (1, 3, 17, 16)
    assert isinstance(Up(6, 3).up, torch.nn.Upsample)
    assert Up(4, 3, bilinear=False)(x1=x, x2=skip).shape == (1, 3, 17, 16)


@pytest.mark.parametrize('shape', [(1, 4, 32, 32), (1, 3, 8, 32)])
def test_images_that_the_network_cannot_take_are_runtime_errors(shape):
    with pytest.raises(RuntimeError, match='the network takes'):
        UNet(3, 2, base_channels=2)(torch.zeros(shape))


def test_dice_of_other_sizes_is_an_assertion_error():
    a, b = torch.zeros(1, 2, 2), torch.zeros(2, 2)
    for wrong in (
        lambda: dice_coeff(a, b),
        lambda: dice_coeff(b, b, reduce_batch_first=True),
        lambda: multiclass_dice_coeff(a[None], torch.zeros(1, 2, 2, 2)),
        lambda: dice_loss(a, b),
    ):
        with pytest.raises(AssertionError):
            wrong()


@pytest.mark.parametrize(
    ('function', 'parameters'),
    [
        (evaluate, 'net, dataloader, device, amp'),
        (predict_img, 'net, full_img, device, scale_factor=1, out_threshold=0.5'),
        (mask_to_image, 'mask, mask_values'),
        (get_output_filenames, 'args'),
        (plot_img_and_mask, 'img, mask'),
        (
            train.train_model,
            'model, device, epochs=5, batch_size=1, learning_rate=1e-05, val_percent=0.1, '
            'save_checkpoint=True, img_scale=0.5, amp=False, weight_decay=1e-08, momentum=0.999, '
            'gradient_clipping=1.0',
        ),
        (dice_coeff, 'input, target, reduce_batch_first=False, epsilon=1e-06'),
        (multiclass_dice_coeff, 'input, target, reduce_batch_first=False, epsilon=1e-06'),
        (dice_loss, 'input, target, multiclass=False'),
        (BasicDataset, "images_dir, mask_dir, scale=1.0, mask_suffix=''"),
        (BasicDataset.preprocess, 'mask_values, pil_img, scale, is_mask'),
    ],
    ids=lambda value: getattr(value, '__name__', ''),
)
def test_parameters_and_defaults_are_the_originals(function, parameters):
    found = inspect.signature(function).parameters.values()
    shown = [p.name + ('' if p.default is p.empty else f'={p.default!r}') for p in found]
    assert ', '.join(shown) == parameters
