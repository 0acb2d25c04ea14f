"""The real wandb: what `--wandb auto` finds, and a start that no server or network can delay."""

import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from torch.utils.data import Dataset

from utils.data.dataloader import make_dataloader, shut_down_workers
from utils.training.tracking import weights_and_biases
from utils.training.tracking.tracker import Tracker
from utils.training.tracking.weights_and_biases import wandb_mode, why_no_answer

wandb = pytest.importorskip('wandb')
KEY = 'k' * 40
ANSWERS = {
    'viewer': {'id': '1', 'entity': 'me', 'username': 'me', 'flags': '{}', 'teams': {'edges': []}},
    'upsertBucket': {
        'inserted': True,
        'bucket': {
            'id': 'x', 'name': 'run1', 'displayName': 'run1', 'config': '{}',
            'project': {'name': 'U-Net', 'entity': {'name': 'me'}},
        },
    },
    'createRunFiles': {'runID': 'x', 'uploadHeaders': [], 'files': []},
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """An empty home and current folder, and no settings that wandb keeps from test to test."""
    home = tmp_path / 'home'
    home.mkdir()
    monkeypatch.delenv('NETRC')
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    yield home
    wandb.teardown()


@pytest.fixture
def server():
    """Start a local server: status 0 never answers, others are the status of each answer."""
    started = []

    def start(status):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers.get('Content-Length') or 0))
                if not status:
                    time.sleep(5)
                answer = json.dumps({'data': ANSWERS}).encode()
                self.send_response(status or 200)
                self.send_header('Content-Length', str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        started.append(ThreadingHTTPServer(('127.0.0.1', 0), Handler))
        started[-1].daemon_threads = True
        threading.Thread(target=started[-1].serve_forever, args=[0.02], daemon=True).start()
        return f'http://127.0.0.1:{started[-1].server_port}'

    yield start
    for one in started:
        one.shutdown()


@pytest.mark.slow
def test_after_wandb_login_auto_is_online_unless_another_server_or_mode_is_set(
    own_home, monkeypatch, capsys, tmp_path
):
    from wandb.cli.cli import cli

    # The real command. wandb 0.19 does not verify unless told to, and does not know the option.
    known = {name for one in cli.commands['login'].params for name in one.secondary_opts}
    cli(['login', *({'--no-verify'} & known), KEY], standalone_mode=False)
    assert wandb_mode('auto') == 'online'
    assert 'W&B: online, as you are logged in to https://' in capsys.readouterr().out
    monkeypatch.setenv('WANDB_MODE', 'offline')
    assert wandb_mode('auto') == 'offline'
    assert capsys.readouterr().out == 'W&B: offline, by WANDB_MODE\n'
    monkeypatch.delenv('WANDB_MODE')
    monkeypatch.setenv('WANDB_BASE_URL', 'https://wandb.example.org')
    assert wandb_mode('auto') == 'disabled'
    assert 'no credentials for https://wandb.example.org; `wandb login`' in capsys.readouterr().out
    monkeypatch.delenv('WANDB_BASE_URL')
    monkeypatch.setenv('NETRC', str(tmp_path / 'elsewhere'))
    (own_home / '.netrc').rename(tmp_path / 'elsewhere')
    assert wandb_mode('auto') == 'online'


@pytest.mark.slow
def test_a_key_mode_and_server_in_wandbs_settings_file_count(own_home, capsys):
    settings = own_home / '.config/wandb/settings'
    settings.parent.mkdir(parents=True)
    settings.write_text('[default]\nbase_url = https://wandb.example.org\n')
    (own_home / '.netrc').write_text(f'machine wandb.example.org login user password {KEY}\n')
    (own_home / '.netrc').chmod(0o600)
    assert wandb_mode('auto') == 'online'
    assert 'logged in to https://wandb.example.org' in capsys.readouterr().out
    settings.write_text('[default]\nmode = offline\n')
    assert wandb_mode('auto') == 'offline'
    assert "by wandb's settings file" in capsys.readouterr().out


@pytest.mark.slow
def test_auto_follows_the_environment(monkeypatch, capsys):
    for variable, value, mode in [
        ('WANDB_API_KEY', KEY, 'online'),
        ('WANDB_MODE', 'disabled', 'disabled'),
        ('WANDB_MODE', 'offline', 'offline'),  # stays on this computer: needs no login
    ]:
        monkeypatch.setenv(variable, value)
        assert wandb_mode('auto') == mode
        monkeypatch.delenv(variable)
        assert capsys.readouterr().out.startswith(f'W&B: {mode}, ')


def test_what_wandb_cannot_use_turns_auto_off_and_is_said(monkeypatch, capsys):
    monkeypatch.setenv('WANDB_API_KEY', KEY)
    monkeypatch.setenv('WANDB_BASE_URL', 'no address')
    assert wandb_mode('auto') == 'disabled'
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith('W&B: disabled, as wandb cannot be used')
    monkeypatch.setitem(sys.modules, 'wandb', None)  # not installed
    assert wandb_mode('auto') == 'disabled'
    assert 'ModuleNotFoundError' in capsys.readouterr().out


@pytest.mark.parametrize('mode', ['online', 'offline', 'disabled'])
def test_a_mode_that_is_asked_for_is_taken_without_a_word(mode, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    assert wandb_mode(mode) == mode
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize(
    ('status', 'reason'), [(200, None), (401, None), (404, None), (503, 'HTTP 503'), (0, 'no ans')]
)
def test_a_server_answers_or_the_reason_is_known_soon(server, monkeypatch, status, reason):
    monkeypatch.setattr(weights_and_biases, 'PROBE_SECONDS', 0.3 if status == 0 else 10)
    found = why_no_answer(settings(server(status)))
    assert found == reason or found.startswith(reason)


def test_no_answer_is_told_in_the_same_words_whichever_wait_ends_first(server, monkeypatch):
    monkeypatch.setattr(weights_and_biases, 'PROBE_SECONDS', 0.2)
    assert weights_and_biases._ask_server(server(0), {}) == 'no answer in 0.2 s'


def settings(url, proxy=None):
    return SimpleNamespace(base_url=url, http_proxy=proxy, https_proxy=proxy)


def test_a_closed_port_is_no_server_and_a_proxy_of_wandbs_settings_is_used(server, monkeypatch):
    monkeypatch.delenv('no_proxy', raising=False)
    assert 'refused' in why_no_answer(settings('http://127.0.0.1:9'))
    assert why_no_answer(settings('http://wandb.invalid', server(200))) is None


def test_a_look_up_of_a_name_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(weights_and_biases, 'PROBE_SECONDS', 0.2)

    def hang(*_, **__):
        time.sleep(2)
        raise socket.gaierror('try again')

    monkeypatch.setattr(socket, 'getaddrinfo', hang)
    started = time.monotonic()
    assert why_no_answer(settings('http://wandb.example.org')) == 'no answer in 0.2 s'
    assert time.monotonic() - started < 1.5


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['auto', 'online'])
def test_without_a_network_a_run_starts_offline_at_once_and_names_wandb_sync(
    mode, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv('WANDB_API_KEY', KEY)
    monkeypatch.setenv('WANDB_BASE_URL', 'http://127.0.0.1:9')
    started = time.monotonic()
    tracker = Tracker(tmp_path, {}, mode)
    assert time.monotonic() - started < 10
    tracker.log_step(1, {'loss': 1})
    tracker.close()
    (run,) = (tmp_path / 'wandb').glob('offline-run-*')
    out = capsys.readouterr().out
    assert 'note: W&B: no run could be started on http://127.0.0.1:9 (' in out
    assert f'upload it later by: wandb sync {run}\n' in out


@pytest.mark.slow
def test_a_server_that_refuses_the_run_leaves_it_offline(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('WANDB_API_KEY', KEY)
    monkeypatch.setenv('WANDB_BASE_URL', server(404))
    Tracker(tmp_path, {}, 'auto').close()
    assert 'upload it later by: wandb sync' in capsys.readouterr().out


def installed(version, folder):
    """Install a version of wandb into a folder; skip where pip cannot."""
    command = [
        sys.executable,
        '-m',
        'pip',
        'install',
        '-q',
        '--target',
        folder,
        f'wandb=={version}',
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if result.returncode:
        pytest.skip(f'pip cannot install wandb {version}: {result.stderr.strip()[-200:]}')


PROGRAM = """
import sys
from pathlib import Path
import wandb
from utils.training.tracking.tracker import Tracker
from utils.training.tracking.weights_and_biases import wandb_mode
print(wandb.__version__, wandb_mode('auto'))
if sys.argv[1:] == ['mode']:
    sys.exit()
tracker = Tracker(Path('out'), {}, 'auto')
tracker.log_step(1, {'loss': 1})
tracker.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize('version', ['0.19.11', '0.31.0'])
def test_old_and_new_wandb_log_online_after_their_own_login(version, server, tmp_path, own_home):
    packages = tmp_path / 'packages'
    installed(version, packages)
    path = os.pathsep.join(map(str, (packages, ROOT)))
    (tmp_path / 'out').mkdir()
    environment = os.environ | {'PYTHONPATH': path}

    def run(*words, **more):
        command = [sys.executable, *words]
        how = {'env': environment | more, 'capture_output': True, 'text': True, 'timeout': 120}
        result = subprocess.run(command, **how)
        assert result.returncode == 0, result.stderr
        return result.stdout

    run('-m', 'wandb', 'login', '--no-verify', KEY)
    found = run('-c', PROGRAM, 'mode')
    assert f'{version} online\n' in found
    assert 'W&B: online, as you are logged in to https://' in found
    logged = run('-c', PROGRAM, WANDB_BASE_URL=server(200), WANDB_API_KEY=KEY)
    assert 'could be started' not in logged
    assert list((tmp_path / 'out/wandb').glob('run-*'))
    shutil.rmtree(packages)  # 120 MB


class Importing(Dataset):
    """An item that imports a package of which W&B keeps count, and that is not installed here."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        importlib.import_module('catboost')
        pixels = torch.zeros(1, 16, 16, dtype=torch.uint8)
        return {'image': pixels, 'mask': pixels[0]}


@pytest.mark.slow
def test_a_worker_may_be_the_first_to_import_a_package_that_wandb_counts(tmp_path, monkeypatch):
    (tmp_path / 'catboost.py').write_text('')
    monkeypatch.syspath_prepend(tmp_path)
    with wandb.init(mode='offline', dir=str(tmp_path)):
        loader = make_dataloader(Importing(), [[0, 1]], 1, torch.device('cpu'))
        try:
            assert len(next(iter(loader))['image']) == 2
        finally:
            shut_down_workers(loader)
    assert 'catboost' not in sys.modules  # it was imported in the worker
