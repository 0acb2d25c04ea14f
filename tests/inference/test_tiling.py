"""Tiles agree with the whole picture, wherever they are cut, and take a bounded memory."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from unet import UNet
from utils.inference import tiling
from utils.inference.tiling import (
    OVERLAP,
    RADIUS,
    FittingTiles,
    Tiling,
    fitting_tiling,
    resized_strips,
    tiled_bands,
)
from utils.runtime.errors import UserError
from utils.runtime.precision import MixedPrecision


@pytest.fixture(scope='module')
def network():
    """A small network of random weights, and running statistics of its own, in evaluation mode."""
    torch.manual_seed(0)
    model = UNet(3, 2, base_channels=2)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
    model.train()
    for _ in range(20):
        model(torch.rand(2, 3, 64, 64))
    return model.eval()


def foreground(network):
    return lambda tile: network(tile[None])[0].softmax(dim=0)


@pytest.mark.slow
@pytest.mark.parametrize('size', [(400, 1000), (901, 333), (517, 777), (512, 512), (40, 900)])
@torch.inference_mode()
def test_tiles_with_the_default_overlap_give_the_whole_pictures_probabilities(network, size):
    image = torch.rand(3, *size)
    whole = foreground(network)(image)
    found = torch.cat(list(tiled_bands(foreground(network), image, Tiling(320))), dim=1)
    assert found.shape == whole.shape
    assert (found - whole).abs().max() < 1e-4
    assert whole[1].std() > 0.02  # there is something to agree on


@torch.inference_mode()
def test_tiles_agree_nearly_where_upsampling_is_bilinear():
    torch.manual_seed(0)
    model = UNet(3, 2, bilinear=True, base_channels=2)
    for _ in range(10):
        model(torch.rand(2, 3, 64, 64))
    model.eval()
    image = torch.rand(3, 400, 500)
    whole = foreground(model)(image)
    found = torch.cat(list(tiled_bands(foreground(model), image, Tiling(320))), dim=1)
    assert 1e-7 < (found - whole).abs().max() < 1e-2


@torch.inference_mode()
def test_a_smaller_overlap_differs_at_the_seams_only(network):
    image = torch.rand(3, 64, 640)
    whole = foreground(network)(image)
    found = torch.cat(list(tiled_bands(foreground(network), image, Tiling(320, 32))), dim=1)
    wrong = ((found - whole).abs().amax(dim=(0, 1)) > 1e-4).nonzero().ravel()
    assert len(wrong)
    # tiles start at 0, 288 and 320
    assert min(wrong) >= 320 - RADIUS
    assert max(wrong) < 608 + RADIUS


def test_a_pixel_depends_on_others_as_far_as_the_radius_and_no_farther():
    """With weights of one sign no influence cancels: the gradient shows every path there is."""
    model = UNet(1, 1, base_channels=1).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.2)
    reach = 0
    for offset in (0, 4, 9):
        place = 320 + offset
        image = torch.rand(1, 1, 32, 640, dtype=torch.float64, requires_grad=True)
        # the highest of two pixels hides the other from the gradient: noise in many trials
        touched = torch.zeros(640, dtype=torch.bool)
        for _ in range(12):
            image = torch.rand_like(image).requires_grad_()
            (gradient,) = torch.autograd.grad(model(image)[0, 0, :, place].sum(), image)
            touched |= (gradient != 0).any(dim=(0, 1, 2))
        columns = touched.nonzero().ravel()
        reach = max(reach, place - int(columns[0]), int(columns[-1]) - place)
    assert reach <= RADIUS
    assert reach >= RADIUS - 8
    assert OVERLAP // 2 >= RADIUS + 2


def test_the_radius_is_that_of_two_convolutions_a_level_and_the_coarser_grids_cells():
    def reach(pixel):
        low, high = pixel - 2, pixel + 2
        for _ in range(4):
            low, high = low // 2 - 2, high // 2 + 2
        for _ in range(4):
            low, high = 2 * low - 2, 2 * high + 1 + 2
        return max(pixel - low, high - pixel)

    assert max(map(reach, range(16))) == RADIUS


@pytest.mark.parametrize(('side', 'overlap'), [(32, 0), (48, 16), (64, 32), (320, 224), (64, 48)])
def test_tiles_start_on_the_grid_overlap_enough_and_weigh_one(side, overlap):
    for length in (*range(16, 200), 641, 1000, 1024):
        spans = Tiling(side, overlap).spans(length)
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        assert all(start % 16 == 0 and 16 <= stop - start <= side for start, stop in spans)
        for (_, stop), (start, _) in itertools.pairwise(spans):
            assert stop - start >= overlap
        total = torch.zeros(length)
        for (start, stop), weight in zip(
            spans, tiling._weights(spans, min(16, overlap)), strict=True
        ):
            total[start:stop] += weight
        assert (total - 1).abs().max() < 1e-6


@pytest.mark.parametrize('side', [32, 64])
@pytest.mark.parametrize('overlap', [0, 16])
def test_tiles_of_a_pixelwise_function_are_its_whole_result(side, overlap):
    image = torch.rand(2, 145, 99)
    found = torch.cat(list(tiled_bands(lambda t: t * 2, image, Tiling(side, overlap))), dim=1)
    assert (found - image * 2).abs().max() < 1e-6


@pytest.mark.parametrize('size', [(64, 50), (200, 131), (33, 20), (64, 131), (7, 50), (64, 10)])
def test_strips_are_resized_as_the_whole_is(size, monkeypatch):
    monkeypatch.setattr(tiling, 'STRIP_PIXELS', 500)
    values = torch.rand(2, 50, 64)
    whole = F.interpolate(values[None], size[::-1], mode='bilinear')[0]
    strips = list(resized_strips(values.split([7, 1, 20, 22], dim=1), 50, size))
    assert (torch.cat(strips, dim=1) - whole).abs().max() < 1e-5
    assert all(strip[0].numel() <= 500 for strip in strips)


def test_tiles_are_as_large_as_memory_allows():
    whole = 1000 * 1000 * 8 * 45
    assert fitting_tiling((1000, 1000), 8, whole) is None
    assert fitting_tiling((1000, 1000), 8, whole - 1) == Tiling(512, 224)
    assert fitting_tiling((1000, 1000), 8, whole // 2, float32=False) is None
    assert fitting_tiling((9000, 9000), 8, 2**31) == Tiling(2048, 224)
    assert fitting_tiling((9000, 9000), 8, 1) == Tiling(512, 224)


@pytest.mark.parametrize(
    ('size', 'count', 'width', 'classes', 'side'),
    [
        ((4096, 4095), 1, 64, 2, None),  # 2^31 - 2^19 elements of the last concatenated map
        ((4096, 4096), 1, 64, 2, 2048),  # 2^31
        ((4096, 4096), 1, 32, 2, None),
        ((4096, 4096), 1, 4, 128, 2048),  # of the logits
        ((2048, 2048), 3, 64, 2, None),
        ((2048, 2048), 4, 64, 2, 1024),  # a batch that is too large together
    ],
)
def test_maps_of_2_to_the_31_elements_are_tiled_on_a_gpu(
    monkeypatch, size, count, width, classes, side
):
    monkeypatch.setattr(tiling, 'available_prediction_memory', lambda _: 2**50)
    with torch.device('meta'):
        models = [UNet(3, classes, base_channels=width)]
    for device in ('cuda', 'mps', 'cpu'):
        fitting = FittingTiles(models, MixedPrecision(torch.device(device), False, 'fp32'))
        expected = Tiling(side) if side and device != 'cpu' else None
        assert fitting.choose(size, count) == expected
        if count == 1:  # asked for by --tile, but too large
            assert fitting.limited(size, Tiling(8192)) == expected
            assert fitting.limited((100, 2000), Tiling(1024)) == Tiling(1024)


def test_the_largest_map_is_the_last_concatenated_one():
    """What is compared with MAX_ELEMENTS."""
    sizes, model = [], UNet(3, 2, base_channels=4)
    for layer in model.modules():
        layer.register_forward_pre_hook(lambda _, x: sizes.extend(t.numel() for t in x))
    model(torch.zeros(1, 3, 64, 48))
    fitting = FittingTiles([model], MixedPrecision(torch.device('cuda'), False, 'fp32'))
    assert max(sizes) == fitting.channels * 64 * 48


@pytest.mark.parametrize(
    ('side', 'overlap'), [(100, None), (64, 8), (16, 0), (64, 64), (64, 80), (64, -16)]
)
def test_tiles_off_the_grid_are_refused(side, overlap):
    with pytest.raises(UserError, match='expected multiples of 16, a tile of at least 32 pixels'):
        Tiling.from_options(side, overlap)


def test_the_overlap_is_exact_where_the_tile_has_room_for_it():
    assert Tiling.from_options(1024) == Tiling(1024, 224)
    assert Tiling.from_options(256) == Tiling(256, 128)
    assert Tiling.from_options(256, 32) == Tiling(256, 32)
