#!/usr/bin/env bash
# Scores the colours that a colorizer gives photos, or those of photos that were coloured before.
#
#   tools/colorization.sh [MODEL|FOLDER] [--data PHOTOS] [key=value ...] [OPTION ...]    tools/colorization.sh gray
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run transfer colorization "$@"
