#!/usr/bin/env bash
# Makes the tables, plots and the HTML page from all results.
#
#   tools/report.sh [field=value ...] [OPTION ...]    tools/report.sh stage=linear-probe
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run transfer report "$@"
