#!/usr/bin/env bash
# Runs a grid of backbones, stages and seeds, goes on where it was interrupted, and reports it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run transfer compare "$@"
