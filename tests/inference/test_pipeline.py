"""Reading ahead: in order, at the same time, and within bounds."""

import threading

import pytest
from networks import brightness_network
from PIL import Image

from utils.images.pages import Page
from utils.inference import pipeline
from utils.inference.pipeline import Failure, PredictionPipeline, map_in_threads
from utils.inference.predictor import Predictor
from utils.inference.work_list import Job


def test_results_come_in_order_and_an_error_in_its_turn():
    def work(item):
        if item == 30:
            raise ValueError('thirty')
        return item * 10

    results = map_in_threads(work, range(50), lambda _: 1, threads=4)
    assert [next(results) for _ in range(30)] == [k * 10 for k in range(30)]
    with pytest.raises(ValueError, match='thirty'):
        next(results)


def test_work_goes_on_while_a_result_is_used():
    both = threading.Barrier(2, timeout=10)  # passed only by two at the same time
    assert len(list(map_in_threads(lambda _: both.wait(), range(6), lambda _: 1, 2))) == 6


@pytest.mark.parametrize(('pixels', 'most'), [(1, 4), (60, 1), (300, 1), (40, 2)])
def test_no_more_is_under_way_than_threads_and_pixels_allow(monkeypatch, pixels, most):
    monkeypatch.setattr(pipeline, 'MAX_PIXELS', 100)
    taken, used, highest = 0, 0, 0

    def items():
        nonlocal taken, highest
        for k in range(20):
            taken += 1
            highest = max(highest, taken - used)
            yield k

    for _ in map_in_threads(lambda k: k, items(), lambda _: pixels, threads=2):
        used += 1
    # one is taken to see how large it is before the bound is met
    assert highest <= most + 1


def test_work_is_cancelled_when_the_iterator_is_closed():
    done = []
    results = map_in_threads(lambda k: done.append(k), range(1000), lambda _: 1, threads=2)
    next(results)
    results.close()
    assert len(done) < 10


def test_a_pipeline_that_is_used_again_reports_a_broken_stack_again(tmp_path):
    source = tmp_path / 'stack.tif'
    frames = [Image.new('L', (24, 20), 40 * k) for k in range(3)]
    frames[0].save(source, save_all=True, append_images=frames[1:])
    content = source.read_bytes()
    source.write_bytes(content.replace(bytes([40]) * 480, b''))  # of the second page
    broken = Job(source, None, None, tuple(Page(source, k) for k in range(3)))
    used = PredictionPipeline(Predictor(brightness_network(2, 1), 1.0, [0, 1]))
    for _ in range(2):
        (outcome,) = used.process([broken], lambda job: 480)
        assert isinstance(outcome, Failure)
