#!/usr/bin/env bash
# Everything that must hold before a change is done: lint, format, tests.
#
#     bash scripts/test.sh            the quick suite, under 90 seconds on two cores
#     bash scripts/test.sh --slow     the slow tests too; more arguments go to pytest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh

environment requirements.txt requirements-dev.txt
marks='not slow'
if [ "${1:-}" = --slow ]; then
  marks='slow or not slow'
  shift
fi
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m pytest -m "$marks" "$@"
