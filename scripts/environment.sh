# shellcheck shell=bash
# Sourced by the other scripts, which call: environment requirements.txt [more files]
# It prepares .venv and sets $python to its interpreter. A working .venv of Python 3.10 or newer is
# used as it is, but made anew where PYTHON names an interpreter of another version. Requirements
# files that changed are installed. Runs in bash 3.2 (macOS) and in Git Bash (Windows).

# Print for example "cpython 3.12.4", without a line ending, which would be \r\n on Windows.
python_version() {
  "$1" -c 'import platform, sys
version = sys.implementation.name + " " + platform.python_version()
sys.stdout.write(version + getattr(sys, "abiflags", ""))' 2>/dev/null
}

is_supported() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

locate_venv_python() {
  python=.venv/bin/python
  if [ -e .venv/Scripts/python.exe ]; then python=.venv/Scripts/python.exe; fi
}

# Print the interpreter to make .venv with. On Windows python3 can be a stub that runs nothing.
base_python() {
  local name names=(python3 python)
  if [ -n "${PYTHON:-}" ]; then names=("$PYTHON"); fi
  for name in "${names[@]}"; do
    if is_supported "$name"; then printf '%s' "$name" && return; fi
  done
  echo "error: ${PYTHON:-python3} is not Python 3.10 or newer; PYTHON=python3.12 names another" >&2
  return 2
}

# Make .venv if it is missing, broken or of another version than PYTHON asks for.
ensure_venv() {
  local base='' present reason=''
  if [ -n "${PYTHON:-}" ]; then base=$(base_python) || exit 2; fi
  locate_venv_python
  present=$(python_version "$python") || present=''
  if [ ! -e .venv ]; then
    reason='there is none yet'
  # pip is asked too: on Debian without python3-venv a failed attempt leaves a .venv without it.
  elif [ -z "$present" ] || ! "$python" -m pip --version >/dev/null 2>&1; then
    reason='the present one does not work'
  elif ! is_supported "$python"; then
    reason="the present one has $present, and 3.10 is the oldest supported"
  elif [ -n "$base" ] && [ "$(python_version "$base")" != "$present" ]; then
    reason="the present one has $present"
  fi
  if [ -z "$reason" ]; then return; fi
  if [ -z "$base" ]; then base=$(base_python) || exit 2; fi
  echo "Making .venv with $(python_version "$base"): $reason"
  "$base" -m venv --clear .venv
  locate_venv_python
}

environment() {
  local stamp
  stamp=.venv/.installed-$(basename "${!#}")
  ensure_venv
  if [ "$(cat "$stamp" 2>/dev/null)" != "$(cat "$@")" ]; then
    echo "Installing $* (torch is large: some minutes)"
    "$python" -m pip install --quiet --disable-pip-version-check "${@/#/-r}"
    cat "$@" >"$stamp"
  fi
}
