#!/usr/bin/env bash
# Sets up, then runs the linters, the type checker and the tests.
#
#   tools/test.sh                    the default tests, about 3 minutes on 2 cores
#   tools/test.sh --slow             the slow tests alone, as long
#   tools/test.sh PYTEST_ARGUMENT... pytest alone, with these arguments
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools/setup.sh

# A process per core, up to 4, each on one thread: small tensors gain nothing from more.
in_parallel() {
    local cores
    cores=$(nproc)
    OMP_NUM_THREADS=1 .venv/bin/python -m pytest --durations=10 -n $((cores < 4 ? cores : 4)) --dist worksteal "$@"
}

case "${1:-}" in
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" ;;
    --slow) in_parallel -m slow "${@:2}" ;;
    "")
        .venv/bin/ruff check .
        .venv/bin/ruff format --check .
        if .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            .venv/bin/mypy
        else
            echo "mypy is left out: NumPy's types for Python 3.10 cannot be checked strictly" >&2
        fi
        in_parallel
        ;;
    *) .venv/bin/python -m pytest "$@" ;;
esac
