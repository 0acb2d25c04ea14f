#!/usr/bin/env bash
# Everything that must hold before a change is done: lint, format, import contracts, types, tests.
#
#     bash scripts/test.sh                    the quick suite, in one process a core
#     bash scripts/test.sh --slow             the slow tests too; more arguments go to pytest
#     bash scripts/test.sh --app              the page of app.py only, in a browser (chromium)
#     bash scripts/test.sh -n 0 --pdb         one process
#     PYTHON=python3.13 bash scripts/test.sh  another version of Python
if [ -z "${BASH_VERSION:-}" ]; then echo 'error: not for sh; run  bash scripts/test.sh' >&2 && exit 2; fi
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh

if [ "${1:-}" = --app ]; then
  # Apart from the others, which are tested with the newest Pillow: Gradio takes an older one.
  environment requirements.txt requirements-dev.txt requirements-app.txt
  shift
  exec "$python" -m pytest -n 0 -m 'slow or not slow' tests/app "$@"
fi
environment requirements.txt requirements-dev.txt
marks='not slow'
if [ "${1:-}" = --slow ]; then
  marks='slow or not slow'
  shift
fi
"$python" - <<'PYTHON'
import os, platform
from importlib.metadata import version
packages = ', '.join(f'{name} {version(name)}' for name in ('torch', 'numpy', 'pillow'))
machine = f'{platform.system()} {platform.machine()}, {os.cpu_count()} cores'
print(f'Python {platform.python_version()}, {packages}; {machine}')
PYTHON
"$python" -m ruff check .
"$python" -m ruff format --check .
"${python%/*}/lint-imports" --no-logo
"$python" -m mypy
"$python" -m pytest -n auto -m "$marks" "$@"
