#!/usr/bin/env bash
# Makes the tables, plots and the HTML page from all results.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run transfer report "$@"
