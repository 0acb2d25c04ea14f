"""The search of --cost auto: which cost comes next, when it ends, and the list that it leaves."""

import csv
import math
from pathlib import Path

import pytest
from PIL import Image

from utils.pruning.plots import draw_pareto, draw_widths, layer_titles
from utils.pruning.search import CLOSE, Trial, cheapest_passing, next_cost, on_front, write_pareto


def trial(cost, dice, name='x.pth', asked=None):
    return Trial(Path(name), asked or cost, cost, round(1000 * cost), dice, 10 * cost)


def searched(enough, possible=0.01, rounded=lambda cost: cost):
    """All trials of a search in which networks of at least the cost `enough` pass."""
    trials = [trial(1.0, 0.9)]
    while (cost := next_cost(trials, 0.9, possible)) is not None:
        assert len(trials) < 20
        assert possible <= cost < 1
        found = rounded(cost)
        trials.append(trial(found, 0.9 if found >= enough else 0.8, asked=cost))
    return trials


@pytest.mark.parametrize('enough', [0.013, 0.05, 0.1, 0.26, 0.6, 0.78, 0.9, 1.0])
def test_the_search_ends_close_to_the_cheapest_network_that_passes(enough):
    trials = searched(enough)
    found = cheapest_passing(trials, 0.9)
    assert enough <= found.cost <= enough / CLOSE
    assert len(trials) <= 4 + math.log2(1 / enough)
    failed = [t.cost for t in trials if t.dice < 0.9]
    assert all(t.cost > max(failed) for t in trials if t.dice >= 0.9)  # none is tried in vain


def test_no_cost_below_the_possible_one_is_asked_for():
    trials = searched(0, possible=0.2)
    assert [t.cost for t in trials] == [1, 0.5, 0.25]  # 0.2 is close to 0.25
    assert [t.cost for t in searched(0, possible=0.3)] == [1, 0.5, 0.3]
    assert searched(0.22, possible=0.15)[-1].cost >= 0.15


def test_costs_that_come_out_lower_than_asked_end_the_search_too():
    trials = searched(0.3, rounded=lambda cost: math.floor(cost / 0.15) * 0.15)
    assert cheapest_passing(trials, 0.9).cost == pytest.approx(0.3)


def test_the_front_has_what_no_other_network_beats():
    trials = [trial(1, 0.9), trial(0.5, 0.92), trial(0.4, 0.85), trial(0.3, 0.88), trial(0.3, 0.88)]
    assert on_front(trials) == [False, True, False, True, True]


def test_the_list_tells_what_each_network_loses_and_whether_it_passes(tmp_path):
    trials = [trial(1, 0.9), trial(0.25, 0.88, 'b.pth'), trial(0.5, 0.9, 'a.pth')]
    write_pareto(trials, 0.895, tmp_path / 'pareto.csv')
    with (tmp_path / 'pareto.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['file'] for row in rows] == ['x.pth', 'a.pth', 'b.pth']
    assert [float(row['lost']) for row in rows] == pytest.approx([0, 0, 2])
    assert [(row['pareto'], row['passed']) for row in rows] == [('0', '1'), ('1', '1'), ('1', '0')]
    assert (rows[2]['parameters'], rows[2]['cost']) == ('250', '0.2500')
    assert trials[1].describe(0.9) == '0.250 of the multiply-adds, Dice 0.8800, 2.00 points lost'


@pytest.mark.slow
def test_the_pictures_show_each_network_and_each_layer(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn = {'bar': [], 'plot': [], 'text': []}
    for name, calls in drawn.items():
        real = getattr(Axes, name)

        def record(self, *given, real=real, calls=calls, **options):
            calls.append(given)
            return real(self, *given, **options)

        monkeypatch.setattr(Axes, name, record)
    assert layer_titles()[:3] == ['inc a', 'inc b', 'down1 a']
    assert layer_titles()[10:13] == ['up1 up', 'up1 a', 'up1 b']
    before, after = [32] * 22, [*[8] * 21, 32]
    draw_widths(before, after, tmp_path / 'widths.png')
    assert [list(heights) for _, heights in drawn['bar']] == [before, after]
    assert len(drawn['text']) == 22 + 21  # one number where nothing was removed
    draw_pareto([trial(1, 0.9), trial(0.5, 0.91), trial(0.2, 0.8)], 0.89, tmp_path / 'pareto.png')
    line, passed, failed = ([*zip(x, y, strict=True)] for x, y, *_ in drawn['plot'])
    assert line == [(0.2, 0.8), (0.5, 0.91)]
    assert (passed, failed) == ([(1, 0.9), (0.5, 0.91)], [(0.2, 0.8)])
    for name in ('widths.png', 'pareto.png'):
        assert Image.open(tmp_path / name).width > 400
