#!/usr/bin/env bash
# Trains a linear classifier on each layer of a frozen backbone, and scores it.
#
#   tools/linear_probe.sh [LAYERS] [BACKBONE] [DATA] [key=value ...] [OPTION ...]    tools/linear_probe.sh all random:alexnet
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run transfer linear-probe "$@"
