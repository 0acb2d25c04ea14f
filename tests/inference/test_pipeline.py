"""Reading ahead: in order, at the same time, and within bounds."""

import threading

import pytest

from utils.inference import pipeline
from utils.inference.pipeline import map_in_threads


def test_results_come_in_order_and_an_error_stops_no_other():
    def work(item):
        if item == 3:
            raise ValueError('three')
        return item * 10

    futures = list(map_in_threads(work, range(50), lambda _: 1, threads=4))
    assert [f.result() for k, f in enumerate(futures) if k != 3] == [
        k * 10 for k in range(50) if k != 3
    ]
    with pytest.raises(ValueError, match='three'):
        futures[3].result()


def test_work_goes_on_while_a_result_is_used():
    both = threading.Barrier(2, timeout=10)  # passed only by two at the same time
    assert (
        len([f.result() for f in map_in_threads(lambda _: both.wait(), range(6), lambda _: 1, 2)])
        == 6
    )


@pytest.mark.parametrize(('pixels', 'most'), [(1, 4), (60, 1), (300, 1), (40, 2)])
def test_no_more_is_under_way_than_threads_and_pixels_allow(monkeypatch, pixels, most):
    monkeypatch.setattr(pipeline, 'MOST_PIXELS', 100)
    taken, used, highest = 0, 0, 0

    def items():
        nonlocal taken, highest
        for k in range(20):
            taken += 1
            highest = max(highest, taken - used)
            yield k

    for future in map_in_threads(lambda k: k, items(), lambda _: pixels, threads=2):
        future.result()
        used += 1
    # one is taken to see how large it is before the bound is met
    assert highest <= most + 1


def test_given_up_work_is_not_begun():
    done = []
    futures = map_in_threads(lambda k: done.append(k), range(1000), lambda _: 1, threads=2)
    next(futures)
    futures.close()
    assert len(done) < 10
