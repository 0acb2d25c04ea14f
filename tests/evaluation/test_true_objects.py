"""Objects of true masks: from their numbers, from a file for each, and from a divisor."""

import numpy as np
import pytest
from networks import brightness_network, save
from PIL import Image
from test_objects import LEFT, LOW, RIGHT, boxes, write
from test_scoring import scores

from utils.data.dataset import SegmentationDataset
from utils.evaluation.true_objects import TrueObjects, renumber
from utils.masks.encoding import MaskEncoding
from utils.masks.joined import JoinedMask


def test_a_divisor_parts_class_and_number(folder):
    truth = boxes(LEFT, RIGHT, LOW, (36, 4, 4, 4)).astype(np.uint16)
    truth[4:14, 4:14], truth[4:14, 14:24], truth[20:32, 40:52], truth[36:] = 1001, 1002, 2001, 2
    write('a', truth, boxes(LEFT, RIGHT, value=128))
    encoding = {'divisor': 1000}
    values = [0, 1, 2]
    save('m.pth', brightness_network(3), mask_values=values, mask_encoding=encoding)
    dataset = SegmentationDataset(
        'imgs', 'masks', mask_values=MaskEncoding(values, divisor=1000)
    )  # fmt: skip
    indices = dataset.mask(0).numpy()
    labels, numbered = TrueObjects(dataset, (1, 2)).label(0, indices)
    assert numbered
    assert [labels[place] for place in ((5, 5), (5, 15), (25, 45), (38, 9), (0, 0))] == [
        1, 2, 3, 4, 0
    ]  # fmt: skip
    found = scores('--instances', '2')['instances']
    assert [(row['class'], row['true']) for row in found['classes']] == [(2, 2)]
    both = scores('--instances')['instances']
    assert [(row['class'], row['true']) for row in both['classes']] == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ('values', 'expected'), [((255, 255, 255), 3), ((1, 1, 2), 3), ((1, 2, 3), 3), ((2, 1, 1), 3)]
)
def test_files_of_one_object_each_are_its_objects(folder, values, expected):
    masks = [boxes(LEFT), boxes(RIGHT), boxes(LOW, (36, 4, 4, 4))]
    (folder / 'parts').mkdir()
    for k, mask in enumerate(masks):
        Image.fromarray(mask).save(f'parts/{k}.png')
    write('a', masks[0], masks[0])
    classes = sorted({0, *values})
    dataset = SegmentationDataset('imgs', 'masks', mask_values=[0, 255])
    dataset.masks = MaskEncoding(classes)
    joined = JoinedMask(tuple(folder / f'parts/{k}.png' for k in range(3)), values)
    dataset.pairs[0] = dataset.pairs[0].__class__('a', dataset.pairs[0].image, joined)
    indices = np.searchsorted(classes, joined.open()).astype(np.uint8)
    objects = TrueObjects(dataset, tuple(range(1, len(classes))))
    labels, numbered = objects.label(0, indices)
    by_class = values == (1, 2, 3)  # one file a class: connected components, here one more
    assert labels.max() == expected + by_class
    assert numbered != by_class


def test_the_only_file_of_an_image_is_one_object_in_several_pieces(folder):
    mask = boxes(LEFT, LOW)
    write('a', mask, mask)
    dataset = SegmentationDataset('imgs', 'masks', mask_values=[0, 255])
    joined = JoinedMask((folder / 'masks/a.png',), (255,))
    dataset.pairs[0] = dataset.pairs[0].__class__('a', dataset.pairs[0].image, joined)
    labels, numbered = TrueObjects(dataset, (1,)).label(0, dataset.mask(0).numpy())
    assert (labels.max(), numbered) == (1, True)


def test_numbers_are_made_consecutive():
    for top in (7, 2**31):
        found = renumber(np.array([[0, 5, top, 5]], np.int64))
        assert found.tolist() == [[0, 1, 2, 1]]
        assert renumber(np.array([[5, top]], np.int64)).tolist() == [[1, 2]]
