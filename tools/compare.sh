#!/usr/bin/env bash
# Runs a grid of backbones, colorizers, stages and seeds, and reports it; started again, it goes on where it stopped.
#
#   tools/compare.sh GRID [DATA] [OPTION ...]    tools/compare.sh small --jobs 2
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run transfer compare "$@"
