#!/usr/bin/env bash
# Pretrains a backbone from unlabeled photos.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run pretext train "$@"
