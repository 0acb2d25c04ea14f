"""app.py from the command line: packages, models, address, and folder of uploads."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from networks import brightness_network, save

import app
from utils.app import options
from utils.app.hosting import bound_socket, can_open_browser, page_address, uploads_folder
from utils.app.models import Models, find_models
from utils.runtime.errors import UserError


def test_without_its_packages_the_program_says_what_to_install(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'gradio', None)  # as if it were not installed
    assert app.main([]) == 2
    error = capsys.readouterr().err
    assert 'packages that are not installed: gradio' in error
    assert 'pip install -r requirements-app.txt' in error
    assert (ROOT / 'requirements-app.txt').is_file()


def test_without_a_model_the_program_names_those_it_looks_for(folder, monkeypatch, capsys):
    monkeypatch.setattr(options, 'PACKAGES', ())
    assert app.main([]) == 2
    error = capsys.readouterr().err
    assert 'found none of checkpoints/best.pth, best.pth, MODEL.pth'.replace('/', os.sep) in error
    assert '-m FILE' in error


def test_a_model_file_that_is_none_is_an_error_before_the_page(folder, monkeypatch, capsys):
    monkeypatch.setattr(options, 'PACKAGES', ())
    Path('x.pth').write_text('no weights')
    assert app.main(['-m', 'x.pth']) == 2
    assert 'x.pth is not a readable checkpoint' in capsys.readouterr().err


def test_the_default_model_is_best_pth_of_the_last_training(folder):
    for name in ('MODEL.pth', 'best.pth', 'checkpoints/best.pth'):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
        assert find_models(None) == [Path(name)]


def test_a_folder_offers_its_models_best_first_and_epochs_in_order(folder):
    for name in ('epoch10.pth', 'epoch2.pth', 'notes.txt', 'best.pth', 'a.safetensors'):
        Path(name).touch()
    names = [path.name for path in find_models('.')]
    assert names == ['best.pth', 'a.safetensors', 'epoch2.pth', 'epoch10.pth']
    Path('empty').mkdir()
    with pytest.raises(UserError, match=r'no model files in empty; expected names that end in'):
        find_models('empty')


@pytest.mark.slow
def test_a_checkpoint_that_was_replaced_is_loaded_anew(folder):
    save('best.pth', brightness_network(), mask_values=[0, 1])
    models = Models([Path('best.pth')], (None, 'cpu', False))
    first = models.load('best.pth')
    assert models.load('best.pth') is first
    save('best.pth', brightness_network(4), mask_values=[0, 1, 2, 3])
    os.utime('best.pth', ns=(1, 1))  # clocks are coarse
    assert models.load('best.pth').predictor.model.n_classes == 4
    assert models.load('best.pth').facts['mask values'] == '0, 1, 2, 3'


@pytest.mark.parametrize(
    ('variables', 'host'),
    [({}, '127.0.0.1'), ({'SPACE_ID': 'me/unet'}, '0.0.0.0'),
     ({'GRADIO_SERVER_NAME': '::1'}, '::1')],
)  # fmt: skip
def test_only_a_space_is_open_to_others_by_default(monkeypatch, variables, host):
    for name in ('SPACE_ID', 'GRADIO_SERVER_NAME'):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert options.default_host() == host


def test_a_port_that_is_taken_is_an_error_and_without_port_the_next_is_used():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=rf'cannot serve at 127.0.0.1, port {port}: .* --port 0'
        ):
            bound_socket('127.0.0.1', port)
    with bound_socket('0.0.0.0', 0) as server:
        assert page_address(server) == f'http://127.0.0.1:{server.getsockname()[1]}'
    with bound_socket('127.0.0.1', None) as first, bound_socket('127.0.0.1', None) as second:
        assert first.getsockname()[1] >= 7860
        assert second.getsockname()[1] > first.getsockname()[1]
    with pytest.raises(UserError, match='cannot serve at 192'):  # of documentation
        bound_socket('192.0.2.1', 0)


def test_no_browser_is_opened_where_nobody_sits(monkeypatch):
    monkeypatch.setenv('DISPLAY', ':0')
    monkeypatch.delenv('SSH_CONNECTION', raising=False)
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: False, raising=False)
    assert not can_open_browser()
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True, raising=False)
    assert can_open_browser()
    monkeypatch.setenv('SSH_CONNECTION', '192.0.2.1')
    assert not can_open_browser()


@pytest.mark.skipif(os.name == 'nt', reason='Windows ends processes without a signal')
@pytest.mark.parametrize('name', ['SIGTERM', 'SIGHUP', 'SIGINT'])
def test_uploads_are_deleted_at_the_end(tmp_path, name):
    code = (
        'import os, signal, time; from pathlib import Path\n'
        'from utils.app.hosting import uploads_folder\n'
        'signal.signal(signal.SIGINT, signal.default_int_handler)\n'
        'with uploads_folder() as folder:\n'
        '    Path(os.environ["GRADIO_TEMP_DIR"], "upload.jpg").touch()\n'
        '    print(folder, flush=True)\n'
        f'    os.kill(os.getpid(), signal.{name})\n'
        '    time.sleep(9)\n'
    )
    result = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, env=os.environ | {'TMPDIR': str(tmp_path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode in (128 + getattr(signal, name), -signal.SIGINT)
    assert Path(result.stdout.strip()).parent == tmp_path
    assert not list(tmp_path.iterdir())


def test_the_folder_of_uploads_is_the_users_alone(tmp_path, monkeypatch):
    for name in ('SIGTERM', 'SIGHUP'):
        if hasattr(signal, name):
            monkeypatch.setattr(signal, 'signal', lambda *_: None)
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    monkeypatch.setenv('GRADIO_TEMP_DIR', 'before')
    with uploads_folder() as folder:
        assert os.environ['GRADIO_TEMP_DIR'] == str(folder)
        assert os.environ['GRADIO_ANALYTICS_ENABLED'] == 'False'
        assert os.name == 'nt' or folder.stat().st_mode & 0o777 == 0o700
