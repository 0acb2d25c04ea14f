"""compose.yaml, the image's labels and the workflow that builds it, as far as without Docker."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from drawing import data_set

from utils.data.cache.placement import cached, choose_kind
from utils.data.dataset import SegmentationDataset
from utils.runtime import files, memory
from utils.runtime.files import user_cache

yaml = pytest.importorskip('yaml')
COMPOSE = yaml.safe_load((ROOT / 'compose.yaml').read_text('utf-8'))
DOCKERFILE = (ROOT / 'Dockerfile').read_text('utf-8')
WORKFLOW = (ROOT / '.github/workflows/docker.yml').read_text('utf-8')
SERVICE = COMPOSE['services']['unet']


def run_line(text):
    """The words of the first docker run command of a text; lines may begin with #."""
    (line,) = re.findall(r'docker run --rm --shm(?:.*\\\n)+.* unet$', text, re.MULTILINE)[:1]
    return shlex.split(re.sub(r'\\\n#? *', '', line))


@pytest.mark.parametrize('file', ['Dockerfile', 'docs/docker.md'])
def test_compose_has_the_options_of_the_run_line(file):
    words = run_line((ROOT / file).read_text('utf-8'))
    volumes = [words[k + 1] for k, word in enumerate(words) if word == '-v']
    named = {f'{key}:': f'{value["name"]}:' for key, value in COMPOSE['volumes'].items()}
    expected = [volume.replace('./', '$PWD/') for volume in SERVICE['volumes']]
    for short, name in named.items():
        expected = [re.sub(f'^{short}', name, volume) for volume in expected]
    assert volumes == expected
    assert SERVICE['shm_size'].removesuffix('b') in words[words.index('--rm') + 1]
    assert f'memlock={SERVICE["ulimits"]["memlock"]}' in words
    assert words[words.index('--gpus') + 1] == 'all'
    (gpus,) = SERVICE['deploy']['resources']['reservations']['devices']
    assert gpus == {'driver': 'nvidia', 'count': 'all', 'capabilities': ['gpu']}
    assert '-it' in words
    assert SERVICE['stdin_open'] is SERVICE['tty'] is True


def test_compose_builds_from_the_base_image_of_the_dockerfile():
    tag = re.search(r'^ARG PYTORCH_TAG=(\S+)$', DOCKERFILE, re.MULTILINE)[1]
    assert SERVICE['build']['args'] == {'PYTORCH_TAG': f'${{PYTORCH_TAG:-{tag}}}'}


def test_volumes_lie_where_the_programs_read_and_write():
    workdir = re.search(r'^WORKDIR (\S+)$', DOCKERFILE, re.MULTILINE)[1]
    targets = [volume.partition(':')[2] for volume in SERVICE['volumes']]
    assert targets == [f'{workdir}/data', f'{workdir}/checkpoints', '/root/.cache']


def test_the_image_has_the_labels_of_the_open_container_initiative():
    labels = re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]+)"', DOCKERFILE)
    assert {'title', 'description', 'licenses', 'documentation', 'base.name', 'revision'} <= {
        name for name, _ in labels
    }
    assert dict(labels)['licenses'] == (ROOT / 'LICENSE').read_text().split()[0] == 'MIT'
    assert (ROOT / dict(labels)['documentation']).is_file()


def test_the_workflow_builds_the_image_and_trains_in_it():
    workflow = yaml.safe_load(WORKFLOW)
    assert workflow['permissions'] == {'contents': 'read'}
    (job,) = workflow['jobs'].values()
    assert job['timeout-minutes'] <= 60
    commands = ' '.join(step.get('run', '') for step in job['steps'])
    for words in ('docker build', 'docker compose config', 'python train.py', 'REVISION='):
        assert words in commands
    for trigger in ('push', 'pull_request'):
        paths = workflow[True][trigger]['paths']  # YAML 1.1 reads `on` as true
        assert {'Dockerfile', 'compose.yaml', 'requirements.lock'} <= set(paths)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('schema', 'files'),
    [
        ('vendor.compose-spec', ['compose.yaml']),
        ('vendor.github-workflows', ['.github/workflows/docker.yml', '.github/workflows/test.yml']),
    ],
)
def test_files_fit_their_schemas(schema, files):
    check = shutil.which('check-jsonschema', path=Path(sys.executable).parent)
    if not check:
        pytest.skip('check-jsonschema is not installed (pip install -r requirements-dev.txt)')
    command = [check, '--builtin-schema', schema, *(ROOT / file for file in files)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_a_decoded_carvana_set_goes_to_the_volume_that_outlives_the_container(monkeypatch):
    """12.5 GB at half scale, beside the shared memory of compose.yaml and much main memory."""
    size = 5088 * 959 * 640 * 4
    assert round(size / 1e9, 1) == 12.5
    gigabytes = int(SERVICE['shm_size'].removesuffix('gb'))
    shared = SimpleNamespace(free=gigabytes * 2**30)
    monkeypatch.setattr(memory, 'SHARED_MEMORY', Path('/'))
    monkeypatch.setattr(memory.shutil, 'disk_usage', lambda _: shared)
    monkeypatch.setattr(memory, 'free_memory', lambda: 128 * 2**30)
    monkeypatch.setenv('HOME', '/root')
    monkeypatch.delenv('XDG_CACHE_HOME')
    path = user_cache('items') / 'name.items'
    volumes = [volume.partition(':')[2] for volume in SERVICE['volumes']]
    assert any(Path(volume) in path.parents for volume in volumes)
    available = {'ram': lambda: memory.available_memory(workers=8), 'disk': lambda: 2**40}
    assert choose_kind(size, path, 5, available) == ('disk', '')
    assert 'outlives the container' in (ROOT / 'docs/docker.md').read_text('utf-8')


@pytest.mark.parametrize('inside', [True, False])
@pytest.mark.parametrize('mounted', [True, False])
def test_training_says_whether_the_cache_outlives_the_container(
    tmp_path, monkeypatch, inside, mounted
):
    mark = tmp_path / 'mark'
    if inside:
        mark.touch()
    monkeypatch.setattr(files, 'CONTAINER_MARKS', (tmp_path / 'no-mark', mark))
    root = SimpleNamespace(stat=lambda: SimpleNamespace(st_dev=tmp_path.stat().st_dev + mounted))
    monkeypatch.setattr(files, 'ROOT', root)
    dataset = SegmentationDataset(*data_set(tmp_path, 2))
    _, line = cached(dataset, 'disk', 2, 0, torch.device('cpu'))
    assert str(user_cache('items')) in line
    assert ('outlives the container' in line) == (inside and mounted)
    lost = f'lost with the container: mount a volume at {tmp_path / "user-cache"}'
    assert (lost in line) == (inside and not mounted)
