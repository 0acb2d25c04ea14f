"""evaluate.py --instances and --surface-distances: which objects, which figures, and where."""

import numpy as np
import pytest
from networks import brightness_network, save
from pages import Checked
from PIL import Image
from running import rows
from test_scoring import DATA, scores

import evaluate
from utils.evaluation import scoring
from utils.inference import tiling
from utils.inference.tiling import Tiling
from utils.runtime import memory


def boxes(*places, shape=(40, 64), value=255):
    """Return a mask (H, W) uint8 with boxes of (top, left, height, width), later ones over them."""
    mask = np.zeros(shape, np.uint8)
    for k, (top, left, height, width) in enumerate(places):
        box = value[k] if isinstance(value, tuple) else value
        mask[top : top + height, left : left + width] = box
    return mask


def write(name, truth, predicted):
    """Write a mask, and the image from which brightness_network predicts `predicted`."""
    for folder in ('imgs', 'masks'):
        (evaluate.Path(folder)).mkdir(exist_ok=True)
    Image.fromarray(np.asarray(predicted)).convert('RGB').save(f'imgs/{name}.png')
    Image.fromarray(truth).save(f'masks/{name}.png')


LEFT, RIGHT, LOW = (4, 4, 10, 10), (4, 14, 10, 10), (20, 40, 12, 12)


@pytest.fixture
def cells(folder):
    """Two images: of three cells one is missed and a false one found; and an empty one."""
    save('m.pth', brightness_network(), mask_values=[0, 255])
    truth = boxes(LEFT, (4, 20, 10, 10), LOW)
    write('a', truth, boxes(LEFT, (20, 40, 12, 9), (34, 4, 4, 4)))
    write('b', boxes(), boxes())
    return folder


@pytest.mark.parametrize('classes', [1, 2])
def test_objects_are_scored_by_hand(cells, classes, capsys):
    save('m.pth', brightness_network(classes), mask_values=[0, 255])
    found = scores('--instances')['instances']
    (cell,) = found['classes']
    names = ('class', 'value', 'true', 'predicted', 'matched', 'merged', 'split')
    assert [cell[name] for name in names] == [1, 255, 3, 3, 2, 0, 0]
    assert cell['object_f1_dataset'] == pytest.approx(2 / 3)
    assert cell['segmentation_quality_dataset'] == pytest.approx(1.75 / 2)
    assert cell['panoptic_quality_dataset'] == found['panoptic_quality_dataset']
    assert cell['panoptic_quality_dataset'] == pytest.approx(1.75 / 3)
    # The image without objects is left out.
    assert cell['average_precision_per_image'] == pytest.approx((5 * 2 / 4 + 5 * 1 / 5) / 10)
    sizes = np.array([100, 100, 144])
    joint = np.array([100, 100 + 36, 108])  # the missed cell and pixels are one object
    shared = 100 * 99 + 100 * 99 + 108 * 107 + 36 * 35
    pairs = (sizes * (sizes - 1)).sum() + (joint * (joint - 1)).sum()
    assert found['rand_per_image'] == pytest.approx(2 * shared / pairs)
    assert found['numbered'] == 0
    out = capsys.readouterr().out
    assert 'objects: value 255; true ones: connected components\n' in out
    assert f'adapted Rand F {"":>19}{found["rand_per_image"]:7.4f}' in out
    assert max(map(len, out.splitlines())) <= 80
    assert 'instances' not in scores()


def test_the_csv_file_has_the_objects_of_each_image_and_class(cells):
    found = scores('--instances', '--surface-distances', '--csv', 's.csv')
    first, cell, _, none = rows('s.csv')
    names = ('true', 'predicted', 'merged', 'split', 'matched')
    assert [cell[f'objects_{name}'] for name in names] == ['3', '3', '0', '0', '2']
    assert float(cell['average_precision']) == pytest.approx(0.35)
    assert float(cell['rand_thinned']) == found['instances']['rand_thinned_per_image']
    assert float(cell['hausdorff95']) == found['hausdorff95_per_image']
    assert first['objects_true'] == first['hausdorff95'] == none['object_f1'] == ''
    assert none['objects_true'] == '0'


