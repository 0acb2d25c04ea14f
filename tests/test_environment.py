"""scripts/environment.sh and scripts/test.sh, with stand-ins for Python that install nothing."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(os.name == 'nt', reason='the stand-ins are shell scripts')

# Runs code in the real interpreter under another version; venv and the tools are imitated.
STAND_IN = r"""#!/bin/sh
case "$1 ${{2:-}}" in
  '-m venv')
    rm -rf .venv && mkdir -p '.venv/{folder}' && cp "$0" '.venv/{folder}/{executable}'
    printf '#!/bin/sh\necho lint-imports "$*" >>calls\n' >'.venv/{folder}/lint-imports'
    chmod +x '.venv/{folder}/lint-imports'
    ;;
  '-m pip') if [ "$3" = install ]; then echo "{version} $*" >>calls; fi ;;
  -m*) shift && echo "$*" >>calls && [ "$1 $2" != "${{FAILING:-none}}" ] ;;
  -*) exec '{python}' -c 'import platform, sys
version = "{version}"
sys.version_info = (*map(int, version.split(".")), "final", 0)
platform.python_version = lambda version=version: version
exec(sys.argv.pop(1) if sys.argv[1] != "-" else sys.stdin.read())' "${{2:--}}" ;;
esac
"""


class Checkout:
    """A folder with the two scripts, requirements, and interpreters of chosen versions."""

    def __init__(self, folder):
        self.folder, self.bin = folder / 'a checkout', folder / 'bin'
        self.bin.mkdir()
        (self.folder / 'scripts').mkdir(parents=True)
        for name in ('environment.sh', 'test.sh'):
            shutil.copy(ROOT / 'scripts' / name, self.folder / 'scripts')
        for name in ('requirements.txt', 'requirements-dev.txt'):
            (self.folder / name).write_text(f'# {name}\n')

    def add(self, name, version, folder='bin', executable='python'):
        text = STAND_IN.format(
            version=version, python=sys.executable, folder=folder, executable=executable
        )
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def run(self, command=None, **variables):
        command = command or '. scripts/environment.sh && environment requirements.txt'
        # Tools of the system, but none of its Pythons.
        for tool in ('sh', 'bash', 'cat', 'basename', 'dirname', 'rm', 'mkdir', 'cp', 'chmod'):
            if not (self.bin / tool).exists():
                (self.bin / tool).symlink_to(shutil.which(tool))
        result = subprocess.run(
            ['bash', '-c', f'set -euo pipefail; {command}'],
            cwd=self.folder,
            env={'PATH': str(self.bin), 'LANG': os.environ.get('LANG', 'C')} | variables,
            capture_output=True,
            text=True,
        )
        self.output = result.stdout + result.stderr
        return result.returncode

    def calls(self):
        """Return the recorded calls, one a line, and forget them."""
        path = self.folder / 'calls'
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def installed_with(self):
        return [line.split()[0] for line in self.calls()]


@pytest.fixture
def checkout(tmp_path):
    made = Checkout(tmp_path)
    made.add('python3', '3.11.7')
    return made


@pytest.fixture
def prepared(checkout):
    """With a working .venv of Python 3.11.7."""
    assert checkout.run() == 0, checkout.output
    assert checkout.installed_with() == ['3.11.7']
    return checkout


def test_the_first_call_installs_and_the_second_does_nothing(prepared):
    assert prepared.run() == 0
    assert prepared.output == ''
    assert prepared.calls() == []


def test_changed_requirements_are_installed_into_the_same_environment(prepared):
    (prepared.folder / 'requirements.txt').write_text('another')
    (prepared.folder / '.venv/mark').touch()
    assert prepared.run() == 0
    assert prepared.installed_with() == ['3.11.7']
    assert (prepared.folder / '.venv/mark').exists()


def test_another_version_in_PYTHON_makes_the_environment_anew(prepared):  # noqa: N802
    prepared.add('python3.13', '3.13.1')
    assert prepared.run(PYTHON='python3.13') == 0
    assert prepared.installed_with() == ['3.13.1']
    assert '3.13.1' in prepared.output
    assert '3.11.7' in prepared.output
    # And from then on without PYTHON, whatever python3 is.
    assert prepared.run() == 0
    assert prepared.run(PYTHON='') == 0
    assert prepared.calls() == []


def test_the_same_version_in_PYTHON_keeps_the_environment(prepared):  # noqa: N802
    assert prepared.run(PYTHON='python3') == 0
    assert prepared.run(PYTHON='.venv/bin/python') == 0
    assert prepared.calls() == []


@pytest.mark.parametrize('text', ['#!/bin/sh\nexit 1\n', None])
def test_a_broken_environment_is_made_anew(prepared, text):
    python = prepared.folder / '.venv/bin/python'
    python.unlink()
    if text:
        python.write_text(text)
        python.chmod(0o755)
    assert prepared.run() == 0
    assert prepared.installed_with() == ['3.11.7']


def test_an_environment_too_old_is_made_anew(checkout):
    checkout.add('old', '3.9.6')
    assert checkout.run('old -m venv .venv') == 0
    assert checkout.run() == 0
    assert '3.9.6' in checkout.output
    assert checkout.installed_with() == ['3.11.7']


@pytest.mark.parametrize('name', ['old', 'not-there'])
def test_an_unfit_PYTHON_is_an_error_and_changes_nothing(prepared, name):  # noqa: N802
    prepared.add('old', '3.9.6')
    assert prepared.run(PYTHON=name) == 2
    assert name in prepared.output
    assert '3.10' in prepared.output
    assert prepared.run() == 0
    assert prepared.calls() == []


def test_where_python3_is_too_old_python_is_tried(checkout):
    checkout.add('python3', '3.9.6')
    assert checkout.run() == 2
    checkout.add('python', '3.12.0')
    assert checkout.run() == 0, checkout.output
    assert checkout.installed_with() == ['3.12.0']


def test_the_layout_of_windows_is_found(checkout):
    checkout.add('python3', '3.12.0', 'Scripts', 'python.exe')
    command = '. scripts/environment.sh && environment requirements.txt && echo "[$python]"'
    for installs in (['3.12.0'], []):
        assert checkout.run(command) == 0, checkout.output
        assert '[.venv/Scripts/python.exe]' in checkout.output
        assert checkout.installed_with() == installs


STEPS = ['ruff check', 'ruff format', 'lint-imports', 'mypy', 'pytest']


def steps_of(checkout):
    calls = [line for line in checkout.calls() if ' -m pip ' not in line]
    return [next(step for step in STEPS if line.startswith(step)) for line in calls], calls


def test_test_sh_prints_the_versions_and_runs_every_check(checkout):
    assert checkout.run('bash scripts/test.sh --slow -k word') == 0, checkout.output
    assert 'Python 3.11.7, torch ' in checkout.output
    steps, calls = steps_of(checkout)
    assert steps == STEPS
    assert calls[-1].endswith('-k word')
    assert 'not slow' in calls[-1]
    assert '--slow' not in calls[-1]


def test_the_page_is_tested_alone_with_its_own_requirements(checkout):
    (checkout.folder / 'requirements-app.txt').write_text('# of the page\n')
    assert checkout.run('bash scripts/test.sh --app -k word') == 0, checkout.output
    install, tests = checkout.calls()
    assert install.endswith('-rrequirements.txt -rrequirements-dev.txt -rrequirements-app.txt')
    assert tests.startswith('pytest')
    assert tests.endswith('tests/app -k word')


@pytest.mark.parametrize('failing', ['ruff check', 'ruff format', 'mypy '])
def test_test_sh_stops_where_a_check_fails(checkout, failing):
    assert checkout.run('bash scripts/test.sh', FAILING=failing) == 1
    steps, _ = steps_of(checkout)
    assert steps[-1] == failing.strip()
    assert 'pytest' not in steps


@pytest.mark.slow
def test_plain_pytest_needs_no_plugin(tmp_path):
    (tmp_path / 'test_one.py').write_text('def test_one():\n    pass\n')
    command = [sys.executable, '-m', 'pytest', '-q', '-c', ROOT / 'pyproject.toml', tmp_path]
    result = subprocess.run(
        command,
        env=os.environ | {'PYTEST_DISABLE_PLUGIN_AUTOLOAD': '1'},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
