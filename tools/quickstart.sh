#!/usr/bin/env bash
# The whole story in one command, at most 7 minutes on 2 cores after the set-up: renders a part of the toy data, pretrains
# AlexNet by colorization, scores it and an untrained AlexNet by four transfer stages, and makes the table and
# the page. Started again it goes on where it stopped: finished runs are not repeated. tools/quickstart.py has the steps.
#
#   tools/quickstart.sh            SEEDS="0 1 2" tools/quickstart.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
    "") ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "error: tools/quickstart.sh takes no arguments, received: $*" >&2; exit 2 ;;
esac

tools/setup.sh
exec .venv/bin/python tools/quickstart.py