def test_the_page_shows_the_objects_and_distances(cells):
    found = scores('--instances', '--surface-distances', '2', '--report', 'r')
    texts = Checked((cells / 'r/index.html').read_text(encoding='utf-8')).texts
    for value in (
        found['instances']['panoptic_quality_dataset'], found['instances']['rand_per_image'],
        found['instances']['vi_merge_thinned_per_image'], found['surface_distance_per_image'],
    ):  # fmt: skip
        assert f'{value:.4f}' in texts
    assert 'Surface distances in mm, mean over the images' in texts
    assert 'objects: value 255; true ones: connected components' in texts


@pytest.mark.parametrize('stored', ['numbers', 'colours', 'small numbers'])
def test_masks_that_number_objects_part_those_that_touch(folder, stored):
    # Two cells that touch, and one in two pieces; the prediction has all pixels right.
    truth = boxes(LEFT, RIGHT, LOW, (36, 4, 4, 4), value=(1, 2, 3, 3)).astype(np.uint16)
    predicted = (truth > 0).astype(np.uint8) * 255
    if stored == 'numbers':
        truth = truth * 300
    elif stored == 'colours':
        truth = np.array([(0, 0, 0), (9, 0, 0), (0, 9, 0), (0, 1, 9)], np.uint8)[truth]
    else:
        truth = truth.astype(np.uint8)
    write('a', truth, predicted)
    encoding = {'threshold': 0}
    save('m.pth', brightness_network(), mask_values=[0, 255], mask_encoding=encoding)
    found = scores('--instances')
    (cell,) = found['instances']['classes']
    assert found['dice_dataset'] == 1
    assert [cell[name] for name in ('true', 'predicted', 'merged', 'split')] == [3, 3, 2, 1]
    assert cell['matched'] == 1  # 144 of 160 pixels; each of those that touch is half of its piece
    assert found['instances']['numbered'] == 1
    # Half as large, both are.
    assert scores('--instances', '--at-scale', '-s', '0.5')['instances']['classes'][0]['true'] == 3


def test_a_mask_of_one_value_has_connected_components_though_others_have_numbers(folder, capsys):
    write('a', boxes(LEFT, RIGHT, value=(1, 2)), boxes(LEFT, RIGHT))
    write('b', boxes(LEFT, LOW), boxes(LEFT, LOW))
    encoding = {'threshold': 0}
    save('m.pth', brightness_network(), mask_values=[0, 255], mask_encoding=encoding)
    found = scores('--instances')['instances']
    assert (found['numbered'], found['classes'][0]['true']) == (1, 4)
    words = ' '.join(capsys.readouterr().out.split())
    assert 'connected components, in 1 of 2 images the numbers of the masks' in words


def test_objects_of_another_class_may_be_chosen(cells):
    # As of membranes (value 0) that a network was trained to find.
    encoding = {'background': 1}
    save('m.pth', brightness_network(), mask_values=[0, 255], mask_encoding=encoding)
    assert scores('--instances')['instances']['classes'][0]['value'] == 0
    found = scores('--instances', '255')['instances']['classes']
    assert [(row['value'], row['true']) for row in found] == [(255, 3)]


def test_ignored_pixels_count_for_no_object_and_no_surface(cells):
    truth = boxes(LEFT, (34, 4, 4, 4), value=(255, 50))
    write('a', truth, boxes(LEFT, (34, 4, 4, 4)))
    encoding = {'ignore': [50]}
    save('m.pth', brightness_network(), mask_values=[0, 255], mask_encoding=encoding)
    found = scores('--instances', '--surface-distances')
    assert found['instances']['panoptic_quality_dataset'] == 1
    assert found['instances']['classes'][0]['predicted'] == 1
    assert found['hausdorff95_per_image'] == 0


