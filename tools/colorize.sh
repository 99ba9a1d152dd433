#!/usr/bin/env bash
# Colours photos by a trained colorizer; started again, it goes on where it stopped.
#
#   tools/colorize.sh PHOTOS ... [OPTION ...]    tools/colorize.sh old-photos --out coloured
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run pretext colorize "$@"
