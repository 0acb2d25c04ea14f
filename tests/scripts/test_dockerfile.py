"""Dockerfile, .dockerignore and requirements, as far as they can be tested without Docker."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from utils.inference.backends.selection import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
BESIDE_PYTHON = Path(sys.executable).parent
# Every program at the top, so that one that is added is seen.
PROGRAMS = [*sorted(path.name for path in ROOT.glob('*.py')), 'unet', 'utils', 'scripts']
# Packages whose modules have another name.
INSTALLED_AS = {'PIL': 'pillow'}


def steps():
    """The Dockerfile's instructions in order, as (NAME, rest), without comments."""
    lines = (ROOT / 'Dockerfile').read_text().splitlines()
    text = '\n'.join(line for line in lines if not line.lstrip().startswith('#'))
    joined = re.sub(r'\\\n\s*', '', text)
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def step_index(words):
    (found,) = [number for number, step in enumerate(steps()) if words in ' '.join(step)]
    return found


def requirements(name='requirements.txt'):
    lines = [line.split('#')[0].strip() for line in (ROOT / name).read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith('-r')]


def run_step(words, folder, change=lambda command: command):
    """Run the RUN instruction that holds the words, with this Python as its python."""
    (folder / 'bin').mkdir(exist_ok=True)
    (folder / 'bin' / 'python').write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / 'bin' / 'python').chmod(0o755)
    return subprocess.run(
        ['sh', '-c', change(steps()[step_index(words)][1])],
        env={'PATH': f'{folder / "bin"}:/usr/bin:/bin', 'HOME': str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_hadolint_finds_nothing():
    hadolint = shutil.which('hadolint', path=BESIDE_PYTHON) or shutil.which('hadolint')
    if not hadolint:
        pytest.skip('hadolint is not installed (pip install -r requirements-dev.txt)')
    command = [hadolint, '--no-color', ROOT / 'Dockerfile']
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_mounted_folders_exist(tmp_path):
    assert run_step('mkdir', tmp_path).returncode == 0
    for folder in ('data/imgs', 'data/masks', 'checkpoints'):
        assert (tmp_path / folder).is_dir()


def test_the_install_step_takes_the_lock_with_its_hashes_without_torch(tmp_path):
    (tmp_path / 'scripts').mkdir()
    shutil.copy(ROOT / 'scripts' / 'lock_without_torch.py', tmp_path / 'scripts')
    shutil.copy(ROOT / 'requirements.lock', tmp_path)
    step = run_step('pip install', tmp_path, lambda command: command.replace('-m pip', '-c "" #'))
    assert step.returncode == 0, step.stderr
    names = re.findall(r'^([\w-]+)==', (tmp_path / 'without-torch.lock').read_text(), re.MULTILINE)
    assert 'numpy' in names
    assert not {'torch', 'torchvision', 'triton'} & set(names)
    assert (
        'pip install --require-hashes -r without-torch.lock' in steps()[step_index('pip inst')][1]
    )


@pytest.mark.parametrize(
    ('first', 'second'),
    [
        ('COPY requirements.lock', 'pip install'),
        ('COPY scripts/lock_without_torch.py', 'pip install'),
        ('PIP_BREAK_SYSTEM_PACKAGES=1', 'pip install'),  # or pip refuses this Python
        ('pip install', 'COPY . .'),  # or each change of the code would install again
    ],
)
def test_the_steps_have_this_order(first, second):
    assert step_index(first) < step_index(second)


def ignored(path, patterns):
    """Docker's rules: a pattern matches a path or a folder above it; the last match decides."""
    parts = path.split('/')
    ancestors = ['/'.join(parts[:count]) for count in range(1, len(parts) + 1)]
    verdict = False
    for pattern in patterns:
        body = re.escape(pattern.removeprefix('!').strip('/'))
        body = body.replace(r'\*\*/', '(.*/)?').replace(r'\*\*', '.*').replace(r'\*', '[^/]*')
        if any(re.fullmatch(body, ancestor) for ancestor in ancestors):
            verdict = not pattern.startswith('!')
    return verdict


def docker_ignores(path):
    lines = [line.strip() for line in (ROOT / '.dockerignore').read_text().splitlines()]
    return ignored(path, [line for line in lines if line and not line.startswith('#')])


@pytest.mark.parametrize(
    ('path', 'patterns', 'expected'),
    [
        ('a/b/c.txt', ['a/*'], True),
        ('x/a/b', ['a'], False),
        ('x/y/z.pth', ['**/*.pth'], True),
        ('z.pth', ['**/*.pth'], True),
        ('x/z.pth', ['*.pth'], False),
        ('a/keep', ['a/*', '!a/keep'], False),
    ],
)
def test_the_matcher_of_this_file_follows_dockers_rules(path, patterns, expected):
    assert ignored(path, patterns) == expected


@pytest.mark.parametrize(
    'path',
    [
        *('data/imgs/1.jpg', 'data/train_hq.zip', 'data/masks/1_mask.gif', 'model.pth'),
        *('checkpoints/checkpoint_epoch5.pth', '.git/config', '.venv/bin/python', 'wandb/run'),
        *('__pycache__/train.pyc', 'unet/__pycache__/a.pyc', '.ruff_cache/x', '.pytest_cache/v'),
        *('kaggle.json', 'scripts/.env'),
    ],
)
def test_the_image_contains_no_data_secrets_or_caches(path):
    assert docker_ignores(path)


def test_the_image_contains_the_programs():
    wanted = [*PROGRAMS[:-3], 'requirements.txt', 'requirements.lock', 'LICENSE', 'README.md']
    wanted += [
        path.relative_to(ROOT).as_posix()
        for folder in ('unet', 'utils', 'scripts')
        for path in (ROOT / folder).rglob('*')
        if path.suffix in ('.py', '.sh')
    ]
    assert [path for path in wanted if docker_ignores(path)] == []


def test_the_requirements_hold_the_list_of_the_original_programs():
    listed = 'torch torchvision numpy pillow tqdm wandb kaggle'.split()
    assert not set(listed) - {canonicalize_name(r.name) for r in requirements()}


@pytest.mark.parametrize(
    'name', ['requirements.txt', 'requirements-dev.txt', 'requirements-app.txt']
)
def test_every_requirement_parses_and_has_a_lower_bound(name):
    assert requirements(name)
    for requirement in requirements(name):
        assert any(part.operator == '>=' for part in requirement.specifier), requirement


def sources():
    for name in PROGRAMS:
        path = ROOT / name
        yield from path.rglob('*.py') if path.is_dir() else [path] if path.exists() else []


def third_party(source, own):
    """The top-level packages that a source text imports, except the standard library and ours."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split('.')[0])
    return found - own - set(sys.stdlib_module_names)


@pytest.mark.slow
def test_requirements_name_every_package_that_the_programs_import():
    own = {Path(name).stem for name in PROGRAMS} | {path.stem for path in sources()}
    own |= {path.parent.name for path in sources()}  # packages, as scripts/demo
    source = 'import os, scipy.io\nfrom PIL import Image\nfrom .x import y\nimport unet'
    assert third_party(source, own) == {'scipy', 'PIL'}
    declared, extras, readers, page = (
        {canonicalize_name(requirement.name) for requirement in requirements(name)}
        for name in ('requirements.txt', 'requirements-backends.txt', 'requirements-volumes.txt',
                     'requirements-app.txt')
    )  # fmt: skip
    optional = ('openvino', 'onnx', 'quantization')  # modules that import the extras when used
    for path in sources():
        for module in third_party(path.read_text(encoding='utf-8'), own):
            name = canonicalize_name(INSTALLED_AS.get(module, module))
            allowed = declared | extras if path.stem in optional else declared
            allowed = allowed | readers if path.stem in ('volumes', 'several') else allowed
            allowed = allowed | page if path.parent.name == 'app' else allowed
            # Extras of their own, named by the message that asks for them.
            for place, extra in (('checkpoint_format', 'safetensors'), ('formats', 'yaml')):
                allowed = allowed | {extra} if path.parent.name == place else allowed
            assert name in allowed, f'{path.relative_to(ROOT)} imports {module}'
    assert {name for names in PACKAGES.values() for name in names} == extras


@pytest.mark.slow
def test_the_installed_kaggle_command_starts(tmp_path):
    # kaggle 2.2.5 imports six without declaring it, so the requirements do.
    kaggle = shutil.which('kaggle', path=BESIDE_PYTHON)
    if not kaggle:
        pytest.skip('the kaggle package is not installed beside this python')
    clean = {'PATH': '/usr/bin:/bin', 'HOME': str(tmp_path)}
    result = subprocess.run([kaggle, '--version'], env=clean, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert 'Kaggle' in result.stdout
    assert 'six' in {requirement.name for requirement in requirements()}
