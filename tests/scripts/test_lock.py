"""requirements.lock, and the part of it for environments that have torch."""

import importlib.util
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / 'requirements.lock').read_text(encoding='utf-8')
PLATFORMS = {
    'linux': {'sys_platform': 'linux', 'platform_system': 'Linux', 'platform_machine': 'x86_64'},
    'arm': {'sys_platform': 'linux', 'platform_system': 'Linux', 'platform_machine': 'aarch64'},
    'macos': {'sys_platform': 'darwin', 'platform_system': 'Darwin', 'platform_machine': 'arm64'},
    'windows': {'sys_platform': 'win32', 'platform_system': 'Windows', 'platform_machine': 'AMD64'},
}

spec = importlib.util.spec_from_file_location('lock', ROOT / 'scripts' / 'lock_without_torch.py')
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


def pins(text):
    """The requirements of a lock file, each with its number of hashes."""
    parts = re.split(r'\n(?=\S)', re.sub(r'^[#-].*\n', '', text, flags=re.MULTILINE).strip())
    return [(Requirement(part.split('\\')[0]), part.count('--hash=sha256:')) for part in parts]


def applies(requirement, python, platform):
    environment = PLATFORMS[platform] | {
        'python_version': python,
        'python_full_version': f'{python}.1',
        'platform_python_implementation': 'CPython',
    }
    return requirement.marker is None or requirement.marker.evaluate(environment)


def direct():
    lines = (line.split('#')[0].strip() for line in (ROOT / 'requirements.txt').open())
    return [Requirement(line) for line in lines if line]


@pytest.mark.parametrize('platform', PLATFORMS)
@pytest.mark.parametrize('python', ['3.10', '3.11', '3.12', '3.13', '3.14'])
def test_each_requirement_has_one_allowed_version_everywhere(python, platform):
    locked = [pin for pin, _ in pins(LOCK) if applies(pin, python, platform)]
    names = [canonicalize_name(pin.name) for pin in locked]
    assert len(names) == len(set(names)) > 40
    for wanted in direct():
        if applies(wanted, python, platform):
            (pin,) = [pin for pin in locked if canonicalize_name(pin.name) == wanted.name]
            ((operator, version),) = [(part.operator, part.version) for part in pin.specifier]
            assert operator == '=='
            assert wanted.specifier.contains(version), f'{pin}, but {wanted}'


def test_torch_and_torchvision_are_those_that_were_tested():
    locked = {str(pin) for pin, _ in pins(LOCK)}
    assert {'torch==2.14.1', 'torchvision==0.29.1'} <= locked


@pytest.mark.parametrize('text', [LOCK, script.without_torch(LOCK)], ids=['all', 'without torch'])
def test_each_version_is_exact_and_has_hashes_and_no_index_is_named(text):
    for pin, hashes in pins(text):
        assert hashes, pin
        assert [part.operator for part in pin.specifier] == ['=='], pin
    assert not re.search(r'://|^ *(-i|--index|--extra|--find|--trusted)', text, re.MULTILINE)


def test_the_list_without_torch_has_all_but_torch_and_what_only_torch_needs():
    names, kept = ({pin.name for pin, _ in pins(t)} for t in (LOCK, script.without_torch(LOCK)))
    of_torch = {'torch', 'torchvision', 'triton', 'sympy', 'mpmath', 'jinja2', 'filelock'}
    of_torch |= {name for name in names if name.startswith(('nvidia-', 'cuda-'))}
    assert len(of_torch) > 15
    assert not of_torch & kept
    ours = {wanted.name for wanted in direct()} - {'torch', 'torchvision'}
    assert ours | {'typing-extensions', 'protobuf', 'contourpy'} <= kept


EXAMPLE = r"""# written by uv
a==1 ; python_full_version < '3.11' \
    --hash=sha256:01 \
    --hash=sha256:02
    # via -r requirements.txt
b==1 \
    --hash=sha256:03
    # via
    #   a
    #   torch
c==1 \
    --hash=sha256:04
    # via d
d==1 \
    --hash=sha256:05
    # via torchvision
torch==1 \
    --hash=sha256:06
    # via
    #   -r requirements.txt
    #   torchvision
torchvision==1 \
    --hash=sha256:07
    # via -r requirements.txt
"""


def test_an_entry_goes_if_all_that_need_it_go():
    lines = EXAMPLE.splitlines(keepends=True)
    assert script.without_torch(EXAMPLE) == ''.join(lines[1:10])  # a and b, with their hashes
