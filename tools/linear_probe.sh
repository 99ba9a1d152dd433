#!/usr/bin/env bash
# Trains a linear classifier on each layer of a frozen backbone.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run transfer linear-probe "$@"
