"""scripts/check_gpu.sh runs all checks, reports each, and says why it leaves one out."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import devices
import pytest
from conftest import ROOT
from gpu_report import GpuReport
from launching import in_own_process, launch


def report_of(name, outcome='passed', found=(), table=(), message='', when='call'):
    return SimpleNamespace(
        nodeid=f'tests/cuda/test_x.py::test_{name}', outcome=outcome, when=when, duration=1.0,
        passed=outcome == 'passed', skipped=outcome == 'skipped',
        user_properties=[*(('found', text) for text in found), *(('table', t) for t in table)],
        longrepr=('file', 1, f'Skipped: {message}') if outcome == 'skipped' else message,
    )  # fmt: skip


def test_each_test_is_in_the_files_as_soon_as_it_is_done(tmp_path):
    report = GpuReport(tmp_path, 'cpu', 100)
    report.pytest_runtest_logreport(report_of('a_step[fast-{}]', found=['1e-7', '2e-7']))
    assert '| a step | 1e-7; 2e-7 |' in (tmp_path / 'gpu.md').read_text()
    report.pytest_runtest_logreport(report_of('a_step[paper]', 'failed', message='a | b\nmore'))
    report.pytest_runtest_logreport(report_of('b', 'skipped', message='no card', when='setup'))
    report.pytest_runtest_logreport(report_of('c', when='teardown'))  # passed: no result
    report.pytest_collectreport(SimpleNamespace(failed=True, nodeid='x.py', longrepr='a\nE  no'))
    report.pytest_runtest_logreport(report_of('times', table=['| ms | 1 |']))
    text = (tmp_path / 'gpu.md').read_text()
    assert text.startswith('## 20')
    assert '\nCommit ' in text
    assert '| a step | fast: 1e-7; 2e-7; paper: **failed**: a / b |' in text
    assert '| b | skipped: no card |' in text
    assert text.endswith('| b | skipped: no card |\n| x.py | **failed**: E no |\n\n| ms | 1 |\n')
    results = json.loads((tmp_path / 'results.json').read_text())
    assert [r['status'] for r in results] == ['passed', 'failed', 'skipped', 'failed', 'passed']
    assert {path.name for path in tmp_path.iterdir()} == {'gpu.md', 'results.json'}


@pytest.mark.parametrize(('mark', 'seconds'), [(None, 4), (SimpleNamespace(args=(60,)), 59)])
def test_no_check_begins_for_which_too_little_time_is_left(tmp_path, mark, seconds):
    item = SimpleNamespace(get_closest_marker=lambda name: mark)
    GpuReport(tmp_path, 'cpu', seconds + 10).pytest_runtest_setup(item)
    with pytest.raises(pytest.skip.Exception, match=rf'\d s left of {seconds}'):
        GpuReport(tmp_path, 'cpu', seconds).pytest_runtest_setup(item)


def test_runs_on_a_card_repeat_to_the_bit_and_what_it_cannot_do_is_skipped(monkeypatch):
    monkeypatch.setattr(devices, 'DEVICE', 'cpu')
    assert devices.training_on_device() == devices.on_device() == ['--device', 'cpu']
    devices.skip_on_card('two processes need two cards')
    monkeypatch.setattr(devices, 'DEVICE', 'cuda')
    assert devices.training_on_device() == ['--device', 'cuda', '--deterministic']
    with pytest.raises(pytest.skip.Exception, match='2 cards'):
        launch(None, None)
    with pytest.raises(pytest.skip.Exception, match='forked process'):
        in_own_process(lambda: None)()
    (mark,) = [devices.needs('json', 'no_such_package').mark]
    assert mark.args == (True,)
    assert mark.kwargs == {'reason': 'needs no_such_package'}


def check_gpu(folder, *options):
    environment = os.environ | {
        'CUDA_VISIBLE_DEVICES': '',
        'PYTHON': sys.executable,
        'OUT': str(folder / 'out'),
    }
    command = [shutil.which('bash'), str(ROOT / 'scripts/check_gpu.sh'), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_logic_of_the_checks_runs_on_a_cpu(tmp_path):
    done = check_gpu(tmp_path, '--tiny', '--device', 'cpu', '-k', 'counts or wait_is_found')
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith((tmp_path / 'out/gpu.md').read_text())
    assert '| counts are those of the cpu | integers that differ: ' in done.stdout
    assert '| a wait is found | skipped: needs a CUDA card |' in done.stdout


@pytest.mark.slow
def test_without_a_card_every_check_is_skipped_with_the_reason(tmp_path):
    done = check_gpu(tmp_path, '-k', 'counts or poisoned')
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'are those of the cpu | skipped: --device cuda: torch finds no CUDA card' in done.stdout
    assert 'statistics finite | skipped: --device cuda: torch finds no CUDA' in done.stdout
