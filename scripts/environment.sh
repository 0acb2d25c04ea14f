# shellcheck shell=bash
# Sourced by the other scripts: makes .venv once, installs what the given requirements files ask
# for where they have changed since, and sets $python. PYTHON names the interpreter to begin with.
environment() {
  local found=${PYTHON:-python3} stamp
  stamp=.venv/.installed-$(basename "${!#}")
  if ! "$found" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "error: Python 3.10 or newer is needed; PYTHON=python3.11 names another" >&2
    exit 2
  fi
  python=.venv/bin/python
  # Asked for pip, since on Debian without python3-venv a failed attempt leaves half of one.
  if ! "$python" -m pip --version >/dev/null 2>&1; then
    echo 'Making a virtual environment in .venv …'
    "$found" -m venv --clear .venv
  fi
  if [ "$(cat "$stamp" 2>/dev/null)" != "$(cat "$@")" ]; then
    echo "Installing $* (torch is large: some minutes) …"
    "$python" -m pip install --quiet --disable-pip-version-check "${@/#/-r}"
    cat "$@" >"$stamp"
  fi
}
