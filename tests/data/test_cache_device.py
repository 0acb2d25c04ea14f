"""--cache device: every rank decodes its part of the images, and has them all."""

from pathlib import Path

import torch
from drawing import data_set
from launching import run_together

from utils.data import dataset as datasets
from utils.data.cache import stores
from utils.data.cache.stores import DeviceItems
from utils.data.dataset import SegmentationDataset
from utils.runtime.distributed import process_group

CPU = torch.device('cpu')


def test_each_rank_decodes_its_part_with_its_share_of_the_cores(folder, monkeypatch):
    dataset = SegmentationDataset(*data_set(folder, 5, image_suffix='.jpg', size=(49, 35)), 0.5)
    expected = [dataset[k] for k in range(5)]
    read, pool = datasets.read_image, stores.ThreadPoolExecutor

    def work(rank):
        decoded, threads = [], []
        datasets.read_image = lambda path, *a: (decoded.append(path.stem), read(path, *a))[1]
        stores.share_of_cores = lambda: 3
        stores.ThreadPoolExecutor = lambda count: threads.append(count) or pool(count)
        with process_group():
            items = DeviceItems(dataset, CPU)
            equal = all(
                torch.equal(items[k][n], expected[k][n]) for k in range(5) for n in items[k]
            )
        Path(f'{rank}.txt').write_text(f'{len(items)} {equal} {threads} {sorted(decoded)}')

    assert run_together(work, folder) == [0, 0]
    names = [Path(pair.image).stem for pair in dataset.pairs]
    for rank in range(2):
        text = Path(f'{rank}.txt').read_text()
        assert text == f'5 True [3] {sorted(names[rank::2])}'


def test_items_on_the_device_have_the_types_and_shapes_of_decoded_ones(folder):
    dataset = SegmentationDataset(*data_set(folder, 3, size=(49, 35)), 0.5, weight_map=True)
    items = DeviceItems(dataset, CPU)
    for k in range(3):
        item = dataset[k]
        assert items[k].keys() == item.keys()
        for name, tensor in item.items():
            assert items[k][name].dtype == tensor.dtype
            assert torch.equal(items[k][name], tensor)
