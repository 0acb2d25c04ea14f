#!/usr/bin/env bash
# What only a GPU shows: correctness, then timings, in under 8 minutes on one card.
#
#     bash scripts/check_gpu.sh                      the card; results go to gpu_check/
#     bash scripts/check_gpu.sh --tiny --device cpu  the logic of the checks, on any machine
#     bash scripts/check_gpu.sh -k programs          some of the checks; arguments go to pytest
#
# Nothing is installed: PYTHON names the interpreter (python3), OUT the folder of the results, COMMIT
# the commit where there is no git. The section for dev/GPU.md is printed at the end, also where a
# check fails or time runs out. Exit code: 0 if no check failed, 1 if one did, 137 if SECONDS_AT_MOST
# (470) were over.
if [ -z "${BASH_VERSION:-}" ]; then echo 'error: not for sh; run  bash scripts/check_gpu.sh' >&2 && exit 2; fi
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
python="${PYTHON:-python3}" out="${OUT:-$PWD/gpu_check}" most="${SECONDS_AT_MOST:-470}"
export PYTHONUNBUFFERED=1 WANDB_MODE=disabled MPLBACKEND=Agg

mkdir -p "$out" || exit 2
rm -f "$out/gpu.md" "$out/results.json"
# The ordinary suite has these two for a CPU.
tests=(tests/training/test_training_steps.py::test_classic_steps_in_float64_equal_the_reference
  tests/training/optimization/test_guard.py tests/cuda)
case " $* " in *' --tiny '*) tests=(tests/cuda) ;; esac
# 40 s before the end no check begins any more. A training would catch SIGTERM and save. macOS has no
# timeout; there a hanging check hangs.
limit=()
if command -v timeout >/dev/null; then limit=(timeout --signal=KILL "$most"); fi
"${limit[@]+"${limit[@]}"}" "$python" -m pytest --device cuda -q -p no:cacheprovider -m 'slow or not slow' \
  --continue-on-collection-errors --report "$out" --seconds "$((most - 40))" "$@" \
  "${tests[@]}" 2>&1 |
  tee "$out/log.txt"
code="${PIPESTATUS[0]}"
if [ -e "$out/gpu.md" ]; then printf '\n' && cat "$out/gpu.md"; fi
exit "$code"
