#!/usr/bin/env bash
# Makes .venv in the project's root and installs the project with everything it needs, in the versions that
# constraints.txt pins. Does nothing, in a fraction of a second, when nothing changed since the last time.
#
#   tools/setup.sh            PYTHON=python3.12 tools/setup.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
    "") ;;
    -h | --help) sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "error: tools/setup.sh takes no arguments, received: $*" >&2; exit 2 ;;
esac

PYTHON=${PYTHON:-python3}
command -v "$PYTHON" >/dev/null || { echo "error: no $PYTHON on the PATH; name a Python >= 3.10: PYTHON=... tools/setup.sh" >&2; exit 2; }
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    { echo "error: $("$PYTHON" --version) is too old; name a Python >= 3.10: PYTHON=... tools/setup.sh" >&2; exit 2; }

stamp=.venv/installed
# The path counts too: a moved checkout must be installed again.
state=$({ pwd; cat pyproject.toml constraints.txt tools/setup.sh pretext/__init__.py; } | "$PYTHON" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
if [[ -f $stamp && $(<"$stamp") == "$state" && -x .venv/bin/python ]]; then
    exit 0
fi

echo "Setting up .venv (once; about a minute with a warm package cache)" >&2
rm -f "$stamp"
[[ -x .venv/bin/python ]] || "$PYTHON" -m venv --clear .venv
# uv resolves and installs the same packages as pip, several times faster and sharing files between environments.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
# Where Python may not write bytecode, as in many containers, each command would compile all that it imports.
.venv/bin/uv pip install --quiet ${PYTHONDONTWRITEBYTECODE:+--compile-bytecode} \
    --python .venv/bin/python --constraint constraints.txt --editable ".[dev]"
printf '%s\n' "$state" >"$stamp"