@pytest.mark.slow
def test_distances_are_in_pixels_or_millimetres_and_lacking_classes_are_counted(cells, capsys):
    write('a', boxes(LEFT), np.roll(boxes(LEFT), 2, axis=1))
    write('c', boxes(), boxes(LEFT))
    found = scores('--surface-distances')
    assert (found['surface_unit'], found['surface_undefined']) == ('pixels', 1)
    assert found['hausdorff95_per_image'] == 2
    assert found['classes'][1]['surface_undefined'] == 1
    assert found['classes'][0]['hausdorff95_per_image'] is None
    scaled = scores('--surface-distances', '9,0.5')
    assert scaled['surface_unit'] == 'mm'
    assert scaled['hausdorff95_per_image'] == 1
    out = capsys.readouterr().out
    assert 'surface distances, mm  Hausdorff 95  average  not defined' in out
    assert max(map(len, out.splitlines())) <= 80
    assert scores('--surface-distances', '3')['hausdorff95_per_image'] == 6
    write('a', boxes(LEFT), np.roll(boxes(LEFT), 2, axis=0))
    assert scores('--surface-distances')['hausdorff95_per_image'] == 2
    assert scores('--surface-distances', '9,0.5')['hausdorff95_per_image'] == 18


@pytest.mark.slow
def test_batch_size_workers_and_tiles_change_no_score_of_objects(cells, monkeypatch):
    generator = np.random.default_rng(0)
    for name in 'cdef':
        places = [(*generator.integers(1, (30, 50)), 8, 9) for _ in range(5)]
        truth = boxes(*places)
        write(name, truth, np.roll(truth, 1, axis=0) * (generator.random(truth.shape) < 0.98))
    options = ['--instances', '--surface-distances']
    expected = scores(*options)
    for changed in (['-b', '4'], ['-b', '5', '--workers', '2']):
        found = scores(*options, *changed)
        assert found['instances'] == expected['instances']
        assert found['hausdorff95_per_image'] == expected['hausdorff95_per_image']
    monkeypatch.setattr(memory, 'available_memory', lambda *_: int(0.9 * 40 * 64 * 2 * 45))
    monkeypatch.setattr(tiling, 'SIDES', (32,))
    monkeypatch.setattr(tiling, 'Tiling', lambda side: Tiling(side, 8))
    assert scores(*options)['instances'] == expected['instances']


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ('--instances 7', ['--instances 7', 'no class', '0,255']),
        ('--instances 255,1:2:3', ['--instances 1:2:3', 'no class']),
        ('--surface-distances 0.5 --at-scale', ['--at-scale', 'millimetres']),
    ],
)
def test_a_mistake_is_said_before_anything_is_predicted(cells, monkeypatch, capsys, options, words):
    monkeypatch.setattr(scoring, 'count_dataset', None)
    assert evaluate.main([*DATA, *options.split()]) == 2
    errors = capsys.readouterr().err
    assert all(word in errors for word in words), errors


@pytest.mark.parametrize('text', ['0', '1,2,3', 'x', '1,', 'inf', '-1'])
def test_the_size_of_a_pixel_is_one_or_two_numbers_over_0(text, capsys):
    with pytest.raises(SystemExit):
        evaluate.get_args([f'--surface-distances={text}'])
    assert 'expected' in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_finds_the_threshold_that_parts_the_cells(cells, capsys):
    # Pixels between two cells have a probability of 0.88; at 0.95 the lower cell is lost.
    truth = boxes(LEFT, (4, 16, 10, 10), LOW)
    predicted = boxes((4, 14, 10, 2), LEFT, (4, 16, 10, 10), LOW, value=(153, 255, 255, 163))
    write('a', truth, predicted)
    found = scores('--instances', '--threshold-sweep')
    by_threshold = {row['threshold']: row for row in found['threshold_sweep']}
    assert by_threshold[0.9]['rand_thinned_per_image'] == 1
    for threshold in (0.3, 0.9, 0.95):
        alone = scores('--instances', '-t', str(threshold))['instances']
        for name in ('rand_per_image', 'rand_thinned_per_image'):
            assert by_threshold[threshold][name] == alone[name]
    assert by_threshold[0.5]['rand_thinned_per_image'] < 0.9
    assert by_threshold[0.95]['rand_thinned_per_image'] < 1
    assert found['best_threshold_rand'] == 0.9
    assert 'best for objects, by Rand F: 0.9' in (lines := capsys.readouterr().out.splitlines())
    assert max(map(len, lines)) <= 80
    page = scores('--instances', '--threshold-sweep', '--report', 'r')
    assert page['best_threshold_rand'] == 0.9
    html = (cells / 'r/index.html').read_text(encoding='utf-8')
    assert 'adapted Rand F, borders thinned' in html
    assert 'best Rand F' in html
    assert 'rand_per_image' not in scores('--threshold-sweep')['threshold_sweep'][0]
