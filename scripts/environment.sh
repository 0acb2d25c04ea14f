# shellcheck shell=bash
# Sourced by the other scripts: makes .venv once, installs what the given requirements files ask
# for where they have changed since, and sets $python. PYTHON names the interpreter to begin with.
environment() {
  local stamp=.venv/.installed
  if [ ! -x .venv/bin/python ]; then
    echo 'Making a virtual environment in .venv …'
    "${PYTHON:-python3}" -m venv .venv
  fi
  python=.venv/bin/python
  if [ "$(cat "$stamp" 2>/dev/null)" != "$(cat "$@")" ]; then
    echo "Installing $* (torch is large: some minutes) …"
    "$python" -m pip install --quiet --disable-pip-version-check "${@/#/-r}"
    cat "$@" >"$stamp"
  fi
}
