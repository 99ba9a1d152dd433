#!/usr/bin/env bash
# Serves a page, for this computer alone, on which photos are coloured by a trained colorizer.
#
#   tools/serve.sh [--model MODEL] [--port PORT] [OPTION ...]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run pretext serve "$@"
