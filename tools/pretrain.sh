#!/usr/bin/env bash
# Pretrains a backbone from unlabeled photos.
#
#   tools/pretrain.sh [METHOD] [DATA] [key=value ...] [OPTION ...]    tools/pretrain.sh rotation toyworld
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run pretext train "$@"
