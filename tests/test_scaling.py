"""The figures of docs/scaling.md follow from their formulas, the network and dev/GPU.md."""

import re

import pytest
import torch
from conftest import ROOT
from torch.utils.flop_counter import FlopCounterMode

from unet import UNet

ENCODER = ('inc', 'down1', 'down2', 'down3')  # whose gradients are the last ones


def rows():
    """The rows of the tables: name, formula, the value as text, source."""
    text = (ROOT / 'docs/scaling.md').read_text(encoding='utf-8')
    pattern = r'^\| `(\w+)` \| (?:`([^`]*)`)? ?\| ([\d.]+)[^|]*\| ([^|]*)\|$'
    found = re.findall(pattern, text, re.MULTILINE)
    assert len(found) == len(re.findall(r'^\| `', text, re.MULTILINE)) > 40
    return found


def rounding(text):
    """Half a unit of a number's last digit."""
    return 0.5 * 10 ** -len(text.partition('.')[2])


def values():
    """The value of each row, computed where there is a formula."""
    known = {'max': max}
    for name, formula, text, _ in rows():
        known[name] = eval(formula, {'__builtins__': {}}, known) if formula else float(text)
    return known


def test_each_figure_is_its_formulas_rounded():
    known = values()
    wrong = {
        name: (text, known[name])
        for name, _, text, _ in rows()
        if abs(known[name] - float(text)) > 1.001 * rounding(text)
    }
    assert not wrong


@pytest.mark.slow  # the counter takes seconds to import
def test_what_is_counted_is_the_networks():
    with torch.device('meta'), FlopCounterMode(display=False) as counter:
        model = UNet(3, 2)
        model(torch.empty(1, 3, 640, 959))
    flops = {name: sum(found.values()) for name, found in counter.get_flop_counts().items()}
    parameters = {n: sum(p.numel() for p in m.parameters()) for n, m in model.named_children()}
    known = values()
    assert known['parameters'] == sum(parameters.values())
    assert known['last_parameters'] == sum(parameters[name] for name in ENCODER)
    assert known['forward_tflop'] == pytest.approx(flops['Global'] / 1e12, abs=5e-5)
    rest = sum(flops[f'UNet.{name}'] for name in ENCODER)
    assert known['rest_tflop'] == pytest.approx(rest / 1e12, abs=5e-4)


def test_what_was_measured_is_in_the_record():
    record = (ROOT / 'dev/GPU.md').read_text(encoding='utf-8')
    measured = [text for _, _, text, source in rows() if source.startswith('measured')]
    assert len(measured) == 6
    assert not [text for text in measured if text not in re.findall(r'[\d.]*\d', record)]
