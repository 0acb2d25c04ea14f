"""Continuous integration, hooks, import contracts and the changelog's import paths."""

import ast
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

yaml = pytest.importorskip('yaml')
WORKFLOW = yaml.safe_load((ROOT / '.github/workflows/test.yml').read_text(encoding='utf-8'))
CHANGELOG = (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')


def test_ci_runs_test_sh_on_every_supported_python():
    job = WORKFLOW['jobs']['test']
    assert any('scripts/test.sh' in step.get('run', '') for step in job['steps'])
    matrix = job['strategy']['matrix']
    assert set(matrix['python']) >= {f'3.{minor}' for minor in range(10, 15)}
    systems = {*matrix['os'], *(entry['os'] for entry in matrix['include'])}
    assert {name.split('-')[0] for name in systems} == {'ubuntu', 'macos', 'windows'}


def test_ci_reads_only_and_ends():
    assert WORKFLOW['permissions'] == {'contents': 'read'}
    assert WORKFLOW['concurrency']['cancel-in-progress'] is True
    assert all(job['timeout-minutes'] <= 60 for job in WORKFLOW['jobs'].values())


def test_a_clean_checkout_runs_test_sh():
    assert 'scripts/test.sh' in (ROOT / '.ci/run').read_text()


def test_the_hooks_take_a_ruff_that_the_requirements_allow():
    config = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text(encoding='utf-8'))
    hooks = [hook for repo in config['repos'] for hook in repo['hooks']]
    pins = {pin for hook in hooks for pin in hook['additional_dependencies'] if 'ruff' in pin}
    assert len(pins) == 1, pins
    lines = (ROOT / 'requirements-dev.txt').read_text().splitlines()
    (allowed,) = [Requirement(line) for line in lines if line.startswith('ruff')]
    assert allowed.specifier.contains(pins.pop().partition('==')[2])


@pytest.mark.parametrize('script', [*(ROOT / 'scripts').glob('*.sh'), ROOT / '.ci/run'], ids=str)
def test_shellcheck_finds_nothing(script):
    shellcheck = shutil.which('shellcheck')
    if not shellcheck:
        pytest.skip('shellcheck is not installed; the pre-commit hooks bring it')
    command = [shellcheck, '--external-sources', script]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


PACKAGES = sorted(
    path.parent.relative_to(ROOT / 'utils').as_posix()
    for path in (ROOT / 'utils').glob('*/**/__init__.py')
)


@pytest.fixture
def tree(tmp_path):
    """A small project with the packages that the contracts of pyproject.toml name."""
    for package in ['', *PACKAGES]:
        (tmp_path / 'utils' / package).mkdir(parents=True, exist_ok=True)
        (tmp_path / 'utils' / package / '__init__.py').touch()
    for facade in ('data_loading', 'dice_score', 'checkpoint', 'export'):
        (tmp_path / f'utils/{facade}.py').write_text('import utils.training.run\n')
    (tmp_path / 'utils/training/run.py').write_text('import utils.runtime.devices\n')
    (tmp_path / 'utils/runtime/devices.py').write_text('import torch\n')
    (tmp_path / 'unet').mkdir()
    (tmp_path / 'unet/__init__.py').write_text('import torch\n')
    shutil.copy(ROOT / 'pyproject.toml', tmp_path)
    return tmp_path


def test_the_contract_about_torch_names_every_package():
    text = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
    contract = text[text.index('No __init__.py of utils imports torch') :]
    named = re.findall(r'^    "utils\.([\w.]+)",$', contract.partition(']')[0], re.MULTILINE)
    assert sorted(name.replace('.', '/') for name in named) == PACKAGES


def lint_imports(folder):
    command = 'from importlinter.cli import lint_imports_command as run; run()'
    return subprocess.run(
        [sys.executable, '-c', command, '--no-cache'], cwd=folder, capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ('file', 'line', 'kept'),
    [
        ('utils/training/other.py', 'import utils.data, unet', True),
        ('utils/pruning/__init__.py', 'import utils.training', True),
        ('utils/data/other.py', 'from utils.training import run', False),
        ('utils/images/other.py', 'def f():\n    from ..masks import rle', False),
        ('utils/training/other.py', 'import utils.dice_score', False),
        ('utils/elsewhere/__init__.py', '', False),
        ('utils/masks/__init__.py', 'import torch', False),
        ('unet/other.py', 'import utils.runtime.devices', False),
    ],
)
def test_imports_that_point_upwards_break_a_contract(tree, file, line, kept):
    pytest.importorskip('importlinter')
    (tree / file).parent.mkdir(exist_ok=True)
    for module in ('utils/masks/rle.py', file):
        (tree / module).write_text(f'{line}\n' if module == file else '')
    result = lint_imports(tree)
    assert (result.returncode == 0) == kept, result.stdout + result.stderr
    assert ('BROKEN' in result.stdout) != kept, result.stdout + result.stderr


def rows(heading):
    """The cells of the first table after a line that begins with the heading."""
    pattern = rf'^{heading}.*?\n\n((?:\|[^\n]*\n)+)'
    table = re.search(pattern, CHANGELOG, re.DOTALL | re.MULTILINE)[1]
    return [re.split(r' *\| *', line.strip('| \n')) for line in table.splitlines()[2:]]


def defined_in(module):
    """The names that a module binds at its top level."""
    path = ROOT / (module.replace('.', '/') + '.py')
    if not path.exists():
        return set()
    names = set()
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            parts = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
            names |= {part.id for part in parts if isinstance(part.ctx, ast.Store)}
    return names


def promised():
    """Every (module, name) that the changelog says is there now; name is '' for a whole module."""
    renamed = dict(rows('Names that have changed'))
    for now in renamed.values():
        module, _, name = now.strip('`').rpartition('.')
        yield module, name
    for before, names, now in rows('Modules of'):
        yield now.strip('`'), ''
        for name in re.findall(r'`(\w+)`', names):
            if f'`{before.strip("`")}.{name}`' not in renamed:
                yield now.strip('`'), name


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / 'utils/runtime').is_dir(), reason='the packages are not there yet')
def test_the_import_paths_of_the_changelog_are_there():
    missing = [
        (module, name)
        for module, name in promised()
        if not defined_in(module) or (name and name not in defined_in(module))
    ]
    assert not missing
