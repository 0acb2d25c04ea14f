"""The device of pytest's --device, and marks of tests that need packages which it may lack."""

import importlib.util

import pytest

# conftest.py sets both before the tests are imported.
DEVICE = 'cpu'
TINY = True  # sizes of tests/cuda, those of Carvana otherwise


def on_device():
    """Return the options of predict.py and evaluate.py that name the device."""
    return ['--device', DEVICE]


def training_on_device():
    """Return the options of train.py that name the device and make a run repeatable to the bit.

    A CPU's runs are. On a card only --deterministic promises it.
    """
    return on_device() if DEVICE == 'cpu' else [*on_device(), '--deterministic']


def needs(*packages):
    """Mark a test that cannot run where one of the packages is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f'needs {" and ".join(missing)}')


def skip_on_card(reason):
    """Skip the running test unless the device is the CPU."""
    if DEVICE != 'cpu':
        pytest.skip(reason)
